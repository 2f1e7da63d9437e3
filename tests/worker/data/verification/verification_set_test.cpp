#include "worker/data/verification/verification_set.h"

#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/python.h"

namespace fr {
namespace {

std::vector<std::string> Images(const VerificationSet& set) {
  std::vector<std::string> images;
  for (std::int64_t i = 0; i < set.num_images(); ++i) images.emplace_back(set.image(i));
  return images;
}

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// Every protocol of Python 3, lists and tuples, bytes and bytearrays, booleans and numbers; the
// flags also as numpy's scalars and array, the images also as numpy's arrays.
TEST(VerificationSet, ReadsWhatPythonWrites) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), R"(
import pickle, numpy
long = bytes(range(256)) * 300
images, same = [b"a", b"", long, long], [True, False]
kinds = {
    "list": (images, same),
    "tuple": (tuple(images), (1, 0)),
    "outer_list": [images, same],
    "bytearray": ([bytearray(image) for image in images], same),
    "scalars": (images, [numpy.bool_(True), numpy.bool_(False)]),
    "array": (images, numpy.array(same)),
    "arrays": ([numpy.frombuffer(image, numpy.uint8).copy() for image in images], same),
    "read_only": ([numpy.frombuffer(image, numpy.uint8) for image in images], same),
}
for name, pair in kinds.items():
    for protocol in range(6):
        content = pickle.dumps(pair, protocol)
        open(f"{name}{protocol}.bin", "wb").write(content)
        # As numpy 1 names it, where the protocol has no lengths.
        if protocol < 4:
            open(f"{name}{protocol}old.bin", "wb").write(content.replace(b"numpy._core", b"numpy.core"))
)");
  std::string all;
  for (int i = 0; i < 256 * 300; ++i) all.push_back(static_cast<char>(i % 256));
  int files = 0;
  for (const auto& file : std::filesystem::directory_iterator(directory.path())) {
    if (file.path().extension() != ".bin") continue;
    ++files;
    const auto set = VerificationSet::Open(file.path());
    ASSERT_EQ(set.num_pairs(), 2) << file.path();
    EXPECT_EQ(Images(set), (std::vector<std::string>{"a", "", all, all})) << file.path();
    EXPECT_EQ(set.same(), (std::vector<std::uint8_t>{1, 0})) << file.path();
  }
  EXPECT_EQ(files, 8 * (6 + 4));
}

// (["it's \"\n\x00\xff\\", "", "x\tx\t", "b"], [True, False]) as Python 2.7 writes it: LFW's and
// the other originals are protocol 2 of it.
TEST(VerificationSet, ReadsWhatPythonTwoWrote) {
  const std::vector<std::string> pickles = {
      // pickle, protocols 0 to 2
      "28286c70300a532769745c277320225c6e5c7830305c7866665c5c270a70310a615327270a70320a615327785c74"
      "785c74270a70330a61532762270a70340a61286c70350a4930310a614930300a617470360a2e",
      "285d710028550a6974277320220a00ff5c71015500710255047809780971035501627104655d7105284930310a49"
      "30300a657471062e",
      "80025d710028550a6974277320220a00ff5c71015500710255047809780971035501627104655d71052888896586"
      "71062e",
      // cPickle, protocols 0 to 2
      "28286c70310a532769745c277320225c6e5c7830305c7866665c5c270a70320a615327270a615327785c74785c74"
      "270a70330a61532762270a61286c70340a4930310a614930300a617470350a2e",
      "285d710128550a6974277320220a00ff5c710255005504780978097103550162655d7104284930310a4930300a65"
      "7471052e",
      "80025d710128550a6974277320220a00ff5c710255005504780978097103550162655d710428888965867105"
      "2e"};
  using std::string_literals::operator""s;
  for (const std::string& hex : pickles) {
    const std::string bytes = FromHex(hex);
    const auto set = VerificationSet::Parse(bytes, "two.bin");
    EXPECT_EQ(Images(set), (std::vector<std::string>{"it's \"\n\0\xff\\"s, "", "x\tx\t", "b"}))
        << hex;
    EXPECT_EQ(set.same(), (std::vector<std::uint8_t>{1, 0}));
  }
}

// Python 2.7's bytearrays: ([bytearray("a\xff"), bytearray()], [1]), protocols 2 and 0.
TEST(VerificationSet, ReadsPythonTwosBytearrays) {
  for (const char* hex :
       {"80025d710028635f5f6275696c74696e5f5f0a6279746561727261790a7101580300000061c3bf710255076c61"
        "74696e2d31710386710452710568015800000000710655076c6174696e2d317107867108527109655d710a4b01"
        "6186710b2e",
        "28286c70300a635f5f6275696c74696e5f5f0a6279746561727261790a70310a285661ff0a70320a53276c6174"
        "696e2d31270a70330a7470340a5270350a6167310a28560a70360a53276c6174696e2d31270a70370a7470380a"
        "5270390a61286c7031300a49310a61747031310a2e"}) {
    const std::string bytes = FromHex(hex);
    EXPECT_EQ(Images(VerificationSet::Parse(bytes, "two.bin")),
              (std::vector<std::string>{"a\xff", ""}));
  }
}

// Arrays of other types and shapes, and arrays that lie, are no images and no flags.
TEST(VerificationSet, RefusesOtherArrays) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), R"(
import pickle, numpy
def image(array):
    return [array, b"b"], [True]
def flags(array):
    return [b"a", b"b"], array
pairs = [image(numpy.zeros((2, 2), numpy.uint8)), image(numpy.zeros(4, numpy.int32)),
         image(numpy.zeros(4, bool)), image(numpy.bool_(True)), image(numpy.uint8(3)),
         flags(numpy.zeros(1, numpy.int64)), flags(numpy.array([[True]])), flags([numpy.float32(1)]),
         flags(numpy.array([2], numpy.uint8)), flags([None]), flags([2]), flags("a"), flags({}),
         image({}), image([b"a"])]
for i, pair in enumerate(pairs):
    for protocol in (2, 4, 5):
        pickle.dump(pair, open(f"{i}_{protocol}.bin", "wb"), protocol)
lie = pickle.dumps(image(numpy.zeros(77, numpy.uint8)), 2)
assert lie.count(b"K\x4d") == 1
open("lie.bin", "wb").write(lie.replace(b"K\x4d", b"K\x4e"))
)");
  for (const auto& file : std::filesystem::directory_iterator(directory.path())) {
    if (file.path().extension() != ".bin") continue;
    EXPECT_THROW(VerificationSet::Open(file.path()), Error) << file.path();
  }
}

// A name is refused wherever it stands, whatever it is called with.
TEST(VerificationSet, RefusesEveryOtherName) {
  for (const std::string name : {"os\nsystem", "builtins\neval", "builtins\nbytes\nx",
                                 "numpy\nfromfile", "numpy.core.multiarray\nfromfile"}) {
    const std::string bytes = "\x80\x02c" + name + "\n(S'x'\ntR.";
    EXPECT_THROW(VerificationSet::Parse(bytes, "evil.bin"), Error) << name;
  }
}

}  // namespace
}  // namespace fr
