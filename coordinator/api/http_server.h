#pragma once
// HTTP: the JSON API under /api/v1, the dashboard at /, Prometheus' page at /metrics. Read-only:
// whatever changes a job goes through the RPC. docs/http-api.md describes it for people,
// /api/v1/openapi.json for programs.

#include <memory>
#include <string>

namespace fr {

class Coordinator;
class RequestCounts;

class HttpServer {
 public:
  // Listens on `address`, "HOST:PORT" ("127.0.0.1:7080", "[::1]:7080"); port 0 picks a free one.
  // Its threads start here and call only the thread-safe methods of `coordinator`, which must
  // outlive this object, as must `rpc_requests`, which /metrics shows. Throws
  // Error(kInvalidArgument) for a malformed address, Error(kUnavailable) when the port is taken or
  // the host is none of this machine's.
  HttpServer(Coordinator& coordinator, const std::string& address,
             const RequestCounts& rpc_requests);
  // Ends the requests under way and joins the threads.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // "HOST:PORT" with the port in use.
  std::string address() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fr
