#pragma once
// The members of a tar archive in memory: POSIX ustar and pax, GNU's long names and large sizes.

#include <cstdint>
#include <string>
#include <string_view>

namespace fr {

struct TarMember {
  std::string name;          // with folders, as it was written
  bool is_file = false;      // a regular one, not a folder or link
  std::uint64_t offset = 0;  // of the content
  std::string_view content;  // into the archive
};

// Goes through an archive from its beginning. Extended headers are followed (path and size of pax,
// GNU's long names), members of other kinds are told by is_file.
class TarReader {
 public:
  // `file` is named in errors. The bytes must outlive the reader and its members.
  TarReader(std::string_view archive, std::string file)
      : archive_(archive), file_(std::move(file)) {}

  // The next member; false at the end, which is a block of zeros or that of the bytes. Throws
  // Error(kDataLoss), naming file and byte, for a header that is none (its checksum tells), for
  // what is cut off, and for sparse files, whose content is not what is stored.
  bool Next(TarMember* member);

 private:
  struct Header;
  [[noreturn]] void Fail(std::uint64_t at, const std::string& what) const;
  Header ReadHeader();
  void ReadPaxRecords(std::string_view records, std::uint64_t at, Header* header) const;

  std::string_view archive_;
  std::string file_;
  std::uint64_t at_ = 0;
};

}  // namespace fr
