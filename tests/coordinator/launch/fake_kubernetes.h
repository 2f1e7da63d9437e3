#pragma once
// An API server in this process, with a certificate of its own: it answers what a test tells it to.

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <httplib.h>

#include <nlohmann/json.hpp>

#include "common/base/temporary_directory.h"
#include "coordinator/launch/kubernetes_api.h"

namespace fr {

class FakeKubernetes {
 public:
  struct Request {
    std::string method;
    std::string path;
    std::string token;
    httplib::Params query;
    nlohmann::json body;
  };
  struct Reply {
    int status = 200;
    std::string body;
    httplib::Headers headers;
  };
  using Handler = std::function<Reply(const Request&)>;

  FakeKubernetes() {
    MakeCertificate("server");
    server_ = std::make_unique<httplib::SSLServer>(File("server.crt").c_str(),
                                                   File("server.key").c_str());
    const auto answer = [this](const httplib::Request& request, httplib::Response& response) {
      Answer(request, response);
    };
    server_->Get(".*", answer);
    server_->Post(".*", answer);
    server_->Delete(".*", answer);
    port_ = server_->bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_->listen_after_bind(); });
    while (!server_->is_running()) std::this_thread::yield();
    WriteToken("first");
  }
  ~FakeKubernetes() {
    server_->stop();
    thread_.join();
  }

  void Handle(Handler handler) {
    const std::lock_guard lock(mutex_);
    handler_ = std::move(handler);
  }
  std::vector<Request> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  void WriteToken(const std::string& token) { std::ofstream(File("token")) << token << "\n"; }
  void MakeCertificate(const std::string& name) {
    const std::string command =
        "cd '" + directory_.path().string() + "' && openssl req -x509 -newkey ec -pkeyopt " +
        "ec_paramgen_curve:prime256v1 -nodes -keyout " + name + ".key -out " + name +
        ".crt -days 2 -subj /CN=fake -addext subjectAltName=IP:127.0.0.1 2>/dev/null";
    if (std::system(command.c_str()) != 0) throw Error(ErrorCode::kIo, "openssl failed");
  }
  std::string File(const std::string& name) const { return (directory_.path() / name).string(); }
  std::string url() const { return "https://127.0.0.1:" + std::to_string(port_); }
  KubernetesAccess access() const {
    KubernetesAccess access;
    access.url = url();
    access.token_file = File("token");
    access.ca_file = File("server.crt");
    return access;
  }

 private:
  void Answer(const httplib::Request& request, httplib::Response& response) {
    const std::lock_guard lock(mutex_);
    requests_.push_back({request.method, request.path, request.get_header_value("Authorization"),
                         request.params,
                         nlohmann::json::parse(request.body, nullptr, /*allow_exceptions=*/false)});
    const Reply reply = handler_(requests_.back());
    response.status = reply.status;
    response.headers = reply.headers;
    response.set_content(reply.body, "application/json");
  }

  TemporaryDirectory directory_;
  std::mutex mutex_;
  Handler handler_ = [](const Request&) { return Reply{200, "{}", {}}; };
  std::vector<Request> requests_;
  std::unique_ptr<httplib::SSLServer> server_;
  int port_ = 0;
  std::thread thread_;
};

}  // namespace fr
