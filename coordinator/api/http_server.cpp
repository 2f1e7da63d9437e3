#include "coordinator/api/http_server.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <httplib.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>

#include "common/base/checksum.h"
#include "common/base/error.h"
#include "common/base/logging.h"
#include "coordinator/api/json.h"
#include "coordinator/api/prometheus.h"
#include "coordinator/coordinator.h"
#include "coordinator/dashboard/assets.h"
#include "coordinator/jobs/job_state.h"

namespace fr {
namespace {

using nlohmann::json;

constexpr const char* kJsonType = "application/json";
// Every request has a thread while it runs; none is kept for an idle connection.
constexpr std::size_t kThreads = 16;
constexpr std::size_t kMaxBodyBytes = 64 << 10;  // no request of ours has a body
constexpr std::int64_t kDefaultJobs = 100;
constexpr std::int64_t kMaxJobs = 1000;
constexpr std::int64_t kMinLogBytes = 16;  // one character at least
constexpr std::int64_t kMaxLogBytes = 4 << 20;
constexpr std::int64_t kMaxAttempt = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMaxInteger = std::int64_t{1} << 53;  // what JSON's numbers keep whole

// Everything comes from this server, nothing is written into the page, nobody frames it.
constexpr const char* kContentSecurityPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

int StatusFor(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return 400;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kFailedPrecondition:
      return 409;
    case ErrorCode::kUnavailable:
    case ErrorCode::kResourceExhausted:
      return 503;
    case ErrorCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

void AnswerJson(httplib::Response& response, const json& value) {
  response.set_header("Cache-Control", "no-store");
  response.set_content(DumpJson(value), kJsonType);
}

void AnswerError(httplib::Response& response, int status, const char* code,
                 const std::string& message) {
  response.status = status;
  AnswerJson(response, {{"error", {{"code", code}, {"message", message}}}});
}

// Runs `answer`; what it throws becomes the error's JSON.
void Guarded(const httplib::Request& request, httplib::Response& response,
             const std::function<void()>& answer) {
  try {
    answer();
  } catch (const Error& error) {
    if (StatusFor(error.code()) == 500) spdlog::error("{}: {}", request.path, error.what());
    AnswerError(response, StatusFor(error.code()), ErrorCodeName(error.code()), error.what());
  } catch (const std::exception& error) {
    spdlog::error("{}: {}", request.path, error.what());
    AnswerError(response, 500, ErrorCodeName(ErrorCode::kInternal),
                "internal error; the coordinator's log says more");
  }
}

// An integer parameter of the query. Throws Error(kInvalidArgument) unless it is one in [min, max].
std::optional<std::int64_t> IntegerParameter(const httplib::Request& request, const char* name,
                                             std::int64_t min, std::int64_t max) {
  if (!request.has_param(name)) return std::nullopt;
  const std::string text = request.get_param_value(name);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < min || value > max) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("parameter {}: \"{}\" is not an integer from {} to {}", name, text, min, max));
  }
  return value;
}

std::vector<std::string> SplitNames(const std::string& text) {
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) names.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

// Regular expression of the path at which an embedded file is served.
std::string PatternOf(const std::string& file) {
  if (file == "/index.html") return "/";
  const std::string path = file == "/openapi.json" ? "/api/v1/openapi.json" : file;
  std::string pattern;
  for (const char c : path) {
    if (c == '.') pattern += '\\';
    pattern += c;
  }
  return pattern;
}

struct HostPort {
  std::string host;
  int port = 0;
};

HostPort ParseAddress(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  HostPort parsed;
  const char* end = address.data() + address.size();
  std::from_chars_result result{end, std::errc::invalid_argument};
  if (colon != std::string::npos) {
    parsed.host = address.substr(0, colon);
    result = std::from_chars(address.data() + colon + 1, end, parsed.port);
  }
  if (parsed.host.size() > 2 && parsed.host.front() == '[' && parsed.host.back() == ']') {
    parsed.host = parsed.host.substr(1, parsed.host.size() - 2);
  }
  if (result.ec != std::errc() || result.ptr != end || parsed.host.empty() || parsed.port < 0 ||
      parsed.port > 65535) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("http: \"{}\" is no HOST:PORT; for example 127.0.0.1:7080", address));
  }
  return parsed;
}

const char* ContentType(std::string_view path) {
  const std::string_view extension = path.substr(path.rfind('.') + 1);
  if (extension == "html") return "text/html; charset=utf-8";
  if (extension == "css") return "text/css; charset=utf-8";
  if (extension == "js") return "text/javascript; charset=utf-8";
  if (extension == "svg") return "image/svg+xml";
  return kJsonType;
}

}  // namespace

struct HttpServer::Impl {
  Impl(Coordinator& the_coordinator, const RequestCounts& counts)
      : coordinator(the_coordinator), rpc_requests(counts) {}

