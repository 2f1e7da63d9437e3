#include "worker/data/prepare/align_folder.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/parallel.h"
#include "worker/data/folders/picture_folder.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// Worked on at a time by each thread.
constexpr std::int64_t kPicturesPerThread = 64;

bool IsInside(const fs::path& inner, const fs::path& outer) {
  const auto end = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first;
  return end == outer.end();
}

void RefuseToOverwrite(const fs::path& folder, const fs::path& out) {
  const fs::path from = fs::weakly_canonical(folder);
  const fs::path to = fs::weakly_canonical(out);
  if (!IsInside(from, to) && !IsInside(to, from)) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: lies in {}, or the other way round: name a folder of its own for "
                          "the aligned faces",
                          out.string(), folder.string()));
}

// Temporary files of a run that was killed.
void RemoveLeftovers(const fs::path& folder) {
  std::vector<fs::path> leftovers;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().string().ends_with(".tmp")) leftovers.push_back(entry.path());
  }
  std::error_code ignored;
  for (const fs::path& path : leftovers) fs::remove(path, ignored);
}

// A picture and the file that its face goes into.
struct Task {
  std::string path;  // "IDENTITY/PICTURE.png"
  std::string out;   // "IDENTITY/PICTURE.jpg"
};

// JPEGs first, so that a.jpg stays a.jpg, and a.png beside it becomes a.png.jpg.
std::vector<Task> TasksOf(const IdentityFolder& identity) {
  std::vector<std::string> pictures = identity.pictures;
  std::stable_partition(pictures.begin(), pictures.end(), [](const std::string& name) {
    return fs::path(name).extension() == ".jpg";
  });
  std::set<std::string> taken;
  std::vector<Task> tasks;
  for (const std::string& name : pictures) {
    std::string face = fs::path(name).stem().string() + ".jpg";
    if (!taken.insert(face).second) face = name + ".jpg";
    taken.insert(face);
    tasks.push_back(
        {fmt::format("{}/{}", identity.name, name), fmt::format("{}/{}", identity.name, face)});
  }
  return tasks;
}

void WriteList(const fs::path& path, const std::vector<std::string>& lines) {
  std::error_code ignored;
  if (lines.empty()) {
    fs::remove(path, ignored);
  } else {
    WriteFileAtomically(path, fmt::format("{}\n", fmt::join(lines, "\n")));
  }
}

class FolderAligner {
 public:
  FolderAligner(const fs::path& folder, const fs::path& out, const FindPoints& find,
                const AlignOptions& options)
      : folder_(folder), out_(out), find_(find), options_(options) {}

  AlignedFolder Run() {
    const PictureFolder listed = ListPictureFolder(folder_);
    std::int64_t total = 0;
    for (const IdentityFolder& identity : listed.identities) total += identity.num_pictures();
    std::int64_t done = 0;
    std::vector<Task> tasks;
    options_.report.progress(done, total);
    for (const IdentityFolder& identity : listed.identities) {
      MakeDirectories(out_ / identity.name);
      RemoveLeftovers(out_ / identity.name);
      for (Task& task : TasksOf(identity)) {
        tasks.push_back(std::move(task));
      }
      if (std::ssize(tasks) < kPicturesPerThread * options_.threads) continue;
      done += Work(std::exchange(tasks, {}));
      options_.report.progress(done, total);
    }
    Work(tasks);
    options_.report.progress(total, total);
    std::sort(result_.no_face.begin(), result_.no_face.end(), NaturalLess);
    std::sort(result_.broken.begin(), result_.broken.end(), NaturalLess);
    WriteList(out_ / "no_face.txt", result_.no_face);
    WriteList(out_ / "broken.txt", result_.broken);
    return std::move(result_);
  }

 private:
  enum class Outcome { kAligned, kKept, kNoFace };

  std::int64_t Work(const std::vector<Task>& tasks) {
    ParallelFor(std::ssize(tasks), options_.threads, [&](std::int64_t i) {
      const Task& task = tasks[static_cast<std::size_t>(i)];
      try {
        Count(task, AlignOne(task));
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kDataLoss) throw;
        const std::lock_guard lock(mutex_);
        result_.broken.push_back(fmt::format("{}: {}", task.path, error.what()));
      }
    });
    return std::ssize(tasks);
  }

  void Count(const Task& task, Outcome outcome) {
    const std::lock_guard lock(mutex_);
    if (outcome == Outcome::kAligned) ++result_.aligned;
    if (outcome == Outcome::kKept) ++result_.kept;
    if (outcome == Outcome::kNoFace) result_.no_face.push_back(task.path);
  }

  Outcome AlignOne(const Task& task) const {
    if (IsDone(out_ / task.out)) return Outcome::kKept;
    const Image image = DecodeImage(ReadFile(folder_ / task.path));
    const std::optional<Image> face = AlignPicture(find_, task.path, image, options_.side);
    if (!face) return Outcome::kNoFace;
    WriteFileUnsynced(out_ / task.out, EncodeJpeg(*face, kStoredJpegQuality));
    return Outcome::kAligned;
  }

  bool IsDone(const fs::path& path) const {
    if (!fs::exists(path)) return false;
    const auto side = static_cast<std::size_t>(options_.side);
    std::vector<std::uint8_t> pixels(side * side * 3);
    try {
      DecodeImageInto(ReadFile(path), options_.side, options_.side, pixels.data());
      return true;
    } catch (const Error&) {
      return false;
    }
  }

  const fs::path& folder_;
  const fs::path& out_;
  const FindPoints& find_;
  const AlignOptions& options_;
  std::mutex mutex_;
  AlignedFolder result_;
};

}  // namespace

FindPoints PointsOf(Landmarks landmarks) {
  const auto shared = std::make_shared<const Landmarks>(std::move(landmarks));
  return [shared](const std::string& path, const Image&) -> std::optional<FacePoints> {
    const auto found = shared->find(path);
    if (found == shared->end()) return std::nullopt;
    return found->second;
  };
}

std::optional<Image> AlignPicture(const FindPoints& find, const std::string& path,
                                  const Image& image, int side) {
  const std::optional<FacePoints> points = find(path, image);
  if (!points) return std::nullopt;
  return AlignFace(image, *points, side);
}

AlignedFolder AlignFolder(const fs::path& folder, const fs::path& out, const FindPoints& find,
                          const AlignOptions& options) {
  RefuseToOverwrite(folder, out);
  return FolderAligner(folder, out, find, options).Run();
}

}  // namespace fr
