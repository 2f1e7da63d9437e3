#include "coordinator/launch/kubernetes_api.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>
#include <httplib.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/quoted.h"
#include "common/base/trimmed.h"

namespace fr {
namespace {

using nlohmann::json;

// Pods are about 10 KB each: a page stays far below max_answer_bytes.
constexpr int kPageSize = 250;
constexpr int kMaxPages = 400;
constexpr std::int64_t kMaxRetryAfterMs = 60'000;

std::string Message(const json& body) {
  if (!body.is_object()) return "";
  const auto message = body.find("message");
  if (message == body.end() || !message->is_string()) return "";
  return ": " + message->get<std::string>();
}

// The header counts in seconds. A date, which HTTP allows and API servers do not send, is a second.
std::int64_t RetryAfterMs(const httplib::Response& response) {
  if (!response.has_header("Retry-After")) return 0;
  const std::int64_t seconds =
      std::strtoll(response.get_header_value("Retry-After").c_str(), nullptr, 10);
  return std::clamp<std::int64_t>(seconds * 1000, 1000, kMaxRetryAfterMs);
}

std::string TransportProblem(httplib::Error error, const KubernetesAccess& access) {
  switch (error) {
    case httplib::Error::Connection:
    case httplib::Error::ConnectionTimeout:
      return fmt::format("{} cannot be reached", access.url);
    case httplib::Error::SSLConnection:
      return fmt::format("{}: TLS could not be set up", access.url);
    case httplib::Error::SSLLoadingCerts:
      return fmt::format("{}: no certificate authority can be read there (kubernetes.ca_file)",
                         access.ca_file);
    case httplib::Error::SSLServerVerification:
      return fmt::format("{}: its certificate is not of the authority in {} (kubernetes.ca_file)",
                         access.url, access.ca_file);
    default:
      return fmt::format("{} did not answer in time, or broke off", access.url);
  }
}

// Before any of these the request had not left.
bool MayHaveBeenSent(httplib::Error error) {
  return error != httplib::Error::Connection && error != httplib::Error::ConnectionTimeout &&
         error != httplib::Error::SSLConnection && error != httplib::Error::SSLLoadingCerts &&
         error != httplib::Error::SSLServerVerification;
}

ApiAnswer NoAnswer(std::string problem, bool sent) {
  ApiAnswer answer;
  answer.problem = std::move(problem);
  answer.sent = sent;
  return answer;
}

std::string ReadToken(const std::string& path) {
  const std::string text = ReadFile(path);
  std::string token(Trimmed(text));
  // It goes into a header: a line end in it would make two.
  const auto printable = [](unsigned char c) { return c > ' ' && c < 0x7f; };
  if (token.empty() || !std::all_of(token.begin(), token.end(), printable)) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("{}: holds no token (kubernetes.token_file)", path));
  }
  return token;
}

// An answer as far as it has come.
struct Receiver {
  std::string bytes;
  bool too_long = false;
  bool too_slow = false;
};

ApiAnswer Read(const httplib::Response& response, const Receiver& received,
               const KubernetesAccess& access, const std::string& verb) {
  ApiAnswer answer;
  answer.sent = true;
  answer.status = response.status;
  answer.body = json::parse(received.bytes, nullptr, /*allow_exceptions=*/false);
  const bool is_object = answer.body.is_object();
  if (!is_object) answer.body = nullptr;
  if (!answer.ok()) {
    answer.problem = ApiProblem(answer.status, answer.body, verb);
    answer.retry_after_ms = RetryAfterMs(response);
  } else if (!is_object) {
    return NoAnswer(fmt::format("{} answers {} with what is no JSON object: {}; is it a Kubernetes "
                                "API server (kubernetes.api)?",
                                access.url, answer.status,
                                Quoted(std::string_view(received.bytes).substr(0, 60))),
                    true);
  }
  return answer;
}

std::string ContinueToken(const json& list) {
  const auto metadata = list.find("metadata");
  if (metadata == list.end() || !metadata->is_object()) return "";
  const auto token = metadata->find("continue");
  return token != metadata->end() && token->is_string() ? token->get<std::string>() : "";
}

}  // namespace

std::string ApiProblem(int status, const json& body, const std::string& verb) {
  const std::string message = Message(body);
  switch (status) {
    case 401:
      return "401: the API server does not take the token of kubernetes.token_file: is it of this "
             "cluster, and still valid?" +
             message;
    case 403:
      return fmt::format("403: the service account may not {}: apply k8s/base/rbac.yaml{}", verb,
                         message);
    case 404:
      return fmt::format(
          "404: cannot {}: is the MPI Operator installed (k8s/README.md), and does "
          "the namespace exist?{}",
          verb, message);
    case 400:
    case 422:
      return fmt::format(
          "{}: the API server finds the request wrong: is kubernetes.template_file "
          "right?{}",
          status, message);
    case 429:
      return "429: the API server asks to be left alone for a while" + message;
    default:
      break;
  }
  if (status >= 300 && status < 400) {
    return fmt::format(
        "{}: the API server redirects, which is not followed: set kubernetes.api to "
        "where it is",
        status);
  }
  return fmt::format("{}: the API server could not {}{}", status, verb, message);
}

