#include "worker/data/verification/verification_set_writer.h"

#include <algorithm>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/parallel.h"
#include "common/base/raw_value.h"

namespace fr {
namespace {

// Pickle opcodes (Lib/pickletools.py): protocol 3, an empty list and a mark; items follow.
constexpr const char* kBegin = "\x80\x03](";
constexpr char kShortBytes = 'B';  // a length of four bytes, and as many bytes
constexpr char kTrue = '\x88';
constexpr char kFalse = '\x89';
constexpr const char* kNextList = "e](";  // append the items, begin another list
constexpr const char* kEnd = "e\x86.";    // append the items, a tuple of both, stop

constexpr std::int64_t kImagesAtATime = 256;

}  // namespace

void WriteVerificationSet(const std::filesystem::path& path,
                          const std::vector<VerificationPair>& pairs,
                          const std::function<std::string(std::int64_t)>& load,
                          const VerificationWriteOptions& options) {
  ResumableOutput out({path.string() + ".journal", {{path}}, options.resume});
  out.TellStart(options.report);
  if (out.start() == ResumableOutput::Start::kComplete) return;
  if (!options.replace && std::filesystem::exists(path)) {
    out.Discard();
    throw Error(
        ErrorCode::kFailedPrecondition,
        fmt::format("{}: is there already; remove it, or choose another name", path.string()));
  }
  const std::int64_t total = 2 * std::ssize(pairs);
  if (out.size(0) == 0) out.Append(0, kBegin);
  std::vector<std::string> images;
  for (std::int64_t done = out.place(); done < total; done += std::ssize(images)) {
    options.report.progress(done, total);
    images.assign(static_cast<std::size_t>(std::min(kImagesAtATime, total - done)), "");
    ParallelFor(std::ssize(images), options.threads, [&](std::int64_t i) {
      const VerificationPair& pair = pairs[static_cast<std::size_t>((done + i) / 2)];
      images[static_cast<std::size_t>(i)] = load((done + i) % 2 == 0 ? pair.first : pair.second);
    });
    for (const std::string& image : images) {
      std::string header(1, kShortBytes);
      AppendRaw(&header, static_cast<std::uint32_t>(image.size()));
      out.Append(0, header);
      out.Append(0, image);
    }
    if (out.CheckpointDue()) out.Checkpoint(done + std::ssize(images));
  }
  options.report.progress(total, total);
  out.Append(0, kNextList);
  for (const VerificationPair& pair : pairs) out.Append(0, {pair.same ? &kTrue : &kFalse, 1});
  out.Append(0, kEnd);
  out.Finish(total);
}

}  // namespace fr
