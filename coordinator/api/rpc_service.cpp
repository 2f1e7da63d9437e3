#include "coordinator/api/rpc_service.h"

#include <string>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/version.h"
#include "coordinator/api/request_counts.h"
#include "coordinator/coordinator.h"

namespace fr {
namespace {

Reply Dispatch(Coordinator& coordinator, const Request& request) {
  Reply reply;
  switch (request.body_case()) {
    case Request::kPing:
      *reply.mutable_ping() = coordinator.Ping();
      return reply;
    case Request::kSubmitJob:
      *reply.mutable_submit_job() = coordinator.Submit(request.submit_job());
      return reply;
    case Request::kListJobs:
      *reply.mutable_list_jobs() = coordinator.List(request.list_jobs());
      return reply;
    case Request::kGetJob:
      *reply.mutable_get_job() = coordinator.Get(request.get_job());
      return reply;
    case Request::kCancelJob:
      *reply.mutable_cancel_job() = coordinator.Cancel(request.cancel_job());
      return reply;
    case Request::kGetMetrics:
      *reply.mutable_get_metrics() = coordinator.GetMetrics(request.get_metrics());
      return reply;
    case Request::kGetLogs:
      *reply.mutable_get_logs() = coordinator.GetLogs(request.get_logs());
      return reply;
    case Request::kListCheckpoints:
      *reply.mutable_list_checkpoints() = coordinator.ListCheckpoints(request.list_checkpoints());
      return reply;
    case Request::kGetShards:
      *reply.mutable_get_shards() = coordinator.GetShards(request.get_shards());
      return reply;
    case Request::kListNodes:
      *reply.mutable_list_nodes() = coordinator.ListNodes(request.list_nodes());
      return reply;
    case Request::kPinCheckpoint:
      *reply.mutable_pin_checkpoint() = coordinator.PinCheckpoint(request.pin_checkpoint());
      return reply;
    case Request::kPauseJob:
      *reply.mutable_pause_job() = coordinator.Pause(request.pause_job());
      return reply;
    case Request::kResumeJob:
      *reply.mutable_resume_job() = coordinator.Resume(request.resume_job());
      return reply;
    case Request::kDrainNode:
      *reply.mutable_drain_node() = coordinator.DrainNode(request.drain_node());
      return reply;
    case Request::kUndrainNode:
      *reply.mutable_undrain_node() = coordinator.UndrainNode(request.undrain_node());
      return reply;
    case Request::kListUsers:
      *reply.mutable_list_users() = coordinator.ListUsers(request.list_users());
      return reply;
    case Request::kGetAssignment:
      *reply.mutable_get_assignment() = coordinator.GetAssignment(request.get_assignment());
      return reply;
    case Request::kRequestShardPlan:
      *reply.mutable_request_shard_plan() =
          coordinator.RequestShardPlan(request.request_shard_plan());
      return reply;
    case Request::kWorkerReport:
      *reply.mutable_worker_report() = coordinator.WorkerReport(request.worker_report());
      return reply;
    case Request::BODY_NOT_SET:
      break;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("a request that this coordinator (version {}) does not know; are command "
                          "and coordinator of the same version?",
                          kVersion));
}

std::string MethodName(const Request& request) {
  if (request.body_case() == Request::BODY_NOT_SET) return "unknown";
  return Request::descriptor()->FindFieldByNumber(request.body_case())->name();
}

}  // namespace

Reply Answer(Coordinator& coordinator, const Request& request, RequestCounts* counts) {
  const std::string method = MethodName(request);
  try {
    Reply reply = Dispatch(coordinator, request);
    counts->Add(method, "OK");
    return reply;
  } catch (const Error& error) {
    counts->Add(method, ErrorCodeName(error.code()));
    throw;
  } catch (...) {
    counts->Add(method, ErrorCodeName(ErrorCode::kInternal));
    throw;
  }
}

}  // namespace fr
