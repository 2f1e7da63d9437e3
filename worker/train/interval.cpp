#include "worker/train/interval.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "common/config/job_config.h"
#include "worker/comm/communicator.h"
#include "worker/telemetry/metric_points.h"

namespace fr {
namespace {

// RankReport and the shard's targets as numbers on their way to the others.
std::vector<double> Pack(const RankReport& report, double own_targets) {
  std::vector<double> values(report.phase_ms.begin(), report.phase_ms.end());
  values.insert(values.end(),
                {report.wait_ms, report.bad_records, report.peak_memory_bytes, own_targets,
                 report.yield_asked ? 1.0 : 0.0, report.gpu_memory_bytes});
  return values;
}

// One value of every rank.
class Column {
 public:
  Column(const at::Tensor& rows, std::size_t index)
      : column_(rows.select(1, static_cast<std::int64_t>(index)).contiguous()) {}
  double operator[](int rank) const { return column_.const_data_ptr<double>()[rank]; }
  double sum() const { return column_.sum().item<double>(); }
  double mean() const { return column_.mean().item<double>(); }
  double max() const { return column_.max().item<double>(); }

 private:
  at::Tensor column_;
};

}  // namespace

void Interval::Add(const StepOutcome& step) {
  ++steps_;
  if (step.skipped) {
    ++skipped_;
    return;
  }
  loss_ += step.head.loss;
  accuracy_ += step.head.accuracy;
  gradient_norm_ += step.gradient_norm;
  dropped_mass_ = std::max(dropped_mass_, step.head.dropped_mass);
  skipped_share_ += step.head.skipped_share;
  own_targets_ += static_cast<double>(step.head.own_targets);
  active_triplets_ += static_cast<double>(step.head.active_triplets);
  active_share_ += step.head.active_share;
}

Interval::Summary Interval::Take(const JobSpec& spec, std::int64_t step, const RankReport& own,
                                 Communicator& comm) {
  const Interval sums = std::exchange(*this, Interval());
  skipped_before_ = sums.skipped_before_ + sums.skipped_;
  std::vector<double> values = Pack(own, sums.own_targets_);
  const auto width = static_cast<std::int64_t>(values.size());
  const at::Tensor all =
      comm.AllGatherRows(at::from_blob(values.data(), {1, width}, at::kDouble),
                         std::vector<std::int64_t>(static_cast<std::size_t>(comm.world_size()), 1));

  const auto steps = static_cast<double>(std::max<std::int64_t>(sums.steps_, 1));
  const auto applied = static_cast<double>(std::max<std::int64_t>(sums.steps_ - sums.skipped_, 1));
  PhaseTimes phase_ms;  // means over the ranks, which all take as long for a step
  for (std::size_t phase = 0; phase < kNumPhases; ++phase) {
    phase_ms[phase] = Column(all, phase).mean() / steps;
  }
  Summary summary;
  summary.loss =
      sums.steps_ > sums.skipped_ ? sums.loss_ / applied : std::numeric_limits<double>::quiet_NaN();
  summary.step_ms = std::max(std::accumulate(phase_ms.begin(), phase_ms.end(), 0.0), 1e-6);
  summary.yield_asked = Column(all, kNumPhases + 4)[0] != 0;
  if (comm.rank() != 0) return summary;

  const auto add = [&](const std::string& name, double value) {
    summary.points.push_back(MakePoint(name, step, value));
  };
  if (sums.steps_ > sums.skipped_) {
    add("train/loss", summary.loss);
    add("train/accuracy", sums.accuracy_ / applied);
    add("train/gradient_norm", sums.gradient_norm_ / applied);
  }
  add("train/images_per_second",
      1000 * static_cast<double>(TotalBatchSize(spec, comm.world_size())) / summary.step_ms);
  for (std::size_t phase = 0; phase < kNumPhases; ++phase) {
    add(fmt::format("train/time/{}_ms", PhaseName(static_cast<Phase>(phase))), phase_ms[phase]);
  }
  const Column wait_ms(all, kNumPhases);
  const Column bad_records(all, kNumPhases + 1);
  const Column memory(all, kNumPhases + 2);
  const Column targets(all, kNumPhases + 3);
  // Every step waits for the rank whose images come last.
  add("train/data_wait_share", wait_ms.max() / (summary.step_ms * steps));
  add("train/memory_gib", memory.max() / (std::int64_t{1} << 30));
  const Column gpu_memory(all, kNumPhases + 5);
  if (gpu_memory.max() > 0) add("train/gpu_memory_gib", gpu_memory.max() / (std::int64_t{1} << 30));
  if (spec.data().bad_records() == DataSpec::skip) add("train/bad_records", bad_records.sum());
  if (spec.train().non_finite() == TrainSpec::skip) {
    add("train/skipped_steps", static_cast<double>(skipped_before_));
  }
  if (spec.loss().mass_tolerance() > 0) {
    add("head/dropped_mass", sums.dropped_mass_);
    add("head/skipped_share", sums.skipped_share_ / applied);
  }
  if (spec.loss().type() == LossType::triplet) {
    add("triplet/active", sums.active_triplets_ / applied);
    add("triplet/active_share", sums.active_share_ / applied);
  } else {
    for (int rank = 0; rank < comm.world_size(); ++rank) {
      add(fmt::format("shard/{}/targets", rank), targets[rank] / std::max(targets.sum(), 1.0));
    }
  }
  return summary;
}

}  // namespace fr
