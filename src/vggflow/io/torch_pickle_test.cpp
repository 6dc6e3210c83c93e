// Files of tools/reference/torch_pickle_reference.py (testdata/protocol*.pth), and hostile ones
// made here instruction by instruction.
#include "vggflow/io/torch_pickle.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"
#include "vggflow/io/weights_file.h"
#include "vggflow/io/zip.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/stored_zip.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::raw;
using testing::zip_of;
using Entries = testing::ZipEntries;

TensorList read_bytes(std::string bytes) {
  return read_torch_pickle(MappedFile::of_bytes(std::move(bytes), "test"));
}

// ---- pickle instructions
// ------------------------------------------------------------------------------------------------

std::string text(const std::string& s) {
  return std::string("X").append(raw(static_cast<uint32_t>(s.size()))).append(s);
}
std::string integer(int64_t v) { return std::string("\x8a\x08", 2) + raw(v); }
std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
std::string tuple(const std::vector<std::string>& items) {
  std::string out = "(";
  for (const auto& item : items) out += item;
  return out + "t";
}
std::string counts(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t v : values) items.push_back(integer(v));
  return tuple(items);
}
std::string storage(int64_t numel, const std::string& type = "FloatStorage",
                    const std::string& key = "0") {
  return tuple(
             {text("storage"), global("torch", type), text(key), text("cuda:0"), integer(numel)}) +
         "Q";
}
std::string tensor(const std::string& from, int64_t offset, const std::vector<int64_t>& size,
                   const std::vector<int64_t>& stride) {
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple({from, integer(offset), counts(size), counts(stride), "\x89",
                global("collections", "OrderedDict") + ")R"}) +
         "R";
}
std::string dictionary(const std::string& value, const std::string& key = text("a")) {
  return "}" + key + value + "s";
}

// A file with this program and one storage of 8 floats.
std::string file_with(const std::string& program) {
  return zip_of({{"archive/data.pkl", std::string("\x80\x02").append(program)},
                 {"archive/data/0", std::string(32, '\0')},
                 {"archive/data/b", "\x01\x02"}});
}
TensorList run(const std::string& program) { return read_bytes(file_with(program + ".")); }
std::string refusal(const std::string& program) {
  return message_of([&] { run(program); });
}

const std::filesystem::path kData =
    std::filesystem::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/io/testdata";

class TorchPickleFiles : public ::testing::TestWithParam<const char*> {
 protected:
  static Tensor get(const TensorList& all, const std::string& name) {
    for (const auto& [key, tensor] : all) {
      if (key == name) return tensor;
    }
    ADD_FAILURE() << "no tensor " << name;
    return at::empty({0});
  }
};
INSTANTIATE_TEST_SUITE_P(Protocols, TorchPickleFiles,
                         ::testing::Values("protocol2.pth", "protocol4.pth"));

// Whatever the file is called: inspect lists what torch.save wrote as it lists safetensors files.
TEST_P(TorchPickleFiles, AreListedByNameTypeAndShape) {
  const testing::TemporaryFolder folder;
  for (const char* name : {"a.pt", "a.safetensors", "a"}) {
    std::filesystem::copy_file(kData / GetParam(), folder / name);
    const WeightsListing listing = list_weights(folder / name);
    ASSERT_EQ(listing.tensors.size(), 17u) << name;
    EXPECT_EQ(listing.tensors.front().name, "state_dict.whole");
    EXPECT_EQ(listing.tensors.front().dtype, at::kFloat);
    EXPECT_EQ(listing.tensors.front().shape, (std::vector<int64_t>{3, 4}));
  }
  write_safetensors(folder / "b.pt", {{"w", at::ones({2, 5}, at::kHalf)}}, {{"made", "here"}});
  const WeightsListing plain = list_weights(folder / "b.pt");
  ASSERT_EQ(plain.tensors.size(), 1u);
  EXPECT_EQ(plain.tensors[0].dtype, at::kHalf);
  EXPECT_EQ(plain.metadata.at("made"), "here");
}

