#include "worker/data/shards/tar_reader.h"

#include <ostream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/python.h"
#include "worker/data/shards/tar_format.h"

namespace fr {
namespace {

using testing::HasSubstr;

struct Entry {
  std::string name;
  bool is_file = false;
  std::string content;

  bool operator==(const Entry&) const = default;
  friend void PrintTo(const Entry& entry, std::ostream* out) {
    *out << entry.name << (entry.is_file ? ": " : " (no file): ") << entry.content.size()
         << " bytes";
  }
};

std::vector<Entry> Entries(std::string_view archive) {
  TarReader reader(archive, "some.tar");
  std::vector<Entry> entries;
  TarMember member;
  while (reader.Next(&member)) {
    EXPECT_EQ(archive.substr(member.offset, member.content.size()), member.content);
    entries.push_back({member.name, member.is_file, std::string(member.content)});
  }
  return entries;
}

std::string ErrorOf(std::string_view archive) {
  try {
    Entries(archive);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), HasSubstr("some.tar: byte "));
    return error.what();
  }
  return "none";
}

// One file, its header as ustar has it; fields can be replaced.
std::string Archive(const std::string& content, const tar_format::Field& field = {},
                    const std::string& value = "", char kind = '0') {
  std::string header(512, '\0');
  header.replace(0, 5, "a.jpg");
  header.replace(124, 11, fmt::format("{:011o}", content.size()));
  header[156] = kind;
  header.replace(field.offset, value.size(), value);
  header.replace(148, 6, fmt::format("{:06o}", tar_format::ChecksumOfHeader(header)));
  return header + content + std::string((512 - content.size() % 512) % 512, '\0');
}

// The three formats, with names of every length: prefix of ustar, records of pax, GNU's members.
TEST(TarReader, ReadsWhatPythonWrites) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), R"(
import io, tarfile
names = ["a.jpg", "n" * 100, "d/" * 60 + "b.jpg", "ü.cls"]
for name, format in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT),
                     ("pax", tarfile.PAX_FORMAT)):
    with tarfile.open(name + ".tar", "w", format=format) as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "k" * (90 if name == "ustar" else 300)
        tar.addfile(link)
        for member in names if name == "ustar" else names + ["l" * 400 + ".jpg"]:
            info = tarfile.TarInfo(member)
            info.size = len(member) * 100
            tar.addfile(info, io.BytesIO(b"x" * info.size))
)");
  for (const std::string format : {"ustar", "gnu", "pax"}) {
    std::string deep;
    for (int i = 0; i < 60; ++i) deep += "d/";
    std::vector<std::string> names = {"a.jpg", std::string(100, 'n'), deep + "b.jpg",
                                      "\xc3\xbc.cls"};
    if (format != "ustar") names.push_back(std::string(400, 'l') + ".jpg");
    std::vector<Entry> expected = {{"folder/", false, ""}, {"link.jpg", false, ""}};
    for (const std::string& name : names) {
      const std::size_t characters = name.size() - (name.starts_with("\xc3") ? 1 : 0);
      expected.push_back({name, true, std::string(characters * 100, 'x')});
    }
    EXPECT_EQ(Entries(ReadFile(directory.path() / (format + ".tar"))), expected) << format;
  }
}

// The end may be blocks of zeros, with anything behind them, or that of the file.
TEST(TarReader, TheEndIsABlockOfZerosOrThatOfTheFile) {
  const std::string file = Archive("content");
  const std::vector<Entry> one = {{"a.jpg", true, "content"}};
  EXPECT_EQ(Entries(""), std::vector<Entry>());
  EXPECT_EQ(Entries(file), one);
  EXPECT_EQ(Entries(file + std::string(512, '\0')), one);
  EXPECT_EQ(Entries(file + std::string(1024, '\0') + "rubbish"), one);
}

TEST(TarReader, ReadsSizesInOctalWithBlanksAndInBase256) {
  using std::string_literals::operator""s;
  const tar_format::Field size = tar_format::kSize;
  EXPECT_EQ(Entries(Archive("content", size, "        7 \0\0"s))[0].content, "content");
  EXPECT_EQ(Entries(Archive("content", size, "\x80\0\0\0\0\0\0\0\0\0\0\x07"s))[0].content,
            "content");
  // More than there is; more than 64 bits; negative; no number.
  for (const std::string& lie :
       {"77777777777\0"s, "\x80\0\0\0\0\0\0\x01\0\0\0\0"s, "\x80\x01\x01\x01\x01\x01\x01\x01\x01"s,
        std::string(12, '\xff'), "12x45678901\0"s, "-0000000001\0"s}) {
    EXPECT_NE(ErrorOf(Archive("content", size, lie)), "none") << lie;
  }
}

TEST(TarReader, DamageIsNamed) {
  const std::string file = Archive(std::string(1000, 'x'));
  EXPECT_THAT(ErrorOf(file.substr(0, 100)), HasSubstr("a header is cut off"));
  EXPECT_THAT(ErrorOf(file.substr(0, 1511)), HasSubstr("the content is cut off"));
  EXPECT_EQ(ErrorOf(file.substr(0, 1512)), "none");  // without its padding
  std::string other = file;
  other[3] ^= 1;
  EXPECT_THAT(ErrorOf(other),
              HasSubstr("byte 0 of the tar archive: a header with a wrong checksum"));
  EXPECT_THAT(ErrorOf(file + "x"), HasSubstr("byte 1536 of the tar archive"));
  EXPECT_THAT(ErrorOf(Archive("", {}, "", 'S')), HasSubstr("sparse"));
}

TEST(TarReader, AnExtendedHeaderThatLiesIsNamed) {
  for (const char* records :
       {"11 path=ab", "99 path=ab\n", "0 path=ab\n", "3 \n", "x path=ab\n", "11path=abc\n",
        "99999999999999999999999 path=ab\n", "15 size=1234x67\n", "24 GNU.sparse.major=1.0\n"}) {
    EXPECT_NE(ErrorOf(Archive(records, {}, "", 'x') + Archive("content")), "none") << records;
  }
  EXPECT_EQ(Entries(Archive("12 path=abc\n", {}, "", 'x') + Archive("content"))[0].name, "abc");
  EXPECT_EQ(Entries(Archive("9 size=3\n", {}, "", 'x') + Archive("content"))[0].content, "con");
}

}  // namespace
}  // namespace fr
