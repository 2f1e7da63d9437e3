#include "worker/weights/torch_file.h"

#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/python.h"
#include "tests/worker/weights/damage.h"

namespace fr {
namespace {

using Shape = std::vector<std::int64_t>;

std::vector<float> Floats(const HostTensor& tensor) {
  const HostTensor floats = tensor.ToFloat32();
  return {floats.floats().begin(), floats.floats().end()};
}

const HostTensor& At(const HostTensors& tensors, const std::string& name) {
  const HostTensor* tensor = tensors.Find(name);
  if (tensor == nullptr) throw std::runtime_error("no tensor " + name);
  return *tensor;
}

// What the tests read: every type, strides, shared storages, in both formats.
constexpr const char* kMakeFiles = R"(
import collections, torch
base = torch.arange(24.).reshape(2, 3, 4)
types = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int16,
         torch.int32, torch.int64, torch.uint8, torch.bool]
state = collections.OrderedDict()
for t in types:
    state[str(t)] = torch.tensor([0, 1, 3]).to(t)
state['base'] = base
state['row'] = base[1, 1]
state['permuted'] = base.permute(2, 0, 1)
state['stepped'] = base[:, ::2, 1::2]
state['expanded'] = torch.tensor([7.]).expand(3, 2)
state['parameter'] = torch.nn.Parameter(base[0].t())
state['scalar'] = torch.tensor(5)
state['empty'] = torch.zeros(0, 3)
state._metadata = {'': {'version': 1}}
for protocol in (2, 3, 4, 5):
    torch.save(state, f'zip{protocol}.pt', pickle_protocol=protocol)
    torch.save(state, f'legacy{protocol}.pt', pickle_protocol=protocol,
               _use_new_zipfile_serialization=False)
)";

TEST(TorchFile, ReadsBothFormatsInEveryProtocol) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), kMakeFiles);
  for (const char* format : {"zip", "legacy"}) {
    for (const int protocol : {2, 3, 4, 5}) {
      const std::string name = fmt::format("{}{}.pt", format, protocol);
      SCOPED_TRACE(name);
      const HostTensors state = ReadTorchStateDict(directory.path() / name);
      ASSERT_EQ(state.size(), 18U);
      EXPECT_EQ(state.begin()->first, "torch.float32");
      for (const char* type : {"float32", "float64", "float16", "bfloat16", "int8", "int16",
                               "int32", "int64", "uint8"}) {
        const HostTensor& tensor = At(state, fmt::format("torch.{}", type));
        EXPECT_STREQ(DtypeName(tensor.dtype), type);
        EXPECT_EQ(Floats(tensor), (std::vector<float>{0, 1, 3})) << type;
      }
      EXPECT_EQ(Floats(At(state, "torch.bool")), (std::vector<float>{0, 1, 1}));
      EXPECT_EQ(Floats(At(state, "row")), (std::vector<float>{16, 17, 18, 19}));
      EXPECT_EQ(At(state, "permuted").shape, (Shape{4, 2, 3}));
      EXPECT_EQ(Floats(At(state, "permuted"))[7], 5);  // [1, 0, 1]: base[0, 1, 1]
      EXPECT_EQ(Floats(At(state, "stepped")), (std::vector<float>{1, 3, 9, 11, 13, 15, 21, 23}));
      EXPECT_EQ(Floats(At(state, "expanded")), (std::vector<float>(6, 7)));
      EXPECT_EQ(At(state, "parameter").shape, (Shape{4, 3}));
      EXPECT_EQ(Floats(At(state, "parameter"))[1], 4);
      EXPECT_EQ(At(state, "scalar").shape, Shape{});
      EXPECT_EQ(Floats(At(state, "scalar")), std::vector<float>{5});
      EXPECT_EQ(At(state, "empty").numel(), 0);
    }
  }
}

// Every element, strides and all, is where PyTorch says it is.
TEST(TorchFile, StridesAsPyTorchReadsThem) {
  const TemporaryDirectory directory;
  const std::string printed = RunPython(directory.path(), R"(
import torch
x = torch.arange(360.).reshape(2, 3, 4, 5, 3)
torch.save({'x': x.permute(4, 0, 3, 1, 2)[1:, :, ::3, 1:]}, 'x.pt')
print(*[int(v) for v in torch.load('x.pt')['x'].flatten()], sep=' ', end='')
)");
  const HostTensors state = ReadTorchStateDict(directory.path() / "x.pt");
  std::string ours;
  for (const float value : Floats(At(state, "x"))) {
    ours += fmt::format("{}{}", ours.empty() ? "" : " ", value);
  }
  EXPECT_EQ(ours, printed);
}