TEST_P(TorchPickleFiles, GiveEveryTensorOfTorchSave) {
  const TensorList all = read_torch_pickle(kData / GetParam());
  EXPECT_EQ(all.size(), 17u);
  EXPECT_EQ(all.front().first, "state_dict.whole");
  EXPECT_EQ(all.back().first, "7");
  const auto state = [&](const std::string& name) { return get(all, "state_dict." + name); };
  const Tensor base = at::arange(12, at::kFloat);
  EXPECT_TRUE(at::equal(state("whole"), base.view({3, 4})));
  EXPECT_TRUE(at::equal(state("transposed"), base.view({3, 4}).t()));
  EXPECT_TRUE(at::equal(state("part"), base.narrow(0, 5, 4)));
  EXPECT_EQ(state("part").storage().data(), state("whole").storage().data());
  EXPECT_TRUE(at::equal(state("parameter"), at::full({2, 2}, 0.5f)));
  EXPECT_EQ(state("empty").sizes(), (std::vector<int64_t>{0, 7}));
  EXPECT_EQ(state("scalar").item<float>(), 3.25f);
  EXPECT_TRUE(at::equal(state("bool"), at::tensor({1, 0, 1}).to(at::kBool)));
  for (const auto& [name, dtype] :
       std::map<std::string, at::ScalarType>{{"float64", at::kDouble},
                                             {"float32", at::kFloat},
                                             {"float16", at::kHalf},
                                             {"bfloat16", at::kBFloat16},
                                             {"int64", at::kLong},
                                             {"int32", at::kInt},
                                             {"int16", at::kShort},
                                             {"int8", at::kChar},
                                             {"uint8", at::kByte}}) {
    EXPECT_EQ(state(name).scalar_type(), dtype);
    EXPECT_TRUE(at::equal(state(name).to(at::kLong), at::arange(5, at::kLong))) << name;
  }
}

// The archives made here have no check sums; torch.save writes them.
TEST_P(TorchPickleFiles, AreRefusedWithOneBitFlipped) {
  const std::string whole = read_text(kData / GetParam());
  const ZipFile zip(MappedFile::of_bytes(whole, "test"));
  for (const auto& [name, entry] : zip.entries()) {
    if (!name.ends_with("data.pkl") && !name.ends_with("byteorder") &&
        name.find("/data/") == std::string::npos)
      continue;
    if (entry.size == 0) continue;
    ASSERT_NE(entry.crc32, 0u) << name;
    std::string flipped = whole;
    flipped[entry.offset + entry.size / 2] ^= 4;
    EXPECT_THAT(message_of([&] { read_bytes(flipped); }),
                HasSubstr("[zip] test: the bytes of the entry '" + name +
                          "' do not have its check sum; the file is damaged, get it again"));
  }
}

TEST(TorchPickle, ReadsTheProgramThatTheHostileOnesAreBentFrom) {
  const TensorList all = run(dictionary(tensor(storage(8), 2, {2, 3}, {3, 1})));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].first, "a");
  EXPECT_TRUE(at::equal(all[0].second, at::zeros({2, 3})));
}

TEST(TorchPickle, RefusesEveryOtherGlobalByName) {
  EXPECT_THAT(refusal(global("os", "system") + tuple({text("true")}) + "R"),
              HasSubstr("it asks for 'os.system', which is not allowed"));
  EXPECT_THAT(refusal(global("builtins", "eval")), HasSubstr("'builtins.eval'"));
  EXPECT_THAT(refusal(text("posix") + text("system") + "\x93"), HasSubstr("'posix.system'"));
  EXPECT_THAT(refusal(global("torch", "load")), HasSubstr("'torch.load'"));
  EXPECT_THAT(refusal(global("torch._utils", "_rebuild_tensor_v3")),
              HasSubstr("'torch._utils._rebuild_tensor_v3'"));
  EXPECT_THAT(refusal(global("torch", "FloatStorage") + ")R"),
              HasSubstr("it calls 'torch.FloatStorage', which is a type of storage"));
}

