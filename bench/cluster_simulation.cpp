#include "bench/cluster_simulation.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <tuple>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {
namespace {

constexpr std::int64_t kHour = 3'600'000;

std::int64_t Millis(double seconds) { return static_cast<std::int64_t>(seconds * 1000); }

struct Event {
  enum Kind : std::uint8_t { kEnd, kStopped, kArrival, kRound };
  std::int64_t time_ms = 0;
  Kind kind = kRound;
  std::size_t job = 0;
  int attempt = 0;  // of the job; an event of an earlier one is void

  bool operator>(const Event& other) const {
    return std::tuple(time_ms, kind, job) > std::tuple(other.time_ms, other.kind, other.job);
  }
};

// Where a job stands beyond what the scheduler sees.
struct State {
  double left = 0;  // seconds to go with all workers, when the attempt started
  int attempt = 0;
  int running = 0;
  std::int64_t queued_ms = 0;           // when it last began to wait
  Yield::Cause cause = Yield::PREEMPT;  // of the stop that it was asked for
  double stops_ms = 0;                  // no progress from then on; 0: it was not asked
};

class Simulator {
 public:
  Simulator(const SimulatedCluster& cluster, const std::vector<TraceJob>& trace,
            const SchedulerFunction& scheduler)
      : cluster_(cluster), trace_(trace), scheduler_(scheduler), states_(trace.size()) {
    view_.nodes = cluster.nodes;
    view_.users = cluster.users;
    for (const NodeView& node : cluster.nodes) {
      slots_ += node.slots;
      free_[node.name] = node.slots;
    }
    result_.jobs.resize(trace.size());
    for (std::size_t i = 0; i < trace.size(); ++i) {
      states_[i].left = trace[i].seconds;
      events_.push({trace[i].arrival_ms, Event::kArrival, i, 0});
    }
    if (!trace.empty()) events_.push({trace.front().arrival_ms, Event::kRound, 0, 0});
  }

  SimulationResult Run(std::int64_t until_ms) {
    while (!events_.empty() && ended_ < trace_.size() && events_.top().time_ms < until_ms) {
      AdvanceTo(events_.top().time_ms);
      while (!events_.empty() && events_.top().time_ms == view_.now_ms) {
        const Event event = events_.top();
        events_.pop();
        Handle(event);
      }
      Round();
    }
    return std::move(result_);
  }

 private:
  JobView& View(std::size_t job) { return view_.jobs[at_.at(job)]; }

  // Seconds of the job, as with all workers, that the running attempt has done.
  double Done(std::size_t job) const {
    const State& state = states_[job];
    const JobView& view = view_.jobs[at_.at(job)];
    const double until = state.stops_ms > 0
                             ? std::min(state.stops_ms, static_cast<double>(view_.now_ms))
                             : static_cast<double>(view_.now_ms);
    const double seconds =
        (until - static_cast<double>(view.started_ms)) / 1000 - cluster_.start_seconds;
    return std::max(seconds, 0.0) * state.running / view.workers;
  }

  void AdvanceTo(std::int64_t time_ms) {
    for (const JobView& job : view_.jobs) {
      if (job.placement.empty()) continue;
      const int workers = states_[static_cast<std::size_t>(job.number) - 1].running;
      Count(workers, time_ms);
      use_[job.owner] +=
          static_cast<double>(workers) * static_cast<double>(time_ms - view_.now_ms) / 1000;
    }
    const std::int64_t elapsed = time_ms - view_.now_ms;
    for (auto& [name, use] : use_) {
      UserView& user = view_.users[name];
      user.slot_seconds = DecayedUse(user.slot_seconds, elapsed, cluster_.half_life_ms) + use;
      use = 0;
    }
    view_.now_ms = time_ms;
  }

  // Into the hours between now and then.
  void Count(int workers, std::int64_t until_ms) {
    for (std::int64_t from = view_.now_ms; from < until_ms;) {
      const std::int64_t hour = from / kHour;
      const std::int64_t to = std::min(until_ms, (hour + 1) * kHour);
      if (std::ssize(result_.busy) <= hour) result_.busy.resize(static_cast<std::size_t>(hour) + 1);
      result_.busy[static_cast<std::size_t>(hour)] += static_cast<double>(workers) *
                                                      static_cast<double>(to - from) /
                                                      (static_cast<double>(kHour) * slots_);
      from = to;
    }
  }

  void Handle(const Event& event) {
    const bool current = event.attempt == states_[event.job].attempt;
    if (event.kind == Event::kArrival) {
      Arrive(event.job);
    } else if (event.kind == Event::kRound) {
      events_.push({view_.now_ms + cluster_.round_every_ms, Event::kRound, 0, 0});
    } else if (event.kind == Event::kEnd && current) {
      End(event.job);
    } else if (event.kind == Event::kStopped && current) {
      Stopped(event.job);
    }
  }

