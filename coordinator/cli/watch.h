#pragma once
// Follows a job to its end: `fr-submit --follow`, `fr-submit --wait`, `frctl watch`.

#include <cstdint>
#include <string>
#include <vector>

#include "proto/metrics.pb.h"
#include "proto/record.pb.h"

namespace fr {

class JobClient;

// "job-12 running  1,240/5,000 (24.8 %)  loss 4.313  1,834 images/s  1 h 28 min left  lfw 99.43 %".
// Pure.
std::string ProgressText(const JobRecord& job, const std::vector<ValidationResult>& latest);

// "job-12 failed after 3 min: rank 1 ...", for a job that has ended. Pure.
std::string EndText(const JobRecord& job, const std::vector<ValidationResult>& latest);

enum class WatchOutput { kProgress, kQuiet };

// Waits for the end of the job and returns the exit code: 0 when it completed, 1 when it failed or
// was cancelled (the reason goes to standard error), 130 after Ctrl-C (the job goes on; how to
// watch or cancel it is said). With kProgress one line on standard error follows the job: rewritten
// in place on a terminal, else a new line every few seconds.
// A coordinator that does not answer is waited for without end, unless it never answered
// here: then throws Error(kUnavailable).
int WatchJob(JobClient& client, const std::string& job_id, WatchOutput output);

}  // namespace fr
