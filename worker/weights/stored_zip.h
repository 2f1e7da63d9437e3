#pragma once
// Zip files whose entries are stored, not compressed: what torch.save writes.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace fr {

// Understands zip64. Refers to the file's bytes, which must outlive it.
class StoredZip {
 public:
  // Reads the directory at the end. Throws Error(kDataLoss) for a damaged one, naming `file` and
  // the entry.
  StoredZip(std::string_view bytes, std::string file);

  // The bytes of an entry; its checksum is verified if the writer recorded one (torch may be told
  // not to). Throws Error(kDataLoss), also for one that is compressed or encrypted.
  std::string_view Read(const std::string& name) const;

  struct Entry {
    std::string_view bytes;
    std::uint32_t crc32 = 0;  // 0: not recorded
    bool plain = true;        // neither compressed nor encrypted
  };
  const std::map<std::string, Entry>& entries() const { return entries_; }

 private:
  struct Directory;
  Directory FindDirectory() const;
  void ReadZip64(std::size_t end_record, Directory* directory) const;
  void ReadEntries(const Directory& directory);
  std::string_view DataOf(std::uint64_t header, std::uint64_t size, std::string_view name) const;

  std::string_view bytes_;
  std::string file_;
  std::map<std::string, Entry> entries_;
};

}  // namespace fr