TEST(TorchFile, FindsTheStateDictInsideACheckpoint) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), R"(
import torch
inner = {'module.fc.weight': torch.ones(2), 'module.fc.bias': torch.zeros(2)}
for key in ('state_dict', 'model', 'state_dict_backbone', 'backbone', 'net'):
    torch.save({'epoch': 3, 'lr': 0.1, 'name': 'r50', 'none': None, 'ok': True, 'big': 2**40,
                'size': torch.Size([2]), 'device': torch.device('cpu'),
                'optimizer': {'state': {0: {'momentum_buffer': torch.ones(2)}}},
                key: inner}, key + '.pt')
torch.save({'model': {'state_dict': inner}}, 'twice.pt')
torch.save({**inner, 'other': torch.ones(1)}, 'mixed.pt')
torch.save({'epoch': 3}, 'none.pt')
torch.save([torch.ones(1)], 'list.pt')
)");
  for (const char* name :
       {"state_dict", "model", "state_dict_backbone", "backbone", "net", "twice"}) {
    const HostTensors state = ReadTorchStateDict(directory.path() / fmt::format("{}.pt", name));
    ASSERT_EQ(state.size(), 2U) << name;
    EXPECT_NE(state.Find("fc.weight"), nullptr);
  }
  // The prefix is DataParallel's only if all have it.
  EXPECT_NE(ReadTorchStateDict(directory.path() / "mixed.pt").Find("module.fc.bias"), nullptr);
  for (const char* name : {"none.pt", "list.pt"}) {
    std::string message;
    EXPECT_EQ(CodeOf([&] { ReadTorchStateDict(directory.path() / name); }, &message),
              ErrorCode::kDataLoss);
    EXPECT_NE(message.find("state_dict()"), std::string::npos) << message;
  }
}

// Whole modules, and whatever else would be imported, are refused by name; nothing runs.
TEST(TorchFile, NothingIsEverExecuted) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), R"(
import builtins, os, torch
class System:
    def __reduce__(self):
        return (os.system, ('touch executed',))
class Eval:
    def __reduce__(self):
        return (builtins.eval, ('open("executed", "w" )',))
class Build(torch.nn.Module):
    pass
evils = {'posix.system': System(), '__builtin__.eval': Eval(), 'Build': Build()}
for name, evil in evils.items():
    for zipped in (True, False):
        torch.save({'w': torch.ones(1), 'evil': evil}, f'{name}{int(zipped)}.pt',
                   _use_new_zipfile_serialization=zipped)
)");
  for (const std::string name : {"posix.system", "__builtin__.eval", "Build"}) {
    for (const int zipped : {0, 1}) {
      std::string message;
      const auto path = directory.path() / fmt::format("{}{}.pt", name, zipped);
      EXPECT_EQ(CodeOf([&] { ReadTorchStateDict(path); }, &message), ErrorCode::kDataLoss);
      EXPECT_NE(message.find(name), std::string::npos) << message;
      EXPECT_NE(message.find("save model.state_dict()"), std::string::npos) << message;
    }
  }
  EXPECT_FALSE(std::filesystem::exists(directory.path() / "executed"));
}

// Pickles written by hand, in a zip file that is whole.
TEST(TorchFile, HostilePicklesAreRefused) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), R"(
import struct, zipfile
def tensor(size, stride, offset=0, numel=b'K\x04', key=b'0', storage=b'FloatStorage'):
    def ints(values):
        return b'(' + b''.join(b'\x8a\x08' + struct.pack('<q', v) for v in values) + b't'
    return (b'ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n' + storage +
            b'\nU\x01' + key + b'U\x03cpu' + numel + b'tQ' + b'\x8a\x08' + struct.pack('<q', offset) +
            ints(size) + ints(stride) + b'\x89ccollections\nOrderedDict\n)RtR')
