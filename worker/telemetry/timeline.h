#pragma once
// Where a training step's time goes: sums by phase for the curves, and single spans for a trace
// that ui.perfetto.dev shows.

#include <array>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace fr {

// What the training thread does; each moment belongs to one phase. Waiting for other ranks counts
// as kCommunication, wherever in the step it happens.
enum class Phase : std::uint8_t {
  kData,  // waiting for the loader
  kForward,
  kHead,
  kBackward,
  kCommunication,
  kOptimizer,
  kOther,
};
inline constexpr std::size_t kNumPhases = 7;

const char* PhaseName(Phase phase);  // "data", "forward", ...

using PhaseTimes = std::array<double, kNumPhases>;  // milliseconds, by phase

// A stretch of time of one rank, on the clock of SteadyNanos.
struct Span {
  std::string name;
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
  std::int64_t bytes = 0;   // of a collective; 0: not one
  bool background = false;  // on the communication thread, beside the training thread's phases
};

// Measured phases come from the training thread; collectives from any.
class Timeline {
 public:
  Timeline();

  // The training thread's present phase, until the next call.
  void Enter(Phase phase);

  // A collective has ended. In the foreground its time is taken from the present phase and given
  // to kCommunication. Thread-safe.
  void AddCollective(const Span& span);

  // The times since the last call; their sum is what has passed.
  PhaseTimes TakeTimes();

  // From now on spans are kept as well.
  void StartTrace();
  // No longer; returns what was kept.
  std::vector<Span> StopTrace();

 private:
  void EndPhase(std::int64_t now_ns);

  std::mutex mutex_;
  Phase phase_ = Phase::kOther;
  std::int64_t phase_begin_ns_ = 0;
  std::int64_t communication_ns_ = 0;  // within the present phase
  PhaseTimes times_{};
  bool tracing_ = false;
  std::vector<Span> spans_;
};

// Chrome's trace event format (JSON): the events of one rank, as an array. One process a rank, with
// the training thread and the communication thread below it; times count from `origin_ns`.
std::string TraceEvents(const std::vector<Span>& spans, int rank, std::int64_t origin_ns);

// The arrays of all ranks as one trace.
std::string JoinTraces(const std::vector<std::string>& events);

}  // namespace fr
