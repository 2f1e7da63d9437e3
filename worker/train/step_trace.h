#pragma once
// The trace of a few training steps, of all ranks in one file.

#include <cstdint>
#include <filesystem>
#include <vector>

#include "worker/telemetry/timeline.h"

namespace fr {

class Communicator;

inline constexpr const char* kTraceFile = "trace.json";  // of a run

class StepTrace {
 public:
  // Of `steps` steps (0: none); the file is `run_dir`/trace.json. `timeline` outlives this.
  StepTrace(Timeline& timeline, std::int64_t steps, std::filesystem::path run_dir);

  // Step number `step` of this start begins, from 0. The first three, in which memory is touched
  // for the first time, are left out. Collective.
  void StepBegins(std::int64_t step, Communicator& comm);

  // There will be no more steps: writes what there is, if it was not written. Collective. Throws
  // Error(kIo | kResourceExhausted).
  void Finish(Communicator& comm);

 private:
  Timeline& timeline_;
  std::int64_t steps_;
  std::filesystem::path run_dir_;
  bool tracing_ = false;
  std::int64_t origin_ns_ = 0;
};

}  // namespace fr
