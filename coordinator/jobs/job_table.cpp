#include "coordinator/jobs/job_table.h"

#include <cstdlib>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/logging.h"
#include "coordinator/jobs/job_state.h"

namespace fr {
namespace {

constexpr const char* kIdPrefix = "job-";

// Nothing for what is no id.
std::optional<std::int64_t> NumberOf(const std::string& job_id) {
  if (!job_id.starts_with(kIdPrefix) || job_id.size() > 24) return std::nullopt;
  const std::int64_t number = std::strtoll(job_id.c_str() + 4, nullptr, 10);
  if (JobId(number) != job_id) return std::nullopt;
  return number;
}

std::string NoSuchJob(const std::string& job_id) {
  return fmt::format("there is no job '{}'; frctl jobs lists those there are", job_id);
}

}  // namespace

std::string JobId(std::int64_t number) { return fmt::format("{}{}", kIdPrefix, number); }

ChangeSet::Edited& ChangeSet::Of(Job& job) {
  Edited& edited = edits_[job.record.number()];
  if (edited.job == nullptr) {
    edited.job = &job;
    edited.record = job.record;
  }
  return edited;
}

JobRecord& ChangeSet::Edit(Job& job) { return Of(job).record; }

void ChangeSet::To(Job& job, JobState state, const std::string& reason) {
  Edited& edited = Of(job);
  edited.transitions.push_back(ChangeState(&edited.record, state, reason, UnixMillis()));
}

JobTable::JobTable(RunStore& store, std::int64_t ended_since_ms)
    : store_(store), counts_(store.CountJobs()), last_number_(store.LastJobNumber()) {
  for (JobRecord& record : store_.LiveJobs()) {
    if (!IsEnded(record.state())) ++unfinished_[record.owner()];
    Load(std::move(record));
  }
  JobFilter ended;
  ended.states = {JobState::COMPLETED, JobState::FAILED, JobState::CANCELLED};
  for (JobRecord& record : store_.Jobs(ended).jobs) {
    if (record.ended_ms() >= ended_since_ms) Load(std::move(record));
  }
}

void JobTable::Load(JobRecord record) {
  Job& job = live_[record.number()];
  job.last_step_ms = job.last_checkpoint_ms = SteadyMillis();
  job.record = std::move(record);
}

Job* JobTable::FindLive(const std::string& job_id) {
  const std::optional<std::int64_t> number = NumberOf(job_id);
  const auto found = number ? live_.find(*number) : live_.end();
  return found != live_.end() ? &found->second : nullptr;
}

JobRecord JobTable::Find(const std::string& job_id) {
  if (const Job* job = FindLive(job_id)) return job->record;
  if (const std::optional<std::int64_t> number = NumberOf(job_id)) {
    if (std::optional<JobRecord> record = store_.Job(*number)) return *std::move(record);
  }
  throw Error(ErrorCode::kNotFound, NoSuchJob(job_id));
}

Job& JobTable::FindNotOver(const std::string& job_id) {
  Job* job = FindLive(job_id);
  if (job != nullptr && !IsEnded(job->record.state())) return *job;
  const JobRecord record = Find(job_id);
  throw Error(ErrorCode::kFailedPrecondition,
              fmt::format("{} has ended already: {} ({})", job_id, JobState_Name(record.state()),
                          record.reason()));
}

Job& JobTable::FindAttempt(const std::string& job_id, int attempt) {
  Job* job = FindLive(job_id);
  if (job != nullptr && job->record.attempt() == attempt && HoldsSlots(job->record.state())) {
    return *job;
  }
  const JobRecord record = Find(job_id);
  throw Error(ErrorCode::kFailedPrecondition,
              fmt::format("attempt {} of {} is over: the job is {} ({})", attempt, job_id,
                          JobState_Name(record.state()), record.reason()));
}

Job& JobTable::Insert(JobRecord record) {
  Count(record, 1);
  Job& job = live_[record.number()];
  job.record = std::move(record);
  return job;
}

void JobTable::Commit(ChangeSet changes, const char* label) {
  for (auto& [number, edited] : changes.edits_) {
    std::int64_t index = edited.record.transitions();
    for (const Transition& transition : edited.transitions) {
      changes.batch.PutTransition(number, index++, transition);
    }
    edited.record.set_transitions(index);
    changes.batch.PutJob(edited.record);
  }
  store_.Commit(std::move(changes.batch), label);
  for (auto& [number, edited] : changes.edits_) {
    for (const Transition& transition : edited.transitions) {
      spdlog::info("{}: {} -> {}: {}", edited.record.id(), JobState_Name(transition.from()),
                   JobState_Name(transition.to()), transition.reason());
    }
    if (edited.record.has_yield() && !edited.job->record.has_yield()) {
      spdlog::info("{} is asked to stop at a checkpoint: {}", edited.record.id(),
                   edited.record.yield().reason());
    }
    Count(edited.job->record, -1);
    Count(edited.record, 1);
    edited.job->record = std::move(edited.record);
  }
}

void JobTable::DropEnded(std::int64_t before_ms) {
  std::erase_if(live_, [&](const auto& entry) {
    const JobRecord& record = entry.second.record;
    return IsEnded(record.state()) && !record.has_launch() && record.ended_ms() < before_ms;
  });
}

int JobTable::UnfinishedOf(const std::string& owner) const {
  const auto found = unfinished_.find(owner);
  return found != unfinished_.end() ? found->second : 0;
}

void JobTable::Count(const JobRecord& record, int by) {
  const auto count = counts_.try_emplace(record.state()).first;
  if ((count->second += by) == 0) counts_.erase(count);
  if (IsEnded(record.state())) return;
  const auto unfinished = unfinished_.try_emplace(record.owner()).first;
  if ((unfinished->second += by) == 0) unfinished_.erase(unfinished);
}

}  // namespace fr