TEST(TorchPickle, RefusesEveryOtherInstructionByName) {
  EXPECT_THAT(refusal("(ios\nsystem\n"),
              HasSubstr("the instruction INST (0x69) at byte 3 is not allowed"));
  EXPECT_THAT(refusal(")\x81"), HasSubstr("NEWOBJ (0x81)"));
  EXPECT_THAT(refusal("(o"), HasSubstr("OBJ (0x6f)"));
  EXPECT_THAT(refusal("N0"), HasSubstr("POP (0x30)"));
  EXPECT_THAT(refusal("\x82\x01"), HasSubstr("EXT1 (0x82)"));
  EXPECT_THAT(refusal("\xff"), HasSubstr("unknown (0xff)"));
  // Every byte that is not of the language is refused by this message and no other.
  const std::string known = std::string(
      "\x80\x95N\x88\x89KMJ\x8aGX\x8c\x8dqr\x94hjc\x93RQ()]}t\x85\x86\x87"
      "aesub.");
  for (int code = 0; code < 256; ++code) {
    if (known.find(static_cast<char>(code)) != std::string::npos) continue;
    EXPECT_THAT(refusal("N" + std::string(1, static_cast<char>(code))), HasSubstr("is not allowed"))
        << code;
  }
}

TEST(TorchPickle, RefusesStoragesThatDoNotFitTheirEntry) {
  EXPECT_THAT(refusal(storage(9)),
              HasSubstr("storage '0' claims 9 elements of 4 bytes, but its entry has 32 bytes"));
  EXPECT_THAT(refusal(storage(7)), HasSubstr("claims 7 elements"));
  EXPECT_THAT(refusal(storage(-1)), HasSubstr("claims -1 elements"));
  EXPECT_THAT(refusal(storage(int64_t{1} << 62)), HasSubstr("claims 4611686018427387904 elements"));
  EXPECT_THAT(refusal(storage(8, "FloatStorage", "1")),
              HasSubstr("storage '1' has no entry archive/data/1"));
  EXPECT_THAT(refusal(storage(2, "BoolStorage", "b")),
              HasSubstr("storage 'b' is of bools, but holds bytes other than 0 and 1"));
  EXPECT_THAT(refusal(text("storage") + "Q"),
              HasSubstr("expected a tuple as persistent id, got a string"));
  EXPECT_THAT(refusal(tuple({text("module"), "N", "N", "N", "N"}) + "Q"),
              HasSubstr("a persistent id that is not"));
  EXPECT_THAT(refusal(tuple({text("storage"), global("collections", "OrderedDict"), text("0"),
                             text("cpu"), integer(8)}) +
                      "Q"),
              HasSubstr("'collections.OrderedDict' is not a type of storage"));
}

TEST(TorchPickle, RefusesTensorsBeyondTheirStorage) {
  const auto of = [](int64_t offset, const std::vector<int64_t>& size,
                     const std::vector<int64_t>& stride) {
    return refusal(dictionary(tensor(storage(8), offset, size, stride)));
  };
  EXPECT_EQ(of(0, {8}, {1}), "no error");
  EXPECT_EQ(of(8, {0}, {1}), "no error");
  EXPECT_THAT(
      of(0, {9}, {1}),
      HasSubstr(
          "a tensor of size (9) and stride (1) at 0 reaches beyond its storage of 8 elements"));
  EXPECT_THAT(of(1, {8}, {1}), HasSubstr("reaches beyond"));
  EXPECT_THAT(of(0, {2}, {8}), HasSubstr("reaches beyond"));
  EXPECT_THAT(of(9, {0}, {1}), HasSubstr("reaches beyond"));
  EXPECT_THAT(of(-1, {1}, {1}), HasSubstr("reaches beyond"));
  EXPECT_THAT(of(0, {-1}, {1}), HasSubstr("a negative number (-1) as the size of a tensor"));
  EXPECT_THAT(of(0, {2}, {-1}), HasSubstr("a negative number (-1) as the stride of a tensor"));
  EXPECT_THAT(of(0, {int64_t{1} << 32, int64_t{1} << 32}, {0, 0}), HasSubstr("reaches beyond"));
  EXPECT_THAT(of(0, {int64_t{1} << 62, 0}, {1, 1}), HasSubstr("reaches beyond"));
  EXPECT_THAT(of(0, {3, 3}, {INT64_MAX, INT64_MAX}), HasSubstr("reaches beyond"));
  EXPECT_THAT(of(0, {1, 1}, {1}), HasSubstr("a tensor of 2 sizes and 1 strides"));
  EXPECT_THAT(refusal(global("torch._utils", "_rebuild_tensor_v2") + ")R"),
              HasSubstr("_rebuild_tensor_v2 with 0 arguments, expected 6 or 7"));
}

