#include "coordinator/cli/watch.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <optional>

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/cli/text.h"
#include "coordinator/cli/job_client.h"
#include "coordinator/jobs/job_state.h"

namespace fr {
namespace {

constexpr int kPollMs = 1000;
constexpr std::int64_t kPlainLineMs = 5000;  // between two lines when nobody sees them overwritten
constexpr int kInterruptedExitCode = 130;    // as shells report SIGINT

volatile std::sig_atomic_t interrupted = 0;

void OnInterrupt(int /*signal*/) { interrupted = 1; }

// Ctrl-C ends the watching, not the process, while this lives.
class InterruptGuard {
 public:
  InterruptGuard() {
    interrupted = 0;
    struct sigaction action {};
    action.sa_handler = OnInterrupt;
    sigaction(SIGINT, &action, &previous_);
  }
  ~InterruptGuard() { sigaction(SIGINT, &previous_, nullptr); }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  struct sigaction previous_ {};
};

// The line of progress on standard error.
class StatusLine {
 public:
  explicit StatusLine(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}
  ~StatusLine() { Clear(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  // `urgent`: a change of state, worth a line of its own at once.
  void Show(const std::string& text, bool urgent) {
    if (quiet_ || text == shown_) return;
    if (terminal_) {
      fmt::print(stderr, "\r\x1b[K{}", Shortened(text));
      drawn_ = true;
    } else {
      if (!urgent && SteadyMillis() - shown_ms_ < kPlainLineMs) return;
      fmt::print(stderr, "{}\n", text);
    }
    std::fflush(stderr);
    shown_ = text;
    shown_ms_ = SteadyMillis();
  }

  // A line that stays.
  void Say(const std::string& text) {
    Clear();
    fmt::print(stderr, "{}\n", text);
  }

  void Clear() {
    if (drawn_) fmt::print(stderr, "\r\x1b[K");
    drawn_ = false;
    shown_.clear();
  }

 private:
  // A line that wraps could not be overwritten.
  static std::string Shortened(const std::string& text) {
    winsize size{};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return text;
    return text.substr(0, std::min<std::size_t>(text.size(), size.ws_col - 1));
  }

  bool quiet_;
  bool terminal_;
  bool drawn_ = false;
  std::string shown_;
  std::int64_t shown_ms_ = 0;
};

std::string LowerCaseName(JobState state) {
  std::string name = JobState_Name(state);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

std::string AccuracyText(const std::vector<ValidationResult>& latest) {
  std::string text;
  for (const ValidationResult& result : latest) {
    text += fmt::format("  {} {}", result.set(), PercentText(result.accuracy()));
  }
  return text;
}

struct Sight {
  JobRecord job;
  std::vector<ValidationResult> latest;
};

// Nothing when the coordinator, which has answered before, does not answer now.
std::optional<Sight> Look(JobClient& client, const std::string& job_id) {
  try {
    Sight sight;
    sight.job = client.Job(job_id).job();
    sight.latest = client.LatestAccuraciesOf(sight.job);
    return sight;
  } catch (const Error& error) {
    const bool away = error.code() == ErrorCode::kUnavailable && client.reached();
    if (away || interrupted != 0) return std::nullopt;
    throw;
  }
}

}  // namespace

std::string ProgressText(const JobRecord& job, const std::vector<ValidationResult>& latest) {
  std::string text = fmt::format("{} {}", job.id(), LowerCaseName(job.state()));
  const Progress& progress = job.progress();
  if (job.state() != RUNNING || !job.has_progress()) {
    return job.reason().empty() ? text : fmt::format("{}: {}", text, OneLine(job.reason()));
  }
  if (progress.total_steps() > 0) {
    text += fmt::format(
        "  {}/{} ({:.1f} %)", CountText(progress.step()), CountText(progress.total_steps()),
        100.0 * static_cast<double>(progress.step()) / static_cast<double>(progress.total_steps()));
  }
  if (progress.has_loss()) text += fmt::format("  loss {}", DecimalText(progress.loss()));
  if (progress.has_images_per_second()) {
    text += fmt::format("  {} images/s", RateText(progress.images_per_second()));
  }
  if (progress.has_seconds_left()) {
    text += fmt::format("  {} left", DurationText(progress.seconds_left()));
  }
  return text + AccuracyText(latest);
}

std::string EndText(const JobRecord& job, const std::vector<ValidationResult>& latest) {
  std::string text = fmt::format("{} {}", job.id(), LowerCaseName(job.state()));
  if (job.has_started_ms() && job.ended_ms() > job.started_ms()) {
    text += fmt::format(
        " after {}", DurationText(static_cast<double>(job.ended_ms() - job.started_ms()) / 1000));
  }
  if (!job.reason().empty()) text += fmt::format(": {}", OneLine(job.reason()));
  return job.state() == COMPLETED ? text + AccuracyText(latest) : text;
}

int WatchJob(JobClient& client, const std::string& job_id, WatchOutput output) {
  const InterruptGuard guard;
  StatusLine line(output == WatchOutput::kQuiet);
  bool answers = true;
  std::optional<JobState> state;
  while (interrupted == 0) {
    const std::optional<Sight> sight = Look(client, job_id);
    if (interrupted != 0) break;
    if (!sight) {
      if (answers) line.Say("coordinator unreachable, retrying; the job goes on without it");
      answers = false;
    } else {
      if (!answers) line.Say("coordinator reachable again");
      answers = true;
      if (IsEnded(sight->job.state())) {
        const bool completed = sight->job.state() == COMPLETED;
        if (!completed || output == WatchOutput::kProgress) {
          line.Say(EndText(sight->job, sight->latest));
        }
        return completed ? 0 : 1;
      }
      line.Show(ProgressText(sight->job, sight->latest), state != sight->job.state());
      state = sight->job.state();
    }
    poll(nullptr, 0, kPollMs);  // unlike a sleep of the library's, ends at once on Ctrl-C
  }
  line.Clear();
  fmt::print(stderr, "\n{} goes on. Watch it: frctl watch {}   Cancel it: frctl cancel {}\n",
             job_id, job_id, job_id);
  return kInterruptedExitCode;
}

}  // namespace fr
