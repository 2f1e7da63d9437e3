#pragma once
// What the Kubernetes launcher asks of an API server, over HTTPS. Every request has a connection of
// its own and reads token and certificate authority anew: both rotate while the coordinator runs.

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace fr {

struct KubernetesAccess {
  std::string url;  // https://HOST:PORT
  std::string token_file;
  std::string ca_file;  // PEM; no other authority is trusted
  std::int64_t connect_timeout_ms = 3'000;
  std::int64_t answer_timeout_ms = 10'000;  // for the whole answer
  std::size_t max_answer_bytes = std::size_t{32} << 20;
};

struct ApiAnswer {
  int status = 0;       // HTTP's; 0: there is no answer, and it cannot be told what became of it
  bool sent = false;    // the server may have received the request, and carried it out
  nlohmann::json body;  // an object, or null
  std::string problem;  // empty for 2xx; else what is wrong and what to do, for people
  std::int64_t retry_after_ms = 0;  // what the server asks for
  bool ok() const { return status >= 200 && status < 300; }
  // As with 429 and 5xx and no answer: the same request may succeed later.
  bool try_later() const { return status == 0 || status == 429 || status >= 500; }
};

// What `status` with this body means for who asked for `verb` ("create mpijobs"): what is wrong and
// what to do. `body`: the server's Status object, or null. Pure.
std::string ApiProblem(int status, const nlohmann::json& body, const std::string& verb);

// A query's value, percent-encoded.
std::string QueryValue(const std::string& text);

class KubernetesApi {
 public:
  explicit KubernetesApi(KubernetesAccess access);

  // `path` begins with / and may hold a query; `verb` is what is done, for problems ("list pods").
  // They throw nothing: what goes wrong is in the answer.
  ApiAnswer Get(const std::string& path, const std::string& verb);
  ApiAnswer Post(const std::string& path, const nlohmann::json& body, const std::string& verb);
  ApiAnswer Delete(const std::string& path, const nlohmann::json& options, const std::string& verb);

  // All objects of the collection at `path` that `selector` (of labels) picks, page by page, in
  // `items`, which is empty unless the answer, the last page's, is ok.
  ApiAnswer List(const std::string& path, const std::string& selector, const std::string& verb,
                 std::vector<nlohmann::json>* items);

 private:
  ApiAnswer Send(const std::string& method, const std::string& path, const std::string& body,
                 const std::string& verb);
  ApiAnswer ListOnce(const std::string& path, const std::string& selector, const std::string& verb,
                     std::vector<nlohmann::json>* items);

  KubernetesAccess access_;
  std::int64_t not_before_ms_ = 0;  // of the steady clock: the server asked to be left alone
};

}  // namespace fr