TEST(TorchPickle, RefusesProgramsThatMisuseStackOrMemo) {
  EXPECT_THAT(refusal("h\x05"), HasSubstr("it recalls memo 5, which was never stored"));
  EXPECT_THAT(refusal("j" + raw<uint32_t>(0xffffffff)), HasSubstr("it recalls memo 4294967295"));
  EXPECT_THAT(refusal("N"
                      "a"),
              HasSubstr("it takes more values than it made"));
  EXPECT_THAT(refusal("t"), HasSubstr("it takes more values than it made"));
  EXPECT_THAT(refusal("("), HasSubstr("a mark where a value is expected"));
  EXPECT_THAT(refusal("}(Nu"), HasSubstr("a key without a value"));
  EXPECT_THAT(refusal("NNNs"), HasSubstr("items are set in None, expected a dictionary"));
  EXPECT_THAT(refusal("}Na"), HasSubstr("items are appended to a dictionary, expected a list"));
  EXPECT_THAT(refusal("N)R"), HasSubstr("expected something to call, got None"));
  EXPECT_THAT(refusal(global("collections", "OrderedDict") + tuple({"N"}) + "R"),
              HasSubstr("OrderedDict with 1 arguments"));
  EXPECT_THAT(refusal("}]b"),
              HasSubstr("expected a dictionary of attributes, got a tuple or list"));
  EXPECT_THAT(message_of([] { read_bytes(file_with("X" + raw<uint32_t>(0xfffffff0) + "abc")); }),
              HasSubstr("the program ends in the middle of an instruction"));
  EXPECT_THAT(message_of([] { read_bytes(file_with("cos")); }),
              HasSubstr("the program ends in the middle of an instruction"));
  EXPECT_THAT(refusal(std::string("\x8a\x20", 2) + std::string(32, '\1')),
              HasSubstr("an integer of 32 bytes"));
  EXPECT_THAT(message_of([] { read_bytes(zip_of({{"a/data.pkl", "\x80\x09."}})); }),
              HasSubstr("pickle protocol 9, expected 2 to 5"));
}

TEST(TorchPickle, RefusesRootsAndKeysThatAreNoStateDict) {
  EXPECT_THAT(refusal("N"), HasSubstr("expected a dictionary of tensors, got None"));
  EXPECT_THAT(refusal(tensor(storage(8), 0, {8}, {1})),
              HasSubstr("expected a dictionary of tensors, got a tensor"));
  EXPECT_THAT(refusal(dictionary("N", "N")),
              HasSubstr("expected strings or integers as keys, got None"));
  const std::string twice = "(" + text("a") + tensor(storage(8), 0, {8}, {1}) + text("a") +
                            tensor(storage(8), 0, {8}, {1}) + "u";
  EXPECT_THAT(refusal("}" + twice), HasSubstr("'a' comes twice"));
  EXPECT_THAT(refusal(dictionary(tensor(storage(8), 0, {8}, {1}), text(std::string(2000, 'x')))),
              HasSubstr("a name of 2000 bytes"));
}

// A dictionary that holds itself, one that doubles at each of 60 levels, and one nested 100,000
// deep.
TEST(TorchPickle, RefusesRecursionBeforeItCostsAnything) {
  EXPECT_THAT(refusal("}q" + raw<uint8_t>(0) + text("a") + "h" + raw<uint8_t>(0) + "s"),
              HasSubstr("comes twice or holds itself"));
  std::string doubling = "}q" + raw<uint8_t>(0);
  for (uint8_t i = 0; i < 60; ++i) {
    doubling += "}(" + text("a") + "h" + raw(i) + text("b") + "h" + raw(i) + "uq" +
                raw(static_cast<uint8_t>(i + 1));
  }
  EXPECT_THAT(refusal(doubling),
              ::testing::AnyOf(HasSubstr("comes twice"), HasSubstr("nested more than 32 deep")));
  std::string nested, closing;
  for (int i = 0; i < 100000; ++i) {
    nested += "}" + text("a");
    closing += "s";
  }
  EXPECT_THAT(refusal(nested + "}" + closing), HasSubstr("dictionaries nested more than 32 deep"));
}