  void Arrive(std::size_t job) {
    const TraceJob& trace = trace_[job];
    JobView view;
    view.number = static_cast<std::int64_t>(job) + 1;
    view.owner = trace.owner;
    view.priority = trace.priority;
    view.workers = trace.workers;
    view.min_workers = trace.min_workers;
    view.labels = trace.labels;
    view.preemptible = trace.preemptible;
    view.waiting_since_ms = states_[job].queued_ms = view_.now_ms;
    if (trace.predicted_seconds >= 0) view.seconds_left = trace.predicted_seconds;
    at_[job] = view_.jobs.size();
    view_.jobs.push_back(std::move(view));
  }

  void GiveBack(std::size_t job) {
    for (const NodeSlots& slots : View(job).placement) free_[slots.node()] += slots.slots();
    View(job).placement.clear();
  }

  void End(std::size_t job) {
    result_.useful_slot_seconds += states_[job].left * trace_[job].workers;
    result_.jobs[job].end_ms = view_.now_ms;
    GiveBack(job);
    const std::size_t at = at_.at(job);
    at_.erase(job);
    if (at + 1 < view_.jobs.size()) {
      view_.jobs[at] = std::move(view_.jobs.back());
      at_[static_cast<std::size_t>(view_.jobs[at].number) - 1] = at;
    }
    view_.jobs.pop_back();
    ++ended_;
  }

  void Stopped(std::size_t job) {
    State& state = states_[job];
    const double done = std::min(Done(job), state.left);
    result_.useful_slot_seconds += done * trace_[job].workers;
    state.left -= done;
    state.stops_ms = 0;
    ++state.attempt;
    GiveBack(job);
    JobView& view = View(job);
    view.leaving = false;
    view.resizing = state.cause == Yield::RESIZE;
    view.waiting_since_ms = state.queued_ms = view_.now_ms;
    Predict(job, 0);
    JobOutcome& outcome = result_.jobs[job];
    (view.resizing ? outcome.resizes : outcome.preemptions) += 1;
    view.preemptions = outcome.preemptions;
  }

  void Predict(std::size_t job, double done) {
    const TraceJob& trace = trace_[job];
    if (trace.predicted_seconds < 0) return;
    const double all = trace.seconds - states_[job].left + done;
    View(job).seconds_left = std::max(trace.predicted_seconds - all, 0.0);
  }

  void Round() {
    for (JobView& view : view_.jobs) {
      if (view.placement.empty()) continue;
      const std::size_t job = static_cast<std::size_t>(view.number) - 1;
      Predict(job, Done(job));
      const double ran = static_cast<double>(view_.now_ms - view.started_ms) / 1000;
      view.unsaved_seconds =
          ran - cluster_.checkpoint_seconds * static_cast<int>(ran / cluster_.checkpoint_seconds);
    }
    const Decisions decisions = scheduler_(view_);
    ++result_.rounds;
    for (const StartDecision& start : decisions.starts) Start(start);
    for (const YieldDecision& yield : decisions.yields) Stop(yield);
  }

  void Start(const StartDecision& start) {
    const auto job = static_cast<std::size_t>(start.number) - 1;
    JobView& view = View(job);
    State& state = states_[job];
    state.running = 0;
    for (const NodeSlots& slots : start.slots) {
      state.running += slots.slots();
      int& free = free_.at(slots.node());
      free -= slots.slots();
      if (free < 0 || !view.placement.empty()) {
        throw Error(ErrorCode::kInternal,
                    fmt::format("job-{}: slots of {} given twice", start.number, slots.node()));
      }
    }
    view.placement = start.slots;
    view.started_ms = view_.now_ms;
    view.resizing = false;
    JobOutcome& outcome = result_.jobs[job];
    if (outcome.first_start_ms < 0) outcome.first_start_ms = view_.now_ms;
    outcome.waited_seconds += static_cast<double>(view_.now_ms - state.queued_ms) / 1000;
    const double seconds = cluster_.start_seconds + state.left * view.workers / state.running;
    events_.push({view_.now_ms + Millis(seconds), Event::kEnd, job, state.attempt});
  }

  void Stop(const YieldDecision& yield) {
    const auto job = static_cast<std::size_t>(yield.number) - 1;
    JobView& view = View(job);
    if (view.placement.empty() || view.leaving) {
      throw Error(ErrorCode::kInternal, fmt::format("job-{}: does not run", yield.number));
    }
    view.leaving = true;
    view.resizing = yield.cause == Yield::RESIZE;
    states_[job].cause = yield.cause;
    states_[job].stops_ms = static_cast<double>(view_.now_ms);
    states_[job].attempt += 1;
    events_.push(
        {view_.now_ms + Millis(cluster_.stop_seconds), Event::kStopped, job, states_[job].attempt});
  }

  const SimulatedCluster& cluster_;
  const std::vector<TraceJob>& trace_;
  const SchedulerFunction& scheduler_;
  std::vector<State> states_;
  ClusterView view_;
  std::map<std::size_t, std::size_t> at_;  // job -> index in view_.jobs
  std::map<std::string, int> free_;
  std::map<std::string, double> use_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::size_t ended_ = 0;
  int slots_ = 0;
  SimulationResult result_;
};

}  // namespace

SimulationResult Simulate(const SimulatedCluster& cluster, const std::vector<TraceJob>& trace,
                          std::int64_t until_ms, const SchedulerFunction& scheduler) {
  return Simulator(cluster, trace, scheduler).Run(until_ms);
}

}  // namespace fr
