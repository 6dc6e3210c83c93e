#include "vggflow/io/safetensors.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <optional>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;

fs::path temporary(const std::string& name) {
  static const testing::TemporaryFolder folder;
  return folder / name;
}

// A file with this header and `data` bytes of tensors.
fs::path file_with(const std::string& header, size_t data, std::optional<uint64_t> claimed = {}) {
  const fs::path path = temporary("hostile.safetensors");
  std::ofstream out(path, std::ios::binary);
  const uint64_t length = claimed.value_or(header.size());
  out.write(reinterpret_cast<const char*>(&length), 8);
  out << header << std::string(data, '\0');
  return path;
}

std::string refusal(const std::string& header, size_t data, std::optional<uint64_t> claimed = {}) {
  return message_of([&] { SafetensorsFile file(file_with(header, data, claimed)); });
}

TEST(Safetensors, WhatItWritesItReadsBack) {
  const fs::path path = temporary("round.safetensors");
  const TensorList tensors{{"a", at::arange(6, at::kFloat).view({2, 3})},
                           {"b.c", at::ones({4}, at::kBFloat16)},
                           {"empty", at::empty({0, 3})},
                           {"scalar", at::full({}, 7, at::kLong)},
                           {"quote\"\\", at::zeros({1}, at::kBool)}};
  write_safetensors(path, tensors, {{"format", "pt"}, {"note", "line\nbreak"}});
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata().at("note"), "line\nbreak");
  EXPECT_EQ(file.tensors().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_TRUE(at::equal(file.load(name), tensor)) << name;
    EXPECT_EQ(file.load(name).scalar_type(), tensor.scalar_type());
  }
  EXPECT_THAT(message_of([&] { file.load("x"); }), HasSubstr("holds no tensor 'x'"));
}

TEST(Safetensors, HoldsNamesInUtf8Alone) {
  const fs::path path = temporary("utf8.safetensors");
  EXPECT_THAT(message_of([&] { write_safetensors(path, {{"\xe1", at::ones({1})}}); }),
              HasSubstr("expected tensor names in UTF-8, got '"));
  EXPECT_FALSE(fs::exists(path));
  write_safetensors(path, {{"a", at::ones({1})}}, {{"run", "runs/\xe1"}});
  EXPECT_EQ(SafetensorsFile(path).metadata().at("run"), "runs/\xef\xbf\xbd");
}

TEST(Safetensors, RefusesHeadersThatLie) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(refusal(good, 8), "no error");
  EXPECT_THAT(refusal(good, 4), HasSubstr("truncated"));
  EXPECT_THAT(refusal(good, 9), HasSubstr("too long"));
  EXPECT_THAT(refusal(good, 8, 1u << 30), HasSubstr("the header claims 1073741824 bytes"));
  EXPECT_THAT(refusal(good, 8, ~0ull), HasSubstr("the header claims"));
  EXPECT_THAT(refusal("{\"a\":}", 0), HasSubstr("not JSON"));
  EXPECT_THAT(refusal("[1]", 0), HasSubstr("expected a JSON object"));
  EXPECT_THAT(refusal("", 0), HasSubstr("expected a JSON object"));
  EXPECT_THAT(
      refusal(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
          16),
      HasSubstr("'a' comes twice"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8),
              HasSubstr("unsupported dtype F31"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8),
              HasSubstr("whole numbers below 2^48"));
  EXPECT_THAT(
      refusal(
          R"({"a":{"dtype":"F32","shape":[281474976710656,281474976710656],"data_offsets":[0,8]}})",
          8),
      HasSubstr("overflows"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
              HasSubstr("needs 12 bytes by its shape"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8),
              HasSubstr("its offsets are 8 to 0"));
  EXPECT_THAT(
      refusal(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
          12),
      HasSubstr("overlap"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12),
              HasSubstr("hole"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2]}})", 8),
              HasSubstr("expected dtype, shape and data_offsets"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"x":3}})", 0),
              HasSubstr("expected text for the metadata 'x'"));
  std::ofstream(temporary("short.safetensors")) << "abc";
  EXPECT_THAT(message_of([] { SafetensorsFile file(temporary("short.safetensors")); }),
              HasSubstr("has 3 bytes, too few"));
  EXPECT_THAT(message_of([] { SafetensorsFile file("/nonexistent.safetensors"); }),
              HasSubstr("cannot open"));
  EXPECT_THAT(message_of([] { SafetensorsFile file(temporary("")); }), HasSubstr("is not a file"));
}

