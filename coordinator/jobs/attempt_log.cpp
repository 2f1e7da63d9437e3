#include "coordinator/jobs/attempt_log.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>

#include <fmt/format.h>

#include "common/base/error.h"
#include "coordinator/jobs/job_state.h"
#include "coordinator/launch/attempt_files.h"

namespace fr {
namespace {

constexpr std::int64_t kMaxBytes = 4 << 20;

}  // namespace

std::filesystem::path AttemptDirectory(const JobRecord& job, int attempt) {
  return std::filesystem::path(job.run_dir()) / fmt::format("attempt-{}", attempt);
}

GetLogsReply ReadAttemptLog(const JobRecord& job, const GetLogsRequest& request) {
  const int attempt = request.has_attempt() ? request.attempt() : job.attempt();
  if (request.has_attempt() && (attempt < 1 || attempt > job.attempt())) {
    throw Error(ErrorCode::kNotFound, fmt::format("{} has no attempt {}; its latest is {}",
                                                  job.id(), attempt, job.attempt()));
  }
  GetLogsReply reply;
  reply.set_attempt(attempt);
  // Asked before the file is read: nothing is written after it was true.
  const bool is_over = attempt < job.attempt() || (IsEnded(job.state()) && !job.has_launch());
  std::ifstream file(AttemptDirectory(job, attempt) / kLogFile, std::ios::binary | std::ios::ate);
  const std::int64_t size = file ? static_cast<std::int64_t>(file.tellg()) : 0;
  const std::int64_t offset = request.offset() < 0
                                  ? std::max<std::int64_t>(0, size + request.offset())
                                  : std::min(request.offset(), size);
  const std::int64_t wanted = std::clamp<std::int64_t>(request.max_bytes(), 0, kMaxBytes);
  std::string text(static_cast<std::size_t>(std::min(wanted, size - offset)), '\0');
  file.seekg(offset);
  file.read(text.data(), std::ssize(text));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, file.gcount())));
  reply.set_next_offset(offset + std::ssize(text));
  reply.set_text(std::move(text));
  reply.set_job_ended(is_over && reply.next_offset() == size);
  return reply;
}

}  // namespace fr