  // A route of the API: `pattern` is a regular expression of the whole path, whose first group is
  // the job's id.
  using Answer = json (Impl::*)(const httplib::Request& request);
  void Route(const std::string& pattern, Answer answer) {
    server.Get(
        pattern, [this, answer](const httplib::Request& request, httplib::Response& response) {
          Guarded(request, response, [&] { AnswerJson(response, (this->*answer)(request)); });
        });
  }

  void AddRoutes();
  void AddPrometheus();
  void AddFiles();
  void RefuseTheRest();
  void Listen(const std::string& address);

  json Health(const httplib::Request& request);
  json Ready(const httplib::Request& request);
  json Jobs(const httplib::Request& request);
  json Job(const httplib::Request& request);
  json Metrics(const httplib::Request& request);
  json Logs(const httplib::Request& request);
  json Checkpoints(const httplib::Request& request);
  json Shards(const httplib::Request& request);
  json Nodes(const httplib::Request& request);
  json Users(const httplib::Request& request);
  std::vector<ValidationResult> Latest(const JobRecord& job);

  Coordinator& coordinator;
  const RequestCounts& rpc_requests;
  RequestCounts http_requests;
  httplib::Server server;
  std::thread thread;
  std::string host;
  int port = 0;
};

void HttpServer::Impl::AddRoutes() {
  Route("/healthz", &Impl::Health);
  Route("/readyz", &Impl::Ready);
  Route("/api/v1/jobs", &Impl::Jobs);
  Route("/api/v1/nodes", &Impl::Nodes);
  Route("/api/v1/users", &Impl::Users);
  const std::string job = "/api/v1/jobs/([^/]+)";
  Route(job, &Impl::Job);
  Route(job + "/metrics", &Impl::Metrics);
  Route(job + "/logs", &Impl::Logs);
  Route(job + "/checkpoints", &Impl::Checkpoints);
  Route(job + "/shards", &Impl::Shards);
}

void HttpServer::Impl::AddPrometheus() {
  server.Get("/metrics", [this](const httplib::Request& request, httplib::Response& response) {
    Guarded(request, response, [&] {
      response.set_header("Cache-Control", "no-store");
      response.set_content(PrometheusText(coordinator.TakeSnapshot(), rpc_requests, http_requests),
                           kPrometheusType);
    });
  });
  server.set_logger([this](const httplib::Request& request, const httplib::Response& response) {
    // The method is the client's word, of which there may be any number.
    const bool reads = request.method == "GET" || request.method == "HEAD";
    http_requests.Add(reads ? request.method : "other", std::to_string(response.status));
  });
}

void HttpServer::Impl::AddFiles() {
  for (const auto& [path, bytes] : DashboardFiles()) {
    const std::string tag = fmt::format("\"{:016x}\"", ChecksumOf(bytes));
    const auto serve = [content = bytes, tag, type = ContentType(path)](
                           const httplib::Request& request, httplib::Response& response) {
      response.set_header("Cache-Control", "no-cache");  // kept, but asked for each time
      response.set_header("ETag", tag);
      if (request.get_header_value("If-None-Match") == tag) {
        response.status = 304;
      } else {
        response.set_content(content.data(), content.size(), type);
      }
    };
    server.Get(PatternOf(path), serve);
  }
}

void HttpServer::Impl::RefuseTheRest() {
  const auto refuse = [](const httplib::Request& request, httplib::Response& response) {
    response.set_header("Allow", "GET, HEAD");
    AnswerError(response, 405, "INVALID_ARGUMENT",
                fmt::format("{} is not possible here: this API is read-only; fr-submit and frctl "
                            "change jobs",
                            request.method));
  };
  server.Post(".*", refuse);
  server.Put(".*", refuse);
  server.Patch(".*", refuse);
  server.Delete(".*", refuse);
  server.Options(".*", refuse);
  // Whatever the library itself refuses: unknown paths, malformed requests.
  server.set_error_handler([](const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty() || response.status == 304) return;
    if (response.status == 404) {
      AnswerError(response, 404, ErrorCodeName(ErrorCode::kNotFound),
                  fmt::format("there is nothing at {}; /api/v1/openapi.json names what there is",
                              request.path));
    } else {
      AnswerError(response, response.status, ErrorCodeName(ErrorCode::kInvalidArgument),
                  "the request is malformed or too large");
    }
  });
}

void HttpServer::Impl::Listen(const std::string& address) {
  const HostPort wanted = ParseAddress(address);
  host = wanted.host;
  // The library's own choice, SO_REUSEPORT, would let two coordinators share a port.
  server.set_socket_options([](int socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.set_keep_alive_max_count(1);
  server.set_payload_max_length(kMaxBodyBytes);
  server.set_default_headers({{"X-Content-Type-Options", "nosniff"},
                              {"Content-Security-Policy", kContentSecurityPolicy},
                              {"Referrer-Policy", "no-referrer"}});
  if (wanted.port == 0) {
    port = server.bind_to_any_port(host);
  } else {
    port = server.bind_to_port(host, wanted.port) ? wanted.port : -1;
  }
  if (port < 0) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("http: cannot listen on {}: the port is taken or the host is not this "
                            "machine's; choose another in coordinator.yaml",
                            address));
  }
  thread = std::thread([this] { server.listen_after_bind(); });
  // stop() is lost on a server that does not run yet.
  while (!server.is_running()) std::this_thread::yield();
}

