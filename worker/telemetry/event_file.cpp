#include "worker/telemetry/event_file.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/crc32c.h"
#include "common/base/error.h"
#include "common/base/host_name.h"
#include "common/base/logging.h"
#include "proto/tensorboard.pb.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "events.out.tfevents.";
constexpr const char* kFileVersion = "brain.Event:2";

template <typename Integer>
void AppendLittleEndian(std::string* bytes, Integer value) {
  for (std::size_t i = 0; i < sizeof(Integer); ++i) {
    bytes->push_back(static_cast<char>(value >> (8 * i)));
  }
}

// So that the checksum of bytes that hold a checksum is no special case.
std::uint32_t MaskedCrc(std::string_view bytes) {
  const std::uint32_t crc = Crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

std::string EventRecord(const std::string& bytes) {
  std::string record;
  AppendLittleEndian(&record, static_cast<std::uint64_t>(bytes.size()));
  AppendLittleEndian(&record, MaskedCrc(record));
  record += bytes;
  AppendLittleEndian(&record, MaskedCrc(bytes));
  return record;
}

double Seconds(std::int64_t ms) { return static_cast<double>(ms) / 1000; }

// TensorBoard reads a directory's files in the order of their names. So a later file's name has to
// be the greater one, even within the same second or by the clock of another host that is behind.
std::int64_t SecondsForName(const fs::path& directory) {
  std::int64_t seconds = UnixMillis() / 1000;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    std::int64_t earlier = 0;
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), earlier);
    seconds = std::max(seconds, earlier + 1);
  }
  return seconds;
}

std::string HeaderRecords(std::int64_t first_step) {
  tensorboard::Event version;
  version.set_wall_time(Seconds(UnixMillis()));
  version.set_file_version(kFileVersion);
  tensorboard::Event start;
  start.set_wall_time(version.wall_time());
  start.set_step(first_step);
  start.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  return EventRecord(version.SerializeAsString()) + EventRecord(start.SerializeAsString());
}

// One event for each run of points with the same step, with the time of its first.
std::string PointRecords(const std::vector<MetricPoint>& points) {
  std::string records;
  tensorboard::Event event;
  const auto flush = [&] {
    if (event.summary().value_size() > 0) records += EventRecord(event.SerializeAsString());
    event.Clear();
  };
  for (const MetricPoint& point : points) {
    if (point.step() != event.step()) flush();
    if (event.summary().value_size() == 0) {
      event.set_wall_time(Seconds(point.time_ms()));
      event.set_step(point.step());
    }
    tensorboard::Summary::Value* value = event.mutable_summary()->add_value();
    value->set_tag(point.name());
    value->set_simple_value(static_cast<float>(point.value()));
  }
  flush();
  return records;
}

}  // namespace

EventFile::EventFile(fs::path directory, std::int64_t first_step)
    : directory_(std::move(directory)), first_step_(first_step) {
  Append("");
}

void EventFile::Add(const std::vector<MetricPoint>& points) { Append(PointRecords(points)); }

// The file, and what stands in it before all points.
void EventFile::Begin() {
  if (path_.empty()) {
    MakeDirectories(directory_);
    const fs::path path =
        directory_ /
        fmt::format("{}{:010}.{}.{}", kPrefix, SecondsForName(directory_), HostName(), getpid());
    file_ = FileDescriptor(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!file_.valid()) {
      throw Error(ErrorCode::kIo,
                  fmt::format("{}: cannot be made: {}", path.string(), ErrnoText()));
    }
    path_ = path;
  }
  const std::string header = HeaderRecords(first_step_);
  WriteAll(file_.get(), header, path_);
  whole_bytes_ = static_cast<std::int64_t>(header.size());
}

void EventFile::Append(const std::string& records) {
  try {
    if (whole_bytes_ == 0) Begin();
    WriteAll(file_.get(), records, path_);
    whole_bytes_ += static_cast<std::int64_t>(records.size());
    failing_ = false;
  } catch (const std::exception& error) {
    if (!std::exchange(failing_, true)) {
      spdlog::warn("TensorBoard will miss points, training goes on: {}", error.what());
    }
    // A record cut short would hide all that come after it.
    if (file_.valid() && (ftruncate(file_.get(), whole_bytes_) != 0 ||
                          lseek(file_.get(), whole_bytes_, SEEK_SET) < 0)) {
      spdlog::warn("{}: cannot be cut to its last whole record: {}", path_.string(), ErrnoText());
    }
  }
}

}  // namespace fr
