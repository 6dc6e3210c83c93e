// Any bytes given as the vocabularies of older tokenizers end in a tokenizer that encodes a text,
// or in an Error. The first byte says which: CLIP's vocab.json, merges.txt and
// tokenizer_config.json (with zero bytes between them), T5's spiece.model, BERT's vocab.txt.
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz.h"
#include "vggflow/core/error.h"
#include "vggflow/text/clip_tokenizer.h"
#include "vggflow/text/t5_tokenizer.h"
#include "vggflow/text/wordpiece_tokenizer.h"

bool fuzz_accepted = false;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz_accepted = false;
  if (size == 0) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string text = "two caf\xc3\xa9s, <unk> \xe7\x8c\xab [MASK]";
  try {
    if (data[0] % 3 == 0) {
      fuzz_file("vocab.json", fuzz_part(rest));
      fuzz_file("merges.txt", fuzz_part(rest));
      fuzz_file("tokenizer_config.json", fuzz_part(rest));
      vggflow::ClipTokenizer(fuzz_folder()).encode(text);
    } else if (data[0] % 3 == 1) {
      fuzz_file("spiece.model", rest);
      fuzz_file("tokenizer_config.json", "{}");
      vggflow::T5Tokenizer(fuzz_folder()).encode(text, 20);
    } else {
      vggflow::WordpieceTokenizer(fuzz_file("vocab.txt", rest)).ids(text, 20);
    }
    fuzz_accepted = true;
  } catch (const vggflow::Error&) {
  }
  return 0;
}