json HttpServer::Impl::Health(const httplib::Request& /*request*/) { return {{"status", "ok"}}; }

// Answers only when the database does.
json HttpServer::Impl::Ready(const httplib::Request& /*request*/) {
  coordinator.List({});
  return {{"status", "ready"}};
}

std::vector<ValidationResult> HttpServer::Impl::Latest(const JobRecord& job) {
  // Without names a request asks for every metric.
  if (job.attempt() == 0 || job.spec().data().validation().empty()) return {};
  GetMetricsRequest request;
  request.set_job_id(job.id());
  for (const std::string& name : AccuracyMetricNames(job.spec())) request.add_names(name);
  return LatestAccuracies(job.spec(), coordinator.GetMetrics(request));
}

json HttpServer::Impl::Jobs(const httplib::Request& request) {
  ListJobsRequest wanted;
  wanted.set_limit(static_cast<std::int32_t>(
      IntegerParameter(request, "limit", 1, kMaxJobs).value_or(kDefaultJobs)));
  wanted.set_owner(request.get_param_value("user"));
  for (const std::string& name : SplitNames(request.get_param_value("state"))) {
    wanted.add_states(ParseJobState(name));
  }
  if (const auto before = IntegerParameter(request, "before", 1, kMaxInteger)) {
    wanted.set_before(*before);
  }
  const ListJobsReply reply = coordinator.List(wanted);
  std::vector<std::vector<ValidationResult>> latest;
  latest.reserve(static_cast<std::size_t>(reply.jobs_size()));
  for (const JobRecord& job : reply.jobs()) latest.push_back(Latest(job));
  return JobsJson(reply, latest);
}

json HttpServer::Impl::Job(const httplib::Request& request) {
  GetJobRequest wanted;
  wanted.set_job_id(request.matches[1]);
  const GetJobReply reply = coordinator.Get(wanted);
  return JobJson(reply.job(), {reply.transitions().begin(), reply.transitions().end()},
                 Latest(reply.job()));
}

json HttpServer::Impl::Metrics(const httplib::Request& request) {
  GetMetricsRequest wanted;
  wanted.set_job_id(request.matches[1]);
  for (std::string& name : SplitNames(request.get_param_value("names"))) {
    wanted.add_names(std::move(name));
  }
  wanted.set_after_step(IntegerParameter(request, "after_step", -1, kMaxInteger).value_or(-1));
  return MetricsJson(coordinator.GetMetrics(wanted));
}

json HttpServer::Impl::Logs(const httplib::Request& request) {
  GetLogsRequest wanted;
  wanted.set_job_id(request.matches[1]);
  if (const auto attempt = IntegerParameter(request, "attempt", 1, kMaxAttempt)) {
    wanted.set_attempt(static_cast<std::int32_t>(*attempt));
  }
  wanted.set_offset(IntegerParameter(request, "offset", -kMaxInteger, kMaxInteger).value_or(0));
  if (const auto bytes = IntegerParameter(request, "max_bytes", kMinLogBytes, kMaxLogBytes)) {
    wanted.set_max_bytes(*bytes);
  }
  return LogsJson(coordinator.GetLogs(wanted));
}

json HttpServer::Impl::Checkpoints(const httplib::Request& request) {
  ListCheckpointsRequest wanted;
  wanted.set_job_id(request.matches[1]);
  return CheckpointsJson(coordinator.ListCheckpoints(wanted));
}

json HttpServer::Impl::Shards(const httplib::Request& request) {
  GetShardsRequest wanted;
  wanted.set_job_id(request.matches[1]);
  return ShardsJson(coordinator.GetShards(wanted));
}

json HttpServer::Impl::Nodes(const httplib::Request& /*request*/) {
  return NodesJson(coordinator.ListNodes({}));
}

json HttpServer::Impl::Users(const httplib::Request& /*request*/) {
  return UsersJson(coordinator.ListUsers({}));
}

HttpServer::HttpServer(Coordinator& coordinator, const std::string& address,
                       const RequestCounts& rpc_requests)
    : impl_(std::make_unique<Impl>(coordinator, rpc_requests)) {
  impl_->AddRoutes();
  impl_->AddPrometheus();
  impl_->AddFiles();
  impl_->RefuseTheRest();
  impl_->Listen(address);
}

HttpServer::~HttpServer() {
  impl_->server.stop();
  impl_->thread.join();
}

std::string HttpServer::address() const {
  const bool is_ipv6 = impl_->host.find(':') != std::string::npos;
  return fmt::format(fmt::runtime(is_ipv6 ? "[{}]:{}" : "{}:{}"), impl_->host, impl_->port);
}

}  // namespace fr
