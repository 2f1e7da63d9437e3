#include "coordinator/cli/job_text.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/cli/text.h"
#include "coordinator/jobs/demand.h"
#include "coordinator/jobs/job_state.h"
#include "coordinator/jobs/job_view.h"

namespace fr {
namespace {

double SecondsBetween(std::int64_t begin_ms, std::int64_t end_ms) {
  return static_cast<double>(end_ms - begin_ms) / 1000;
}

std::string Counted(std::int64_t count, const char* noun) {
  return fmt::format("{} {}{}", CountText(count), noun, count == 1 ? "" : "s");
}

std::string GpusText(const NodeSlots& slots) {
  if (slots.gpus().empty()) return "";
  return fmt::format(" (GPU{} {})", slots.gpus_size() == 1 ? "" : "s",
                     fmt::join(slots.gpus(), ", "));
}

std::string MemoryText(const JobRecord& job) {
  const int workers =
      job.has_launch() ? NumWorkers(job.launch()) : job.spec().resources().workers();
  const int least = MinWorkers(job.spec().resources());
  const std::int64_t bytes = WorkerBytes(job.spec(), job.demand(), workers);
  if (bytes == 0) return "";
  std::string text = BytesText(bytes) + " of memory a worker";
  const std::int64_t most = WorkerBytes(job.spec(), job.demand(), least);
  if (most != bytes) text += fmt::format(" ({} with {})", BytesText(most), least);
  return text;
}

// "drained 5 min ago: needs a new disk"
void AddMark(std::string* note, const char* what, bool is_set, const std::string& reason,
             std::int64_t since_ms, std::int64_t now_ms) {
  if (!is_set) return;
  *note += fmt::format("{}{} {}: {}", note->empty() ? "" : "; ", what, AgeText(since_ms, now_ms),
                       reason);
}

}  // namespace

std::string WorkersCell(const JobRecord& job) {
  const int wanted = job.spec().resources().workers();
  if (IsEnded(job.state())) return CountText(wanted);
  return fmt::format("{}/{}", NumWorkers(job.launch()), wanted);
}

std::string NoteCell(const JobRecord& job, std::size_t width) {
  std::string text = OneLine(job.reason());
  if (job.has_queue_position()) {
    text = fmt::format("#{}: {}", job.queue_position(), text);
  } else if (job.has_yield()) {
    text = "stops: " + OneLine(job.yield().reason());
  } else if (job.state() == JobState::RUNNING || job.state() == JobState::COMPLETED) {
    text.clear();
  }
  return text.empty() ? "-" : Shortened(text, width);
}

std::string TimeCell(const JobRecord& job, std::int64_t now_ms) {
  if (job.state() == JobState::RUNNING && job.progress().has_seconds_left()) {
    return DurationText(job.progress().seconds_left()) + " left";
  }
  if (WaitsForSlots(job.state())) {
    return "waits " + DurationText(SecondsBetween(job.waiting_since_ms(), now_ms));
  }
  if (IsEnded(job.state()) && job.started_ms() > 0) {
    return "took " + DurationText(SecondsBetween(job.started_ms(), job.ended_ms()));
  }
  return "-";
}

std::string PlacementText(const LaunchRecord& launch) {
  std::string text;
  for (const NodeSlots& slots : launch.slots()) {
    text += fmt::format("{}{}: {}{}", text.empty() ? "" : ", ", slots.node(),
                        Counted(slots.slots(), "worker"), GpusText(slots));
  }
  return text;
}

std::string DemandText(const JobRecord& job) {
  std::vector<std::string> parts;
  if (std::string memory = MemoryText(job); !memory.empty()) parts.push_back(std::move(memory));
  if (job.demand().job_seconds() > 0) {
    parts.push_back(fmt::format("about {} with {}",
                                DurationText(static_cast<double>(job.demand().job_seconds())),
                                Counted(job.spec().resources().workers(), "worker")));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string AttemptText(const JobRecord& job) {
  if (job.attempt() == 0) return "not started yet";
  return fmt::format("{}, since {}; {} of at most {}, {}", job.attempt(),
                     TimeText(job.attempt_started_ms()), Counted(job.restarts(), "restart"),
                     job.spec().restart().max_restarts(), Counted(job.preemptions(), "preemption"));
}

std::string NodeStateCell(const NodeStatus& node) {
  std::string text = node.liveness() == NodeStatus::UP     ? "up"
                     : node.liveness() == NodeStatus::DOWN ? "down"
                                                           : "not seen yet";
  if (node.record().drained()) text += ", drained";
  if (node.record().cordoned()) text += ", cordoned";
  return text;
}

std::string GpuModelsCell(const NodeStatus& node) {
  std::vector<std::pair<std::string, int>> models;  // in the order in which they come
  for (const GpuDescription& gpu : node.gpu_list()) {
    const auto same = std::find_if(models.begin(), models.end(),
                                   [&](const auto& one) { return one.first == gpu.model(); });
    if (same == models.end()) {
      models.emplace_back(gpu.model(), 1);
    } else {
      ++same->second;
    }
  }
  std::vector<std::string> parts;
  parts.reserve(models.size());
  for (const auto& [model, number] : models) {
    parts.push_back(fmt::format("{} x {}", number, OneLine(model)));
  }
  return parts.empty() ? "-" : fmt::format("{}", fmt::join(parts, ", "));
}

std::string NodeNote(const NodeStatus& node, std::int64_t now_ms) {
  const NodeRecord& record = node.record();
  std::string note;
  if (node.liveness() == NodeStatus::DOWN) {
    note = node.has_last_seen_ms() ? "last seen " + AgeText(node.last_seen_ms(), now_ms)
                                   : std::string("never seen");
    if (!node.liveness_reason().empty()) note += ": " + node.liveness_reason();
  } else {
    note = node.liveness_reason();
  }
  AddMark(&note, "drained", record.drained(), record.drain_reason(), record.drained_ms(), now_ms);
  AddMark(&note, "cordoned", record.cordoned(), record.cordon_reason(), record.cordoned_ms(),
          now_ms);
  return note.empty() ? "-" : note;
}

std::string UseCell(std::int64_t used, std::int64_t total) {
  return used == 0 && total == 0 ? "-" : fmt::format("{}/{}", CountText(used), CountText(total));
}

std::string Shortened(const std::string& text, std::size_t width) {
  std::size_t characters = 0;
  std::size_t cut = 0;  // where the last one that may stay begins
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80U) continue;  // inside a character
    if (++characters == width) cut = i;
    if (characters > width) return text.substr(0, cut) + "…";
  }
  return text;
}

}  // namespace fr
