// Any bytes given as a file of prompts (text, CSV, TSV, JSON, JSON lines, by the first byte) end in
// prompts, or in an Error.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "fuzz.h"
#include "vggflow/core/error.h"
#include "vggflow/data/prompt_file.h"

bool fuzz_accepted = false;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr std::array kNames{"p.txt", "p.csv", "p.tsv", "p.json", "p.jsonl"};
  fuzz_accepted = false;
  if (size == 0) return 0;
  const char* name = kNames[data[0] % kNames.size()];
  try {
    const auto prompts =
        vggflow::read_prompts(fuzz_file(name, {reinterpret_cast<const char*>(data) + 1, size - 1}));
    if (prompts.empty()) std::abort();
    fuzz_accepted = true;
  } catch (const vggflow::Error&) {
  }
  return 0;
}
