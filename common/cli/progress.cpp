#include "common/cli/progress.h"

#include <chrono>
#include <cstdio>
#include <memory>

#include <fmt/format.h>
#include <unistd.h>

#include "common/cli/text.h"

namespace fr {
namespace {

using Clock = std::chrono::steady_clock;

class Progress {
 public:
  Progress(std::string what, std::string unit) : what_(std::move(what)), unit_(std::move(unit)) {}

  ~Progress() { EndLine(); }

  void Show(std::int64_t done, std::int64_t total) {
    const Clock::time_point now = Clock::now();
    if (first_done_ < 0 || done < first_done_) {
      first_done_ = done;
      begin_ = shown_ = now;
      return;
    }
    const auto every = std::chrono::milliseconds(terminal_ ? 200 : 10'000);
    if (now - shown_ < every && done < total) return;
    // Work that took no ten seconds needs no line but its results.
    if (done == total && !line_open_ && now - begin_ < every) return;
    shown_ = now;
    const std::chrono::duration<double> seconds = now - begin_;
    const std::string text = ProgressText(what_, unit_, first_done_, done, total, seconds.count());
    if (!terminal_) {
      fmt::print(stderr, "{}\n", text);
      return;
    }
    fmt::print(stderr, "\r{}\x1b[K", text);
    std::fflush(stderr);
    line_open_ = true;
    if (done == total) EndLine();
  }

  void Say(const std::string& line) {
    EndLine();
    fmt::print(stderr, "{}: {}\n", what_, line);
  }

 private:
  void EndLine() {
    if (line_open_) fmt::print(stderr, "\n");
    line_open_ = false;
  }

  std::string what_;
  std::string unit_;
  bool terminal_ = isatty(STDERR_FILENO) != 0;
  bool line_open_ = false;
  std::int64_t first_done_ = -1;
  Clock::time_point begin_;
  Clock::time_point shown_;
};

}  // namespace

std::string ProgressText(const std::string& what, const std::string& unit, std::int64_t first_done,
                         std::int64_t done, std::int64_t total, double seconds) {
  std::string text = fmt::format("{}  {}/{} {}", what, CountText(done), CountText(total), unit);
  if (total > 0) {
    text +=
        fmt::format(" ({:.1f} %)", 100.0 * static_cast<double>(done) / static_cast<double>(total));
  }
  if (seconds <= 0 || done <= first_done) return text;
  const double rate = static_cast<double>(done - first_done) / seconds;
  text += fmt::format("  {} {}/s", RateText(rate), unit);
  if (done == total) return text + fmt::format("  in {}", DurationText(seconds));
  return text + fmt::format("  {} left", DurationText(static_cast<double>(total - done) / rate));
}

WorkReport ReportOnStderr(const std::string& what, const std::string& unit) {
  const auto progress = std::make_shared<Progress>(what, unit);
  WorkReport report;
  report.progress = [progress](std::int64_t done, std::int64_t total) {
    progress->Show(done, total);
  };
  report.say = [progress](const std::string& line) { progress->Say(line); };
  return report;
}

}  // namespace fr
