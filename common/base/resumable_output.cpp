#include "common/base/resumable_output.h"

#include <algorithm>
#include <cerrno>
#include <set>
#include <sstream>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/checksum.h"
#include "common/base/error.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kAllBuffersBytes = std::size_t{64} << 20;
constexpr std::size_t kMinBufferBytes = std::size_t{64} << 10;
constexpr std::size_t kMaxBufferBytes = std::size_t{1} << 20;

fs::path PartialPath(const fs::path& path) { return path.string() + ".partial"; }

[[noreturn]] void ThrowIo(const fs::path& path) {
  throw Error(ErrorCode::kIo, fmt::format("{}: cannot be written: {}", path.string(), ErrnoText()));
}

// A line of the journal is a text, a tab and the text's checksum: a torn one is found out.
std::string JournalLine(const std::string& text) {
  return fmt::format("{}\t{:016x}\n", text, ChecksumOf(text));
}

struct Progress {
  std::int64_t place = 0;
  bool complete = false;
  std::vector<std::uint64_t> sizes;
};

struct Journal {
  std::string header;
  bool has_progress = false;
  Progress last;
  std::size_t size = 0;  // bytes of whole lines
};

bool ParseProgress(const std::string& text, std::size_t num_files, Progress* progress) {
  std::istringstream in(text);
  Progress parsed;
  in >> parsed.place >> parsed.complete;
  parsed.sizes.resize(num_files);
  for (std::uint64_t& size : parsed.sizes) in >> size;
  if (!in || !(in >> std::ws).eof()) return false;
  *progress = std::move(parsed);
  return true;
}

// Up to the first line that is not whole.
Journal ParseJournal(const std::string& bytes, std::size_t num_files) {
  Journal journal;
  std::istringstream lines(bytes);
  for (std::string line; std::getline(lines, line);) {
    const std::string text = line.substr(0, line.find('\t'));
    if (line + "\n" != JournalLine(text)) break;
    if (journal.header.empty()) {
      journal.header = text;
    } else if (ParseProgress(text, num_files, &journal.last)) {
      journal.has_progress = true;
    }
    journal.size += line.size() + 1;
  }
  return journal;
}

std::string HeaderText(const std::string& fingerprint) {
  return fmt::format("fr-journal 1 {:016x}", ChecksumOf(fingerprint));
}