TEST(Safetensors, RefusesHeadersThatHideOrRepeatSomething) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(refusal(good + "     ", 8), "no error");
  EXPECT_THAT(refusal(good + "  x", 8), HasSubstr("ends with '}' and spaces"));
  EXPECT_THAT(refusal(good + "\n", 8), HasSubstr("ends with '}' and spaces"));
  EXPECT_THAT(refusal(good + std::string("\0{}", 3), 8), HasSubstr("ends with '}' and spaces"));
  EXPECT_THAT(refusal(good + good, 8), HasSubstr("not JSON"));
  EXPECT_THAT(refusal("\xef\xbb\xbf" + good, 8), HasSubstr("expected a JSON object"));
  EXPECT_THAT(refusal(" " + good, 8), HasSubstr("expected a JSON object"));
  EXPECT_THAT(refusal("{\"\xff\xfe\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8),
              HasSubstr("invalid string: ill-formed UTF-8"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,8]}})", 8),
              HasSubstr("'dtype' comes twice"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"k":"1","k":"2"}})", 0), HasSubstr("'k' comes twice"));
  EXPECT_THAT(refusal(R"({"__metadata__":{},"__metadata__":{}})", 0),
              HasSubstr("'__metadata__' comes twice"));
  EXPECT_THAT(refusal(R"({"__metadata__":[]})", 0),
              HasSubstr("expected an object as __metadata__"));
}

TEST(Safetensors, RefusesDeepNestingBeforeItCostsAnything) {
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})", 8),
              HasSubstr("nested too deeply"));
  std::string deep;
  for (int i = 0; i < 200000; ++i) deep += "{\"a\":";
  EXPECT_THAT(refusal(deep + std::string(200000, '}'), 0), HasSubstr("nested too deeply"));
}

TEST(Safetensors, RefusesNumbersThatAreNotCounts) {
  const auto shaped = [](const std::string& shape, const std::string& offsets) {
    return refusal(
        R"({"a":{"dtype":"F32","shape":[)" + shape + R"(],"data_offsets":[)" + offsets + "]}}", 8);
  };
  EXPECT_EQ(shaped("2", "0,8"), "no error");
  for (const char* bad : {"-2", "-0", "2.0", "2e0", "null", "true", "\"2\"", "281474976710657",
                          "18446744073709551616"}) {
    EXPECT_THAT(shaped(bad, "0,8"), HasSubstr("whole numbers below 2^48")) << bad;
  }
  for (const char* bad : {"-8,0", "0,8.0", "0", "0,8,8", "0,18446744073709551616", "null,8"}) {
    EXPECT_THAT(shaped("2", bad), HasSubstr("expected two data_offsets")) << bad;
  }
  EXPECT_THAT(shaped("2", "18446744073709551608,18446744073709551615"),
              HasSubstr("needs 8 bytes by its shape"));
  EXPECT_THAT(shaped("2", "18446744073709551607,18446744073709551615"), HasSubstr("leave a hole"));
  EXPECT_THAT(shaped("281474976710656,281474976710656,0", "0,0"), HasSubstr("overflows"));
  EXPECT_THAT(shaped("0,281474976710656,281474976710656", "0,0"), HasSubstr("overflows"));
  EXPECT_THAT(shaped("1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2", "0,8"), HasSubstr("at most 16 numbers"));
}

TEST(Safetensors, ReadsEveryDtypeThatLibTorchHas) {
  const std::vector<std::pair<std::string, at::ScalarType>> dtypes{
      {"F64", at::kDouble},
      {"F32", at::kFloat},
      {"F16", at::kHalf},
      {"BF16", at::kBFloat16},
      {"I64", at::kLong},
      {"I32", at::kInt},
      {"I16", at::kShort},
      {"I8", at::kChar},
      {"U64", at::kUInt64},
      {"U32", at::kUInt32},
      {"U16", at::kUInt16},
      {"U8", at::kByte},
      {"BOOL", at::kBool},
      {"C64", at::kComplexFloat},
      {"F8_E4M3", at::kFloat8_e4m3fn},
      {"F8_E5M2", at::kFloat8_e5m2},
      {"F8_E4M3FNUZ", at::kFloat8_e4m3fnuz},
      {"F8_E5M2FNUZ", at::kFloat8_e5m2fnuz},
      {"F8_E8M0", at::kFloat8_e8m0fnu}};
  for (const auto& [name, dtype] : dtypes) {
    const size_t size = c10::elementSize(dtype);
    const std::string header = fmt::format(
        R"({{"a":{{"dtype":"{}","shape":[3],"data_offsets":[0,{}]}}}})", name, 3 * size);
    const Tensor a = SafetensorsFile(file_with(header, 3 * size)).load("a");
    EXPECT_EQ(a.scalar_type(), dtype) << name;
    EXPECT_EQ(a.numel(), 3) << name;
  }
  const Tensor eights = at::arange(1, 5, at::kFloat).to(at::kFloat8_e4m3fn);
  write_safetensors(temporary("f8.safetensors"), {{"a", eights}});
  EXPECT_TRUE(at::equal(SafetensorsFile(temporary("f8.safetensors")).view("a").to(at::kFloat),
                        at::arange(1, 5, at::kFloat)));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", 1),
              HasSubstr("unsupported dtype F4"));
}

