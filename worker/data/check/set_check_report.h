#pragma once
// What a check found, for programs (docs/data.md has the schema) and for people.

#include <string>

#include "worker/data/check/set_check.h"

namespace fr {

// JSON, with a line end. Bytes that are no UTF-8 (in file names) are replaced.
std::string CheckReportJson(const TrainingSetCheck& check);
std::string CheckReportJson(const VerificationSetCheck& check);

// Lines for a terminal; of each kind of finding the number and the first few.
std::string CheckReportText(const TrainingSetCheck& check);
std::string CheckReportText(const VerificationSetCheck& check);

}  // namespace fr
