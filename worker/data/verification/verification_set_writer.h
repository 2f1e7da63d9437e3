#pragma once
// Writes a verification set (NAME.bin) image by image. The format: docs/formats.md.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "common/base/resumable_output.h"
#include "common/base/work_report.h"
#include "worker/data/verification/verification_pairs.h"

namespace fr {

struct VerificationWriteOptions {
  int threads = 1;       // that call `load`
  bool replace = false;  // a file that is there already
  ResumeOptions resume;
  WorkReport report;  // images
};

// Writes `pairs` to `path`, whole or not at all, as a pickle of protocol 3 that Python reads.
// `load(i)` gives image i (JPEG or PNG), by the pairs' index; it is called for what is being
// written, and again for an image of several pairs. Stopped at any instant, the same call goes on.
// Throws Error(kFailedPrecondition) if it is there and not to be replaced, what `load` throws, and
// as ResumableOutput.
void WriteVerificationSet(const std::filesystem::path& path,
                          const std::vector<VerificationPair>& pairs,
                          const std::function<std::string(std::int64_t)>& load,
                          const VerificationWriteOptions& options = {});

}  // namespace fr