fs::path Parent(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

ResumableOutput::ResumableOutput(ResumableOptions options) : options_(std::move(options)) {
  streams_.resize(options_.files.size());
  buffer_bytes_ = std::clamp(kAllBuffersBytes / std::max<std::size_t>(1, streams_.size()),
                             kMinBufferBytes, kMaxBufferBytes);
  LockJournal();
  const std::string bytes = ReadFile(options_.journal);
  const Journal journal = ParseJournal(bytes, streams_.size());
  const bool same = !options_.resume.fingerprint.empty() &&
                    journal.header == HeaderText(options_.resume.fingerprint) &&
                    journal.has_progress;
  if (same && journal.last.complete) {
    place_ = journal.last.place;
    start_ = Start::kComplete;
    Rename();
  } else if (same && OpenPartials(journal.last.sizes)) {
    place_ = journal.last.place;
    start_ = Start::kResumed;
    // What followed a torn line would be torn, too.
    if (ftruncate(journal_.get(), static_cast<off_t>(journal.size)) != 0) ThrowIo(options_.journal);
  } else {
    const bool other = journal.has_progress && !same;
    StartAnew();
    start_ = other ? Start::kAnewAsInputDiffers : Start::kAnew;
  }
}

// The lock lasts as long as the journal's descriptor.
void ResumableOutput::LockJournal() {
  while (true) {
    journal_ = FileDescriptor(open(options_.journal.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!journal_.valid()) ThrowIo(options_.journal);
    // A file system without locks is no reason to refuse.
    if (flock(journal_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      throw Error(ErrorCode::kFailedPrecondition,
                  fmt::format("{}: another process is writing here; wait for it, or end it",
                              options_.journal.string()));
    }
    struct stat status = {};
    if (fstat(journal_.get(), &status) != 0) ThrowIo(options_.journal);
    // Whoever held the lock before may have removed the file meanwhile.
    if (status.st_nlink > 0) return;
  }
}

void ResumableOutput::StartAnew() {
  if (ftruncate(journal_.get(), 0) != 0) ThrowIo(options_.journal);
  AppendToJournal(JournalLine(HeaderText(options_.resume.fingerprint)));
  OpenPartials(std::vector<std::uint64_t>(streams_.size(), 0));
  SyncDirectories();
}

void ResumableOutput::SyncDirectories() const {
  std::set<fs::path> directories = {Parent(options_.journal)};
  for (const ResumableFile& file : options_.files) directories.insert(Parent(file.path));
  for (const fs::path& directory : directories) SyncDirectory(directory);
}

// Cut to `sizes`; false if one of them is shorter than that.
bool ResumableOutput::OpenPartials(const std::vector<std::uint64_t>& sizes) {
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    const fs::path path = PartialPath(options_.files[i].path);
    Stream& stream = streams_[i];
    stream.descriptor = FileDescriptor(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!stream.descriptor.valid()) ThrowIo(path);
    const auto size = static_cast<off_t>(sizes[i]);
    if (lseek(stream.descriptor.get(), 0, SEEK_END) < size) return false;
    if (ftruncate(stream.descriptor.get(), size) != 0) ThrowIo(path);
    if (lseek(stream.descriptor.get(), size, SEEK_SET) != size) ThrowIo(path);
    stream.size = sizes[i];
  }
  return true;
}

void ResumableOutput::AppendToJournal(const std::string& text) {
  if (lseek(journal_.get(), 0, SEEK_END) < 0) ThrowIo(options_.journal);
  WriteAll(journal_.get(), text, options_.journal);
  if (fsync(journal_.get()) != 0) ThrowIo(options_.journal);
}

void ResumableOutput::TellStart(const WorkReport& report) const {
  switch (start_) {
    case Start::kAnew:
      return;
    case Start::kAnewAsInputDiffers:
      return report.say(
          "an earlier run stopped here, but its input or its options were others: starting anew");
    case Start::kResumed:
      return report.say("going on where an earlier run stopped");
    case Start::kComplete:
      return report.say("an earlier run had done all of it");
  }
}

void ResumableOutput::Append(std::size_t file, std::string_view bytes) {
  Stream& stream = streams_[file];
  stream.buffer += bytes;
  stream.size += bytes.size();
  since_checkpoint_ += bytes.size();
  if (stream.buffer.size() >= buffer_bytes_) FlushStream(file);
}

void ResumableOutput::FlushStream(std::size_t file) {
  Stream& stream = streams_[file];
  if (stream.buffer.empty()) return;
  stream.dirty = true;
  // Nothing can be written any more after a failure: a part of the buffer would be there twice.
  FileDescriptor descriptor = std::move(stream.descriptor);
  WriteAll(descriptor.get(), stream.buffer, PartialPath(options_.files[file].path));
  stream.descriptor = std::move(descriptor);
  stream.buffer.clear();
}

void ResumableOutput::SyncStreams() {
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    FlushStream(i);
    if (!streams_[i].dirty) continue;
    if (fdatasync(streams_[i].descriptor.get()) != 0) ThrowIo(options_.files[i].path);
    streams_[i].dirty = false;
  }
}

void ResumableOutput::NoteProgress(std::int64_t place, bool complete) {
  std::string text = fmt::format("{} {}", place, complete ? 1 : 0);
  for (const Stream& stream : streams_) text += fmt::format(" {}", stream.size);
  AppendToJournal(JournalLine(text));
  place_ = place;
}

void ResumableOutput::Checkpoint(std::int64_t place) {
  SyncStreams();
  NoteProgress(place, false);
  since_checkpoint_ = 0;
}

std::filesystem::path ResumableOutput::FlushedPath(std::size_t file) {
  FlushStream(file);
  return PartialPath(options_.files[file].path);
}

std::string ResumableOutput::ReadBack(std::size_t file) { return ReadFile(FlushedPath(file)); }

void ResumableOutput::Finish(std::int64_t place) {
  SyncStreams();
  NoteProgress(place, true);
  Rename();
}

void ResumableOutput::Rename() {
  for (const ResumableFile& file : options_.files) {
    const fs::path partial = PartialPath(file.path);
    if (!file.keep) {
      unlink(partial.c_str());
    } else if (rename(partial.c_str(), file.path.c_str()) != 0) {
      const bool renamed_before = errno == ENOENT && fs::exists(file.path);
      if (!renamed_before) ThrowIo(file.path);
    }
  }
  SyncDirectories();
  unlink(options_.journal.c_str());
  SyncDirectory(Parent(options_.journal));
}

void ResumableOutput::Discard(const ResumableOptions& options) {
  for (const ResumableFile& file : options.files) unlink(PartialPath(file.path).c_str());
  unlink(options.journal.c_str());
}

}  // namespace fr
