#include "worker/data/pickle.h"

#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "tests/temporary_directory.h"
#include "tests/worker/python.h"
#include "worker/data/verification_pairs.h"
#include "worker/data/verification_set.h"

namespace fr {
namespace {

// What Python writes, in every protocol that can hold bytes, is read; LFW's originals are protocol
// 2 from Python 2, whose str opcodes the hand-made file below has.
TEST(Pickle, ReadsWhatPythonWrites) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), R"(
import pickle
long = bytes(range(256)) * 300
for protocol in (3, 4, 5):
    pair = ([b"a", b"", long, long], [True, False])
    pickle.dump(pair, open(f"{protocol}.bin", "wb"), protocol=protocol)
    pickle.dump(([bytearray(b"a"), b"b"], (1,)), open(f"b{protocol}.bin", "wb"), protocol=protocol)
)");
  for (const int protocol : {3, 4, 5}) {
    const auto set = VerificationSet::Open(directory.path() / fmt::format("{}.bin", protocol));
    ASSERT_EQ(set.num_pairs(), 2);
    EXPECT_EQ(set.image(0), "a");
    EXPECT_EQ(set.image(1), "");
    EXPECT_EQ(set.image(2).size(), 256U * 300);
    EXPECT_EQ(set.image(3), set.image(2));
    EXPECT_EQ(set.same(), (std::vector<std::uint8_t>{1, 0}));
  }
  EXPECT_EQ(VerificationSet::Open(directory.path() / "b5.bin").image(0), "a");
}

TEST(Pickle, ReadsPythonTwosProtocols) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "two.bin";
  // Protocol 2: ([str, str], [True]) with memo, as cPickle wrote it.
  using std::string_literals::operator""s;
  WriteFileAtomically(path,
                      "\x80\x02]q\x01(U\x02"
                      "abq\x02T\x03\0\0\0"
                      "cdeq\x03"
                      "e]q\x04\x88"
                      "a\x86q\x05."s);
  const auto set = VerificationSet::Open(path);
  EXPECT_EQ(set.image(0), "ab");
  EXPECT_EQ(set.image(1), "cde");
  // Protocol 0's booleans and lists.
  const Pickle old = ReadPickle("(lp0\nI01\naI00\naL5L\na.");
  ASSERT_EQ(old.values[old.root].items.size(), 3U);
  EXPECT_EQ(old.values[old.values[old.root].items[0]].number, 1);
}

// The other way round: Python reads what we write.
TEST(Pickle, PythonReadsWhatWeWrite) {
  const TemporaryDirectory directory;
  WriteFileAtomically(directory.path() / "ours.bin",
                      WritePickle({"one", std::string("\0\xff", 2)}, {true}));
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
      EXPECT_NE(std::string(error.what()).find("opcode"), std::string::npos) << error.what();
    }
  }
  EXPECT_FALSE(std::filesystem::exists(directory.path() / "executed"));
}

// Cut anywhere, or with any byte changed, it is an error or another value, never a crash.
TEST(Pickle, DamageNeverCrashes) {
  const std::string whole = WritePickle({"one", "two", "three", "four"}, {true, false});
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
  EXPECT_EQ(code(WritePickle({"one"}, {true})), ErrorCode::kDataLoss);
  EXPECT_EQ(code(WritePickle({}, {})), ErrorCode::kDataLoss);
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