std::string QueryValue(const std::string& text) {
  std::string encoded;
  for (const unsigned char c : text) {
    const bool plain = std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_' || c == '~';
    encoded += plain ? std::string(1, static_cast<char>(c)) : fmt::format("%{:02X}", c);
  }
  return encoded;
}

KubernetesApi::KubernetesApi(KubernetesAccess access) : access_(std::move(access)) {}

ApiAnswer KubernetesApi::Get(const std::string& path, const std::string& verb) {
  return Send("GET", path, "", verb);
}

ApiAnswer KubernetesApi::Post(const std::string& path, const json& body, const std::string& verb) {
  return Send("POST", path, body.dump(), verb);
}

ApiAnswer KubernetesApi::Delete(const std::string& path, const json& options,
                                const std::string& verb) {
  return Send("DELETE", path, options.dump(), verb);
}

ApiAnswer KubernetesApi::List(const std::string& path, const std::string& selector,
                              const std::string& verb, std::vector<json>* items) {
  ApiAnswer answer = ListOnce(path, selector, verb, items);
  // The place in the list was forgotten before all of it was read.
  if (answer.status == 410) answer = ListOnce(path, selector, verb, items);
  if (!answer.ok()) items->clear();
  return answer;
}

ApiAnswer KubernetesApi::ListOnce(const std::string& path, const std::string& selector,
                                  const std::string& verb, std::vector<json>* items) {
  items->clear();
  const std::string first =
      fmt::format("{}?labelSelector={}&limit={}", path, QueryValue(selector), kPageSize);
  std::string next = first;
  for (int page = 0; page < kMaxPages; ++page) {
    ApiAnswer answer = Get(next, verb);
    if (!answer.ok()) return answer;
    const auto found = answer.body.find("items");
    if (found == answer.body.end() || !found->is_array()) {
      return NoAnswer(access_.url + " answers with what is no list", true);
    }
    for (json& item : *found) items->push_back(std::move(item));
    const std::string token = ContinueToken(answer.body);
    if (token.empty()) return answer;
    next = first + "&continue=" + QueryValue(token);
  }
  return NoAnswer(fmt::format("{}: its list does not end after {} pages", access_.url, kMaxPages),
                  true);
}

ApiAnswer KubernetesApi::Send(const std::string& method, const std::string& path,
                              const std::string& body, const std::string& verb) {
  const std::int64_t start = SteadyMillis();
  if (start < not_before_ms_) {
    return NoAnswer("the API server asked to be left alone for a while", false);
  }
  httplib::Request request;
  request.method = method;
  request.path = path;
  request.body = body;
  try {
    request.headers = {{"Accept", "application/json"},
                       {"Authorization", "Bearer " + ReadToken(access_.token_file)}};
  } catch (const Error& error) {
    return NoAnswer(error.what(), false);
  }
  if (!body.empty()) request.headers.emplace("Content-Type", "application/json");
  Receiver received;
  request.content_receiver = [&](const char* data, std::size_t size, std::uint64_t /*offset*/,
                                 std::uint64_t /*total*/) {
    received.too_long = received.bytes.size() + size > access_.max_answer_bytes;
    received.too_slow = SteadyMillis() - start > access_.answer_timeout_ms;
    if (received.too_long || received.too_slow) return false;
    received.bytes.append(data, size);
    return true;
  };

  httplib::Client client(access_.url);
  if (!client.is_valid()) return NoAnswer(access_.url + ": no address", false);
  client.set_ca_cert_path(access_.ca_file);
  client.enable_server_certificate_verification(true);
  client.set_follow_location(false);
  client.set_connection_timeout(std::chrono::milliseconds(access_.connect_timeout_ms));
  client.set_read_timeout(std::chrono::milliseconds(access_.answer_timeout_ms));
  client.set_write_timeout(std::chrono::milliseconds(access_.answer_timeout_ms));
  const httplib::Result result = client.send(request);
  if (!result) {
    if (received.too_long) {
      return NoAnswer(
          fmt::format("{} answers with more than {} bytes", access_.url, access_.max_answer_bytes),
          true);
    }
    return NoAnswer(TransportProblem(result.error(), access_), MayHaveBeenSent(result.error()));
  }
  ApiAnswer answer = Read(*result, received, access_, verb);
  if (answer.retry_after_ms > 0) not_before_ms_ = SteadyMillis() + answer.retry_after_ms;
  return answer;
}

}  // namespace fr
