#pragma once
// How far a long command has got, on standard error.

#include <cstdint>
#include <string>

#include "common/base/work_report.h"

namespace fr {

// "check  1,240/5,000 images (24.8 %)  1,834 images/s  2 min 3 s left"; the speed and what is left
// are of [first_done, done), in `seconds`.
std::string ProgressText(const std::string& what, const std::string& unit, std::int64_t first_done,
                         std::int64_t done, std::int64_t total, double seconds);

// On a terminal one line that is written over and over, ended when the work is done; elsewhere a
// plain line every ten seconds. `what` is the command ("check"), `unit` what is counted ("images").
// The line ends when the last copy of the report goes.
WorkReport ReportOnStderr(const std::string& what, const std::string& unit);

}  // namespace fr
