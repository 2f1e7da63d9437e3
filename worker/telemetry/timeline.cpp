#include "worker/telemetry/timeline.h"

#include <utility>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/clock.h"

namespace fr {

const char* PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kData:
      return "data";
    case Phase::kForward:
      return "forward";
    case Phase::kHead:
      return "head";
    case Phase::kBackward:
      return "backward";
    case Phase::kCommunication:
      return "communication";
    case Phase::kOptimizer:
      return "optimizer";
    case Phase::kOther:
      break;
  }
  return "other";
}

Timeline::Timeline() : phase_begin_ns_(SteadyNanos()) {}

void Timeline::EndPhase(std::int64_t now_ns) {
  const auto communication = static_cast<double>(communication_ns_);
  const double all = static_cast<double>(now_ns - phase_begin_ns_);
  times_[static_cast<std::size_t>(phase_)] += (all - communication) / 1e6;
  times_[static_cast<std::size_t>(Phase::kCommunication)] += communication / 1e6;
  if (tracing_) spans_.push_back({PhaseName(phase_), phase_begin_ns_, now_ns});
  phase_begin_ns_ = now_ns;
  communication_ns_ = 0;
}

void Timeline::Enter(Phase phase) {
  const std::lock_guard lock(mutex_);
  EndPhase(SteadyNanos());
  phase_ = phase;
}

void Timeline::AddCollective(const Span& span) {
  const std::lock_guard lock(mutex_);
  if (!span.background) communication_ns_ += span.end_ns - span.begin_ns;
  if (tracing_) spans_.push_back(span);
}

PhaseTimes Timeline::TakeTimes() {
  const std::lock_guard lock(mutex_);
  EndPhase(SteadyNanos());
  return std::exchange(times_, PhaseTimes{});
}

void Timeline::StartTrace() {
  const std::lock_guard lock(mutex_);
  EndPhase(SteadyNanos());
  tracing_ = true;
  spans_.clear();
}

std::vector<Span> Timeline::StopTrace() {
  const std::lock_guard lock(mutex_);
  EndPhase(SteadyNanos());
  tracing_ = false;
  return std::exchange(spans_, {});
}

namespace {

using nlohmann::json;

enum Thread { kTraining = 0, kCommunicating = 1 };

json Name(const char* what, int rank, int thread, const std::string& name) {
  return {{"ph", "M"}, {"name", what}, {"pid", rank}, {"tid", thread}, {"args", {{"name", name}}}};
}

json Event(const Span& span, int rank, std::int64_t origin_ns) {
  json event = {{"ph", "X"},
                {"name", span.name},
                {"pid", rank},
                {"tid", span.background ? kCommunicating : kTraining},
                {"ts", static_cast<double>(span.begin_ns - origin_ns) / 1e3},
                {"dur", static_cast<double>(span.end_ns - span.begin_ns) / 1e3}};
  if (span.bytes > 0) event["args"] = {{"bytes", span.bytes}};
  return event;
}

}  // namespace

std::string TraceEvents(const std::vector<Span>& spans, int rank, std::int64_t origin_ns) {
  json events = {Name("process_name", rank, kTraining, fmt::format("rank {}", rank)),
                 Name("thread_name", rank, kTraining, "training"),
                 Name("thread_name", rank, kCommunicating, "communication")};
  for (const Span& span : spans) events.push_back(Event(span, rank, origin_ns));
  return events.dump();
}

std::string JoinTraces(const std::vector<std::string>& events) {
  json all = json::array();
  for (const std::string& text : events) {
    for (json& event : json::parse(text)) all.push_back(std::move(event));
  }
  return json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(all)}}.dump();
}

}  // namespace fr