def entry(value): return b'\x80\x02}U\x01w' + value + b's.'
big = 2**62
pickles = {
    'good': entry(tensor([2, 2], [2, 1])),
    'marks': b'\x80\x02' + b'(' * 10**6 + b'.',
    'many_marks': b'\x80\x02' + b'(' * (5 * 10**6) + b'.',
    'nested_lists': b'\x80\x02' + b']' * 10**6 + b'a' * (10**6 - 1) + b'.',
    'values': b'\x80\x02(' + b'N' * (5 * 10**6) + b't.',
    'memo_bomb': b'\x80\x02](NNNNNNNNe' + b''.join(b'q\x00(' + b'h\x00' * 8 + b'l' for _ in range(1000)) + b'.',
    'memo_slots': b'\x80\x02N' + b''.join(b'r' + struct.pack('<I', i) for i in range(5 * 10**6)) + b'.',
    'pairs_bomb': b'\x80\x02ccollections\nOrderedDict\nq\x000](' + b'](NNe' * 1000 + b'e\x85q\x01' +
                  b'(' + b'h\x00h\x01R' * 10000 + b't.',
    'huge_string': b'\x80\x02\x8e' + b'\xff' * 8 + b'.',
    'huge_text': b'\x80\x02X' + b'\xff' * 4 + b'.',
    'long_integer': b'\x80\x02\x8a\x10' + b'\x7f' * 16 + b'.',
    'outside': entry(tensor([5], [1])),
    'offset': entry(tensor([4], [1], offset=1)),
    'negative_offset': entry(tensor([1], [1], offset=-1)),
    'negative_stride': entry(tensor([2], [-1], offset=1)),
    'negative_size': entry(tensor([-1], [1])),
    'overflow': entry(tensor([big, 4], [4, 1])),
    'overflow_stride': entry(tensor([3], [big])),
    'overflow_offset': entry(tensor([1], [1], offset=2**63 - 1)),
    'expanded_bomb': entry(tensor([2**30, 2**8], [0, 0])),
    'ranks': entry(tensor([1], [1, 1])),
    'many_dimensions': entry(tensor([1] * 100, [1] * 100)),
    'storage_size': entry(tensor([1], [1], numel=b'K\x05')),
    'negative_storage': entry(tensor([1], [1], numel=b'J\xff\xff\xff\xff')),
    'no_storage': entry(tensor([1], [1], key=b'7')),
    'no_type': entry(tensor([1], [1], storage=b'Size')),
    'cyclic_dict': b'\x80\x02}q\x00U\x05modelh\x00s.',
    'cyclic_parameter': entry(b'ctorch._utils\n_rebuild_parameter\n]q\x00ctorch._utils\n_rebuild_parameter\nh\x00R\x85R'),
    'call_of_value': b'\x80\x02N)R.',
    'build_on_tensor': entry(tensor([1], [1]) + b'}b'),
    'inst': b'\x80\x02(ios\nsystem\n.',
    'obj': b'\x80\x02(cos\nsystem\no.',
    'newobj': b'\x80\x02cos\nsystem\n)\x81.',
    'stack_global': b'\x80\x04\x8c\x02os\x8c\x06system\x93.',
    'dotted': b'\x80\x02ctorch\n_utils._rebuild_tensor_v2\n.',
    'extension': b'\x80\x02\x82\x01.',
    'odd_dict': b'\x80\x02(Nd.',
    'persid_line': b'\x80\x02Pos.system\n.',
    'empty': b'',
    'only_stop': b'.',
}
for name, data in pickles.items():
    # data.pkl comes first, and the storage has four floats
    with zipfile.ZipFile(name + '.pt', 'w', zipfile.ZIP_STORED) as z:
        z.writestr('archive/data.pkl', data)
        z.writestr('archive/data/0', struct.pack('<4f', 1, 2, 3, 4))
open('names', 'w').write(' '.join(pickles))
)");
  std::istringstream names(ReadFile(directory.path() / "names"));
  std::string name;
  int refused = 0;
  while (names >> name) {
    const auto path = directory.path() / (name + ".pt");
    std::string message;
    const ErrorCode code = CodeOf([&] { ReadTorchStateDict(path); }, &message);
    if (name == "good") {
      EXPECT_EQ(code, ErrorCode::kInternal) << message;
      EXPECT_EQ(Floats(*ReadTorchStateDict(path).Find("w")), (std::vector<float>{1, 2, 3, 4}));
      continue;
    }
    EXPECT_EQ(code, ErrorCode::kDataLoss) << name << ": " << message;
    EXPECT_NE(message.find(name + ".pt"), std::string::npos) << message;
    ++refused;
  }
  EXPECT_GT(refused, 35);
}

