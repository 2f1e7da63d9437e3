#include "tests/coordinator/scheduler/round_text.h"

#include <sstream>
#include <stdexcept>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace fr {
namespace {

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

std::vector<std::string> Words(const std::string& line) { return Split(line, ' '); }

// "30s", "10m", "2h"
double Seconds(const std::string& text) {
  const double number = std::stod(text);
  switch (text.back()) {
    case 'h':
      return number * 3600;
    case 'm':
      return number * 60;
    default:
      return number;
  }
}

std::int64_t Millis(const std::string& text) {
  return static_cast<std::int64_t>(Seconds(text) * 1000);
}

std::int64_t Bytes(const std::string& gibibytes) {
  return static_cast<std::int64_t>(std::stod(gibibytes) * (1 << 30));
}

std::pair<std::string, std::string> KeyValue(const std::string& word) {
  const std::size_t equals = word.find('=');
  if (equals == std::string::npos) return {word, ""};
  return {word.substr(0, equals), word.substr(equals + 1)};
}

NodeView NodeOf(const std::string& line) {
  const std::vector<std::string> words = Words(line);
  NodeView node;
  node.name = words.at(0);
  node.slots = std::stoi(words.at(1));
  for (std::size_t i = 2; i < words.size(); ++i) {
    const auto [key, value] = KeyValue(words[i]);
    if (key == "gpus") {
      node.gpus = std::stoi(value);
    } else if (key == "cpus") {
      node.cpus = std::stoi(value);
    } else if (key == "mem") {
      node.memory_bytes = Bytes(value);
    } else if (key == "group") {
      node.group = value;
    } else if (key == "labels") {
      node.labels = Split(value, ',');
    } else if (key == "closed") {
      node.open = false;
    } else {
      throw std::invalid_argument(words[i]);
    }
  }
  return node;
}

// "a:2[0+3],b:2"
std::vector<NodeSlots> PlacementOf(const std::string& text) {
  std::vector<NodeSlots> placement;
  for (const std::string& part : Split(text, ',')) {
    NodeSlots& slots = placement.emplace_back();
    const std::size_t colon = part.find(':');
    slots.set_node(part.substr(0, colon));
    slots.set_slots(std::stoi(part.substr(colon + 1)));
    const std::size_t bracket = part.find('[');
    if (bracket == std::string::npos) continue;
    for (const std::string& gpu : Split(part.substr(bracket + 1), '+')) {
      slots.add_gpus(std::stoi(gpu));
    }
  }
  return placement;
}

void SetWord(const std::string& word, JobView* job) {
  const auto [key, value] = KeyValue(word);
  const std::map<std::string, bool*> flags = {
      {"gpu", &job->takes_gpus}, {"leaving", &job->leaving}, {"resizing", &job->resizing}};
  if (word.front() == '@') {
    job->placement = PlacementOf(word.substr(1));
  } else if (flags.contains(key)) {
    *flags.at(key) = true;
  } else if (key == "fixed") {
    job->preemptible = false;
  } else if (key == "prio") {
    job->priority = std::stoi(value);
  } else if (key == "user") {
    job->owner = value;
  } else if (key == "waits") {
    job->waiting_since_ms = kNow - Millis(value);
  } else if (key == "backoff") {
    job->not_before_ms = kNow + Millis(value);
  } else if (key == "left") {
    job->seconds_left = Seconds(value);
  } else if (key == "cpus") {
    job->cpus_per_worker = std::stoi(value);
  } else if (key == "labels") {
    job->labels = Split(value, ',');
  } else if (key == "mem") {
    for (const std::string& size : Split(value, ',')) job->worker_bytes.push_back(Bytes(size));
  } else if (key == "ran") {
    job->started_ms = kNow - Millis(value);
  } else if (key == "unsaved") {
    job->unsaved_seconds = Seconds(value);
  } else if (key == "preempted") {
    job->preemptions = std::stoi(value);
  } else {
    throw std::invalid_argument(word);
  }
}

JobView JobOf(const std::string& line) {
  const std::vector<std::string> words = Words(line);
  JobView job;
  job.number = std::stoll(words.at(0));
  job.priority = 50;
  job.waiting_since_ms = kNow;
  job.started_ms = kNow - 3'600'000;
  const std::vector<std::string> workers = Split(words.at(1).substr(1), '-');
  job.min_workers = std::stoi(workers.front());
  job.workers = std::stoi(workers.back());
  for (std::size_t i = 2; i < words.size(); ++i) SetWord(words[i], &job);
  return job;
}

std::pair<std::string, UserView> UserOf(const std::string& line) {
  const std::vector<std::string> words = Words(line);
  UserView user;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const auto [key, value] = KeyValue(words[i]);
    if (key == "used") user.slot_seconds = std::stod(value);
    if (key == "share") user.share = std::stod(value);
    if (key == "max") user.max_workers = std::stoi(value);
  }
  return {words.at(0), user};
}

std::string SlotsText(const NodeSlots& slots) {
  std::string text = fmt::format("{}:{}", slots.node(), slots.slots());
  if (slots.gpus_size() > 0) text += fmt::format("[{}]", fmt::join(slots.gpus(), "+"));
  return text;
}

}  // namespace

ClusterView ViewOf(const std::string& nodes, const std::string& jobs, const std::string& users) {
  ClusterView view;
  view.now_ms = kNow;
  for (const std::string& line : Split(nodes, '\n')) view.nodes.push_back(NodeOf(line));
  for (const std::string& line : Split(jobs, '\n')) view.jobs.push_back(JobOf(line));
  for (const std::string& line : Split(users, '\n')) view.users.insert(UserOf(line));
  return view;
}

std::string TextOf(const Decisions& decisions) {
  std::vector<std::string> starts;
  for (const StartDecision& start : decisions.starts) {
    std::vector<std::string> slots;
    for (const NodeSlots& part : start.slots) slots.push_back(SlotsText(part));
    starts.push_back(fmt::format("{}@{}", start.number, fmt::join(slots, ",")));
  }
  std::vector<std::string> parts;
  if (!starts.empty()) parts.push_back(fmt::format("{}", fmt::join(starts, " ")));
  for (const Yield::Cause cause : {Yield::PREEMPT, Yield::RESIZE}) {
    std::string text;
    for (const YieldDecision& yield : decisions.yields) {
      if (yield.cause == cause) text += fmt::format(" {}", yield.number);
    }
    if (!text.empty()) parts.push_back((cause == Yield::PREEMPT ? "preempt" : "resize") + text);
  }
  std::string waits;
  for (const WaitDecision& wait : decisions.waits) waits += fmt::format(" {}", wait.number);
  if (!waits.empty()) parts.push_back("wait" + waits);
  return fmt::format("{}", fmt::join(parts, " | "));
}

std::string Round(const std::string& nodes, const std::string& jobs, const SchedulerSpec& policy,
                  const std::string& users) {
  return TextOf(Schedule(ViewOf(nodes, jobs, users), policy));
}

std::map<std::int64_t, std::string> ReasonsOf(const Decisions& decisions) {
  std::map<std::int64_t, std::string> reasons;
  for (const WaitDecision& wait : decisions.waits) reasons[wait.number] = wait.reason;
  return reasons;
}

}  // namespace fr
