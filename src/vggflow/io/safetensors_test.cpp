#include "vggflow/io/safetensors.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "vggflow/core/error.h"
#include "vggflow/testing/message.h"
#include "vggflow/io/files.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;

fs::path temporary(const std::string& name) { return fs::temp_directory_path() / ("vggflow_io_" + name); }

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
  const TensorList tensors{{"a", at::arange(6, at::kFloat).view({2, 3})}, {"b.c", at::ones({4}, at::kBFloat16)},
                           {"empty", at::empty({0, 3})}, {"scalar", at::full({}, 7, at::kLong)}, {"quote\"\\", at::zeros({1}, at::kBool)}};
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

TEST(Safetensors, RefusesHeadersThatLie) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(refusal(good, 8), "no error");
  EXPECT_THAT(refusal(good, 4), HasSubstr("truncated"));
  EXPECT_THAT(refusal(good, 9), HasSubstr("too long"));
  EXPECT_THAT(refusal(good, 8, 1u << 30), HasSubstr("the header claims 1073741824 bytes"));
  EXPECT_THAT(refusal(good, 8, ~0ull), HasSubstr("the header claims"));
  EXPECT_THAT(refusal("{\"a\":", 0), HasSubstr("not JSON"));
  EXPECT_THAT(refusal("[1]", 0), HasSubstr("expected a JSON object"));
  EXPECT_THAT(refusal(std::string(2000, '['), 0), HasSubstr("nested too deeply"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})", 16),
              HasSubstr("'a' comes twice"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8), HasSubstr("unsupported dtype F31"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8), HasSubstr("whole numbers below 2^48"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[281474976710656,281474976710656],"data_offsets":[0,8]}})", 8), HasSubstr("overflows"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8), HasSubstr("needs 12 bytes by its shape"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8), HasSubstr("its offsets are 8 to 0"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12),
              HasSubstr("overlap"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12), HasSubstr("hole"));
  EXPECT_THAT(refusal(R"({"a":{"dtype":"F32","shape":[2]}})", 8), HasSubstr("expected dtype, shape and data_offsets"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"x":3}})", 0), HasSubstr("expected text for the metadata 'x'"));
  std::ofstream(temporary("short.safetensors")) << "abc";
  EXPECT_THAT(message_of([] { SafetensorsFile file(temporary("short.safetensors")); }), HasSubstr("has 3 bytes, too few"));
  EXPECT_THAT(message_of([] { SafetensorsFile file("/nonexistent.safetensors"); }), HasSubstr("cannot open"));
}

TEST(Safetensors, LoadIntoListsEveryProblemAndThenChangesNothing) {
  const fs::path path = temporary("load.safetensors");
  write_safetensors(path, {{"a", at::ones({2})}, {"b", at::ones({3})}, {"extra", at::ones({1})}});
  Tensor a = at::zeros({2}), b = at::zeros({4}), c = at::zeros({1});
  const std::string message = message_of([&] { load_into(SafetensorsFile(path), {{"a", a}, {"b", b}, {"c", c}}); });
  EXPECT_THAT(message, HasSubstr("missing 'c'"));
  EXPECT_THAT(message, HasSubstr("unexpected 'extra'"));
  EXPECT_THAT(message, HasSubstr("'b' has shape (3), expected (4)"));
  EXPECT_EQ(a.sum().item<float>(), 0);
}

}  // namespace
}  // namespace vggflow