TEST(Safetensors, RefusesBoolsThatAreNeitherTrueNorFalse) {
  const fs::path path = temporary("bool.safetensors");
  write_safetensors(path, {{"a", at::full({3}, 2, at::kByte)}});
  std::string bytes = read_text(path);
  bytes.replace(bytes.find("\"U8\""), 4, "\"BOOL\"");
  bytes.erase(bytes.find("}}") + 2, 2);  // two of the padding's spaces, so that the length stays
  write_text(path, bytes);
  EXPECT_THAT(message_of([&] { SafetensorsFile(path).view("a"); }),
              HasSubstr("'a' is BOOL, but holds bytes other than 0 and 1"));
}

TEST(Safetensors, ViewsCopyNothingAndOutliveTheFile) {
  const fs::path path = temporary("view.safetensors");
  write_safetensors(path, {{"a", at::arange(1000, at::kFloat)}, {"empty", at::empty({0, 3})}});
  Tensor first, second, copy;
  {
    const SafetensorsFile file(path);
    first = file.view("a");
    second = file.view("a");
    copy = file.load("a");
    EXPECT_EQ(file.view("empty").sizes(), (std::vector<int64_t>{0, 3}));
  }
  fs::remove(path);
  EXPECT_EQ(first.const_data_ptr(), second.const_data_ptr());
  EXPECT_NE(first.const_data_ptr(), copy.const_data_ptr());
  EXPECT_TRUE(at::equal(first, at::arange(1000, at::kFloat)));
}

TEST(Safetensors, ViewsAreCopiedWhereTheBytesAreNotAligned) {
  // One byte before the floats, so that they start at an odd address.
  const SafetensorsFile file(file_with(
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})",
      9));
  const Tensor b = file.view("b");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.const_data_ptr()) % 4, 0u);
  EXPECT_NE(b.const_data_ptr(), file.view("b").const_data_ptr());
  EXPECT_TRUE(at::equal(b, at::zeros({2})));
  EXPECT_EQ(file.view("a").const_data_ptr(), file.view("a").const_data_ptr());
}

TEST(Safetensors, LoadIntoListsEveryProblemAndThenChangesNothing) {
  const fs::path path = temporary("load.safetensors");
  write_safetensors(path, {{"a", at::ones({2})}, {"b", at::ones({3})}, {"extra", at::ones({1})}});
  Tensor a = at::zeros({2}), b = at::zeros({4}), c = at::zeros({1});
  const std::string message =
      message_of([&] { load_into(SafetensorsFile(path), {{"a", a}, {"b", b}, {"c", c}}); });
  EXPECT_THAT(message, HasSubstr("missing 'c'"));
  EXPECT_THAT(message, HasSubstr("unexpected 'extra'"));
  EXPECT_THAT(message, HasSubstr("'b' has shape (3), expected (4)"));
  EXPECT_EQ(a.sum().item<float>(), 0);
}

TEST(Safetensors, LoadIntoTakesFiniteFloatingPointOnly) {
  const fs::path path = temporary("numbers.safetensors");
  Tensor a = at::zeros({2}), b = at::zeros({2}), count = at::zeros({2}, at::kLong);
  write_safetensors(path, {{"a", at::full({2}, NAN)},
                           {"b", at::ones({2}, at::kInt)},
                           {"count", at::ones({2}, at::kLong)}});
  EXPECT_THAT(
      message_of([&] { load_into(SafetensorsFile(path), {{"a", a}, {"b", b}, {"count", count}}); }),
      ::testing::AllOf(HasSubstr("2 faults: 'a' holds numbers that are not finite"),
                       HasSubstr("'b' has dtype Int, expected floating point")));
}

}  // namespace
}  // namespace vggflow
