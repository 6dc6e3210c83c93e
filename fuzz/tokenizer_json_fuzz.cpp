// Any bytes given as tokenizer.json (the first byte says of which model) end in a tokenizer that
// encodes a text, or in an Error.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz.h"
#include "vggflow/core/error.h"
#include "vggflow/text/clip_tokenizer.h"
#include "vggflow/text/t5_tokenizer.h"
#include "vggflow/text/wordpiece_tokenizer.h"

bool fuzz_accepted = false;

namespace {

// The other file of a folder, as transformers writes it for the model.
constexpr std::string_view kConfig =
    R"({"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>", "model_max_length": 77})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz_accepted = false;
  if (size == 0) return 0;
  fuzz_file("tokenizer.json", {reinterpret_cast<const char*>(data) + 1, size - 1});
  const std::string text = "two caf\xc3\xa9s, <unk> \xe7\x8c\xab [MASK]";
  try {
    if (data[0] % 3 == 0) {
      fuzz_file("tokenizer_config.json", kConfig);
      vggflow::ClipTokenizer(fuzz_folder()).encode(text);
    } else if (data[0] % 3 == 1) {
      fuzz_file("tokenizer_config.json", "{}");
      vggflow::T5Tokenizer(fuzz_folder()).encode(text, 20);
    } else {
      vggflow::WordpieceTokenizer(fuzz_folder() / "tokenizer.json").ids(text, 20);
    }
    fuzz_accepted = true;
  } catch (const vggflow::Error&) {
  }
  return 0;
}
