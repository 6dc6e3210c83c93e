// The tokenizers of SD3 against transformers 5.23.0: ids of 5,559 prompts from
// tools/reference/tokenizer_reference.py. Label real: the vocabularies are read from
// VGGFLOW_ASSETS.
#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/text/clip_tokenizer.h"
#include "vggflow/text/t5_tokenizer.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

const SafetensorsFile& reference() {
  static const SafetensorsFile file(fs::path(VGGFLOW_SOURCE_DIR) /
                                    "src/vggflow/text/testdata/tokenizer_reference.safetensors");
  return file;
}

std::vector<int64_t> numbers(const std::string& name) {
  const Tensor t = reference().load(name).to(at::kLong);
  return {t.const_data_ptr<int64_t>(), t.const_data_ptr<int64_t>() + t.numel()};
}

std::vector<std::string> prompts() {
  const Tensor bytes = reference().load("prompts");
  const auto* data = reinterpret_cast<const char*>(bytes.const_data_ptr<uint8_t>());
  std::vector<std::string> out;
  int64_t begin = 0;
  for (const int64_t end : numbers("prompt_ends")) {
    out.emplace_back(data + begin, data + end);
    begin = end;
  }
  return out;
}

// FNV-1a over the ids as four little-endian bytes each, as the script has it.
int64_t fnv(const std::vector<int64_t>& ids) {
  uint64_t value = 0xCBF29CE484222325;
  for (const int64_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8)
      value = (value ^ (static_cast<uint64_t>(id) >> shift & 0xFF)) * 0x100000001B3;
  }
  return static_cast<int64_t>(value);
}

// A model folder put together in a temporary place from the assets, or nothing where they are
// absent.
class TokenizerParity : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* assets = std::getenv("VGGFLOW_ASSETS");
    if (!assets || !fs::is_directory(assets)) {
      GTEST_SKIP() << "left out: parity of the tokenizers, because VGGFLOW_ASSETS names no folder "
                      "(it holds tokenizers/ and sd3_config/)";
    }
    assets_ = assets;
  }

  fs::path clip_folder(const std::string& name) const {
    for (const char* file : {"vocab.json", "merges.txt"})
      fs::copy_file(assets_ / "tokenizers/clip" / file, folder_ / file);
    for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"}) {
      fs::copy_file(assets_ / "sd3_config" / name / file, folder_ / file);
    }
    return folder_;
  }

  // SD3's tokenizer_3/tokenizer_config.json, which the assets lack: its sentinels swallow the white
  // space around them.
  fs::path t5_folder() const {
    fs::copy_file(assets_ / "tokenizers/t5/spiece.model", folder_ / "spiece.model");
    std::ofstream out(folder_ / "tokenizer_config.json");
    out << R"({"added_tokens_decoder": {"0": {"content": "<pad>"}, "1": {"content": "</s>"}, "2": {"content": "<unk>"})";
    for (int i = 0; i < 100; ++i)
      out << fmt::format(
          R"(, "{}": {{"content": "<extra_id_{}>", "lstrip": true, "rstrip": true}})", 32099 - i,
          i);
    out << "}}";
    return folder_;
  }

  static void expect_parity(const std::string& name,
                            const std::function<std::vector<int64_t>(const std::string&)>& ids,
                            const std::function<TokenizedPrompt(const std::string&)>& encode) {
    const auto texts = prompts();
    const auto hashes = numbers(name + ".hash"), cut = numbers(name + ".cut_hash");
    const auto written = numbers(name + ".ids"), ends = numbers(name + ".id_ends");
    ASSERT_GE(texts.size(), 5000u);
    ASSERT_EQ(texts.size(), hashes.size());
    size_t shown = 0;
    int64_t begin = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto got = ids(texts[i]);
      if (i < ends.size()) {
        EXPECT_EQ(got, std::vector<int64_t>(written.begin() + begin, written.begin() + ends[i]))
            << "prompt " << i << ": " << texts[i];
        begin = ends[i];
      }
      const bool equal = fnv(got) == hashes[i] && fnv(encode(texts[i]).ids) == cut[i];
      if (!equal && shown++ < 20)
        ADD_FAILURE() << name << " differs at prompt " << i << ": " << texts[i]
                      << fmt::format("\n{}", got);
    }
    EXPECT_EQ(shown, 0u) << "of " << texts.size() << " prompts";
    if (shown == 0) report_speed(name, texts, ids);
  }

  // The median of five passes over all prompts, one thread; only what was just proved is timed.
  static void report_speed(const std::string& name, const std::vector<std::string>& texts,
                           const std::function<std::vector<int64_t>(const std::string&)>& ids) {
    std::vector<double> rates;
    for (int pass = 0; pass < 5; ++pass) {
      Stopwatch watch;
      size_t count = 0;
      for (const std::string& text : texts) count += ids(text).size();
      rates.push_back(static_cast<double>(count) / watch.seconds());
    }
    std::ranges::sort(rates);
    const std::string median = fmt::format("{:.2f} M ids/s ({:.2f} to {:.2f})", rates[2] * 1e-6,
                                           rates[0] * 1e-6, rates[4] * 1e-6);
    RecordProperty(name, median);
    fmt::print("{}: {}\n", name, median);
  }

  fs::path assets_;
  const testing::TemporaryFolder scratch_;
  const fs::path folder_ = scratch_.path();
};

TEST_F(TokenizerParity, ClipLGivesTheIdsOfTransformers) {
  const ClipTokenizer tokenizer(clip_folder("tokenizer"));
  EXPECT_EQ(tokenizer.pad_id(), 49407);
  EXPECT_EQ(tokenizer.size(), 49408);
  expect_parity(
      "clip_l", [&](const auto& p) { return tokenizer.ids(p); },
      [&](const auto& p) { return tokenizer.encode(p); });
}

TEST_F(TokenizerParity, ClipGGivesTheIdsOfTransformersAndPadsWithTheExclamationMark) {
  const ClipTokenizer tokenizer(clip_folder("tokenizer_2"));
  EXPECT_EQ(tokenizer.pad_id(), 0);
  expect_parity(
      "clip_g", [&](const auto& p) { return tokenizer.ids(p); },
      [&](const auto& p) { return tokenizer.encode(p); });
}

TEST_F(TokenizerParity, T5GivesTheIdsOfTransformers) {
  const T5Tokenizer tokenizer(t5_folder());
  EXPECT_EQ(tokenizer.size(), 32100);
  expect_parity(
      "t5", [&](const auto& p) { return tokenizer.ids(p); },
      [&](const auto& p) { return tokenizer.encode(p); });
}

TEST_F(TokenizerParity, WhatIsCutIsNamed) {
  const ClipTokenizer clip(clip_folder("tokenizer"));
  const T5Tokenizer t5(t5_folder());
  std::string text;
  for (int i = 0; i < 80; ++i) text += "cat ";
  const auto cut = clip.encode(text + "a red Dog!");
  EXPECT_EQ(cut.ids.size(), 77u);
  EXPECT_EQ(cut.ids.back(), 49407);
  EXPECT_EQ(cut.removed, "cat cat cat cat cat a red dog !");
  EXPECT_EQ(clip.encode("a red dog").removed, "");
  EXPECT_EQ(t5.encode(text + "a red Dog!", 81).removed, "a red Dog!");
  EXPECT_EQ(t5.encode(text + "a red Dog!", 256).removed, "");
}

}  // namespace
}  // namespace vggflow
