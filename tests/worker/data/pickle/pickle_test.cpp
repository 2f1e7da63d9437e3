#include "worker/data/pickle/pickle.h"

#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/python.h"
#include "worker/data/verification/verification_pairs.h"
#include "worker/data/verification/verification_set.h"
#include "worker/data/verification/verification_set_writer.h"

namespace fr {
namespace {

// Pairs of images in a row, all of one identity but every other pair.
void WriteOurs(const std::filesystem::path& path, const std::vector<std::string>& images) {
  std::vector<VerificationPair> pairs;
  for (std::int64_t i = 0; i < std::ssize(images); i += 2) pairs.push_back({i, i + 1, i % 4 == 0});
  WriteVerificationSet(path, pairs,
                       [&images](std::int64_t i) { return images[static_cast<std::size_t>(i)]; });
}

// The other way round: Python reads what we write.
TEST(Pickle, PythonReadsWhatWeWrite) {
  const TemporaryDirectory directory;
  WriteOurs(directory.path() / "ours.bin", {"one", std::string("\0\xff", 2)});
  EXPECT_EQ(
      RunPython(directory.path(), "import pickle; print(pickle.load(open('ours.bin', 'rb')))"),
      "([b'one', b'\\x00\\xff'], [True])\n");
}

// A pickle that would run something is refused before anything is run.
TEST(Pickle, NothingIsEverExecuted) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), R"(
import os, pickle
class Evil:
    def __reduce__(self):
        return (os.system, ("touch executed",))
for protocol in range(6):
    pickle.dump(([Evil(), b"b"], [True]), open(f"{protocol}.bin", "wb"), protocol=protocol)
)");
  for (int protocol = 0; protocol < 6; ++protocol) {
    const auto path = directory.path() / fmt::format("{}.bin", protocol);
    try {
      VerificationSet::Open(path);
      FAIL() << protocol;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
      EXPECT_NE(std::string(error.what()).find("which is not executed"), std::string::npos)
          << error.what();
    }
  }
  EXPECT_FALSE(std::filesystem::exists(directory.path() / "executed"));
}

TEST(Pickle, ReadsProtocolZerosText) {
  const auto text = [](const std::string& line) {
    const Pickle pickle = ReadPickle(line + "\n.");
    return std::string(pickle.values[pickle.root].bytes);
  };
  EXPECT_EQ(text(R"(S'it\'s \x41\101\n\q')"), "it's AA\n\\q");
  EXPECT_EQ(text(R"(S"'")"), "'");
  EXPECT_EQ(text("Va\xff"), "a\xc3\xbf");
  EXPECT_EQ(text(R"(V\u00ff\u20ac\U0001f600\\u0041\n)"), "\xc3\xbf\u20ac\U0001f600\\\\u0041\\n");
  for (const char* line : {"S", "S'", "Sab", "S'a\"", R"(S'\x4')", R"(S'\')", R"(V\u00f)",
                           "V\\uzzzz", R"(V\U00110000)"}) {
    EXPECT_THROW(text(line), Error) << line;
  }
}

// Text that is remembered and turned into bytes again and again would fill the memory.
TEST(Pickle, ASmallPickleDoesNotDecodeToALargeOne) {
  std::string pickle = "\x80\x02(c_codecs\nencode\nq\x01X";
  const std::string text(10'000, 'x');
  const auto size = static_cast<std::uint32_t>(text.size());
  pickle.append(reinterpret_cast<const char*>(&size), 4);
  pickle += text + "q\x02X\x06" + std::string(3, '\0') + "latin1q\x03";
  for (int i = 0; i < 1'000; ++i) pickle += "h\x01h\x02h\x03\x86R";
  EXPECT_THROW(ReadPickle(pickle + "t.", {kNamesOfBytes, ""}), Error);
}

// Cut anywhere, or with any byte changed, it is an error or another value, never a crash.
TEST(Pickle, DamageNeverCrashes) {
  const TemporaryDirectory directory;
  WriteOurs(directory.path() / "ours.bin", {"one", "two", "three", "four"});
  const std::string whole = ReadFile(directory.path() / "ours.bin");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(ReadPickle(whole.substr(0, size)), Error) << size;
  }
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(byte);
      try {
        ReadPickle(damaged);
      } catch (const Error&) {
      }
    }
  }
}

TEST(VerificationSet, SaysWhatIsWrongWithAFile) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "set.bin";
  const auto code = [&path](const std::string& bytes) {
    WriteFileAtomically(path, bytes);
    try {
      VerificationSet::Open(path);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("set.bin"), std::string::npos);
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code(""), ErrorCode::kDataLoss);
  EXPECT_EQ(code("\x80\x03]."), ErrorCode::kDataLoss);
  // One image to one boolean; and none to none.
  EXPECT_EQ(code("\x80\x03](C\x03"
                 "onee](\x88"
                 "e\x86."),
            ErrorCode::kDataLoss);
  EXPECT_EQ(code("\x80\x03](e](e\x86."), ErrorCode::kDataLoss);
  std::filesystem::remove(path);
  EXPECT_THROW(VerificationSet::Open(path), Error);
}

// Both kinds in equal number and in turn, no pair twice, no image with itself.
TEST(MakePairs, BothKindsInTurn) {
  const auto pairs = MakePairs({10, 10, 3, 1}, 60, 7);
  ASSERT_EQ(pairs.size(), 60U);
  const auto owner = [](std::int64_t image) {
    return image < 10 ? 0 : image < 20 ? 1 : image < 23 ? 2 : 3;
  };
  std::set<std::pair<std::int64_t, std::int64_t>> seen;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    EXPECT_EQ(pairs[i].same, i % 2 == 0);
    EXPECT_EQ(pairs[i].same, owner(pairs[i].first) == owner(pairs[i].second));
    EXPECT_LT(pairs[i].first, pairs[i].second);
    EXPECT_TRUE(seen.insert({pairs[i].first, pairs[i].second}).second);
  }
  EXPECT_EQ(MakePairs({10, 10, 3, 1}, 1'000'000, 7).size(), 2U * (45 + 45 + 3));
  EXPECT_THROW(MakePairs({2, 2}, 100, 1), Error);
}

}  // namespace
}  // namespace fr