TEST(TorchFile, ZipFilesThatAreNotTorchsAreRefused) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), R"(
import torch, zipfile
torch.save({'w': torch.ones(100)}, 'good.pt')
good = zipfile.ZipFile('good.pt')
def rewrite(name, compression=zipfile.ZIP_STORED, change=lambda n, data: data):
    with zipfile.ZipFile(name, 'w', compression) as z:
        for n in good.namelist():
            z.writestr(n, change(n, good.read(n)))
rewrite('deflated.pt', zipfile.ZIP_DEFLATED)
rewrite('big_endian.pt', change=lambda n, d: b'big' if n.endswith('byteorder') else d)
rewrite('short.pt', change=lambda n, d: d[:-1] if n.endswith('data/0') else d)
with zipfile.ZipFile('no_pickle.pt', 'w') as z:
    z.writestr('a/b', 'c')
with zipfile.ZipFile('empty.pt', 'w') as z:
    pass
torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), 'script.pt')
torch.serialization.set_crc32_options(False)
torch.save({'w': torch.ones(100)}, 'no_crc.pt')
with zipfile.ZipFile('zip64.pt', 'w') as z:
    for n in good.namelist():
        with z.open(n, 'w', force_zip64=True) as f:
            f.write(good.read(n))
)");
  const auto message = [&](const char* name) {
    std::string text;
    EXPECT_EQ(CodeOf([&] { ReadTorchStateDict(directory.path() / name); }, &text),
              ErrorCode::kDataLoss)
        << name;
    return text;
  };
  EXPECT_NE(message("deflated.pt").find("compressed"), std::string::npos);
  EXPECT_NE(message("big_endian.pt").find("big-endian"), std::string::npos);
  EXPECT_NE(message("short.pt").find("399 bytes where 400"), std::string::npos);
  EXPECT_NE(message("no_pickle.pt").find("data.pkl"), std::string::npos);
  EXPECT_NE(message("empty.pt").find("zip"), std::string::npos);
  EXPECT_NE(message("script.pt").find("TorchScript"), std::string::npos);
  EXPECT_EQ(ReadTorchStateDict(directory.path() / "no_crc.pt").size(), 1U);
  EXPECT_EQ(ReadTorchStateDict(directory.path() / "zip64.pt").size(), 1U);
  EXPECT_EQ(CodeOf([&] { ReadTorchStateDict(directory.path() / "absent.pt"); }),
            ErrorCode::kNotFound);
  EXPECT_EQ(CodeOf([&] { ReadTorchStateDict(directory.path()); }), ErrorCode::kIo);
}

// A changed weight is noticed, by the checksum that PyTorch wrote.
TEST(TorchFile, AChangedWeightIsNoticed) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), "import torch; torch.save({'w': torch.ones(4)}, 'w.pt')");
  std::string bytes = ReadFile(directory.path() / "w.pt");
  const std::size_t at = bytes.find(std::string("\0\0\x80\x3f\0\0\x80\x3f", 8));
  ASSERT_NE(at, std::string::npos);
  bytes[at] = '\1';
  WriteBytes(directory.path() / "w.pt", bytes);
  std::string message;
  EXPECT_EQ(CodeOf([&] { ReadTorchStateDict(directory.path() / "w.pt"); }, &message),
            ErrorCode::kDataLoss);
  EXPECT_NE(message.find("checksum"), std::string::npos) << message;
}

TEST(TorchFile, DamageNeverCrashes) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), R"(
import torch
state = {'a': torch.arange(6.).reshape(2, 3).t(), 'b': torch.nn.Parameter(torch.ones(2).half())}
torch.save({'state_dict': state, 'epoch': 1}, 'legacy.pt', _use_new_zipfile_serialization=False)
# Without checksums, so that damage comes through to the pickle.
torch.serialization.set_crc32_options(False)
torch.save({'state_dict': state, 'epoch': 1}, 'zip.pt')
)");
  const auto read = [](const std::filesystem::path& path) {
    for (const auto& [name, tensor] : ReadTorchStateDict(path)) tensor.ToFloat32();
  };
  ExpectBearsDamage(directory.path() / "zip.pt", read, /*needs_end=*/true, 2500);
  ExpectBearsDamage(directory.path() / "legacy.pt", read, /*needs_end=*/true, 2500);
}

}  // namespace
}  // namespace fr
