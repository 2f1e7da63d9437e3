#include "worker/train/step_trace.h"

#include <string>
#include <utility>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/logging.h"
#include "worker/comm/communicator.h"

namespace fr {
namespace {

constexpr std::int64_t kWarmUpSteps = 3;

}  // namespace

StepTrace::StepTrace(Timeline& timeline, std::int64_t steps, std::filesystem::path run_dir)
    : timeline_(timeline), steps_(steps), run_dir_(std::move(run_dir)) {}

void StepTrace::StepBegins(std::int64_t step, Communicator& comm) {
  if (steps_ == 0) return;
  if (step == kWarmUpSteps) {
    comm.Barrier();  // all leave it at about the same time: their clocks need not agree
    origin_ns_ = SteadyNanos();
    timeline_.StartTrace();
    tracing_ = true;
  }
  if (step == kWarmUpSteps + steps_) Finish(comm);
}

void StepTrace::Finish(Communicator& comm) {
  if (!std::exchange(tracing_, false)) return;
  const std::vector<std::string> traces =
      comm.GatherBytes(TraceEvents(timeline_.StopTrace(), comm.rank(), origin_ns_), 0);
  if (comm.rank() != 0) return;
  const std::filesystem::path path = run_dir_ / kTraceFile;
  MakeDirectories(run_dir_);
  WriteFileAtomically(path, JoinTraces(traces));
  spdlog::info("trace of {} steps: {} (open it at ui.perfetto.dev)", steps_, path.string());
}

}  // namespace fr