TEST(TorchPickle, RefusesArchivesThatLie) {
  const Entries good{{"a/data.pkl", "\x80\x02}."}, {"a/data/0", std::string(32, '\0')}};
  const auto refused = [](std::string bytes) {
    return message_of([&] { read_bytes(std::move(bytes)); });
  };
  EXPECT_EQ(refused(zip_of(good)), "no error");
  EXPECT_THAT(refused(zip_of(good, {.method = 8})),
              HasSubstr("the entry 'a/data.pkl' is compressed (method 8"));
  EXPECT_THAT(refused(zip_of(good, {.flags = 1})), HasSubstr("is encrypted"));
  EXPECT_THAT(refused(zip_of(good, {.size_lie = 1u << 30})),
              HasSubstr("expected 1073741828 bytes at"));
  EXPECT_THAT(refused(zip_of(good, {.size_lie = 20})), HasSubstr("two entries overlap"));
  EXPECT_THAT(refused(zip_of({good[0], good[0]})), HasSubstr("the entry 'a/data.pkl' comes twice"));
  EXPECT_THAT(refused(zip_of(good, {.overlap = true})),
              HasSubstr("'a/data/0' does not lie where the directory says"));
  EXPECT_THAT(refused(zip_of(good, {.count_lie = 3})),
              HasSubstr("the directory claims 5 entries, but ends after 2"));
  const std::string whole = zip_of(good);
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_NE(refused(whole.substr(0, size)), "no error") << size;
  EXPECT_THAT(refused(whole.substr(0, whole.size() / 2)),
              HasSubstr("no end record found; it is truncated or no zip file"));
  EXPECT_THAT(refused(zip_of({{"a/data/0", ""}})),
              HasSubstr("expected one data.pkl in the archive, found 0"));
  EXPECT_THAT(refused(zip_of({{"a/data.pkl", ""}, {"b/data.pkl", ""}})),
              HasSubstr("expected one data.pkl in the archive, found 2"));
  EXPECT_THAT(refused(zip_of({good[0], {"a/byteorder", "big"}})),
              HasSubstr("byte order 'big', expected 'little'"));
  EXPECT_THAT(refused(std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15)),
              HasSubstr("PyTorch before 1.6"));
}

// The sizes of big files stand in zip64 fields: here of a small one, as a writer that always uses
// them makes it.
TEST(TorchPickle, ReadsZip64Archives) {
  const std::string name = "a/data.pkl", content = std::string("\x80\x02}.");
  const auto name_size = raw(static_cast<uint16_t>(name.size()));
  const uint64_t size = content.size();
  const std::string common =
      raw<uint16_t>(45) + raw<uint16_t>(0) + raw<uint16_t>(0) + raw<uint32_t>(0) + raw<uint32_t>(0);
  const std::string local = raw<uint32_t>(0x04034b50) + common + raw(~0u) + raw(~0u) + name_size +
                            raw<uint16_t>(20) + name + raw<uint16_t>(1) + raw<uint16_t>(16) +
                            raw(size) + raw(size);
  const std::string directory = raw<uint32_t>(0x02014b50) + raw<uint16_t>(45) + common + raw(~0u) +
                                raw(~0u) + name_size + raw<uint16_t>(28) + std::string(10, '\0') +
                                raw(~0u) + name + raw<uint16_t>(1) + raw<uint16_t>(24) + raw(size) +
                                raw(size) + raw<uint64_t>(0);
  const uint64_t start = local.size() + content.size(), end64 = start + directory.size();
  const std::string tail =
      raw<uint32_t>(0x06064b50) + raw<uint64_t>(44) + raw<uint16_t>(45) + raw<uint16_t>(45) +
      raw<uint64_t>(0) + raw<uint64_t>(1) + raw<uint64_t>(1) + raw<uint64_t>(directory.size()) +
      raw(start) + raw<uint32_t>(0x07064b50) + raw<uint32_t>(0) + raw(end64) + raw<uint32_t>(1) +
      raw<uint32_t>(0x06054b50) + raw<uint32_t>(0) + raw<uint16_t>(0xffff) + raw<uint16_t>(0xffff) +
      raw(~0u) + raw(~0u) + raw<uint16_t>(0);
  EXPECT_TRUE(read_bytes(local + content + directory + tail).empty());
  EXPECT_EQ(ZipFile(MappedFile::of_bytes(local + content + directory + tail, "test"))
                .entries()
                .at(name)
                .size,
            size);
}

}  // namespace
}  // namespace vggflow
