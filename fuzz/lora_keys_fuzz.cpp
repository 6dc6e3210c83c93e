// Any names, shapes and settings of a LoRA file end in adapters, or in an Error: a file of small
// tensors with a name a line ("NAME ROWS COLUMNS", or "NAME" of a single number), and behind a zero
// byte the settings of its header.
#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <sstream>
#include <string>
#include <string_view>

#include "fuzz.h"
#include "vggflow/core/error.h"
#include "vggflow/families/lora.h"
#include "vggflow/io/safetensors.h"

bool fuzz_accepted = false;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz_accepted = false;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::istringstream lines{std::string(fuzz_part(rest))};
  std::map<std::string, at::Tensor> tensors;
  for (std::string line; std::getline(lines, line) && tensors.size() < 64;) {
    std::istringstream words(line);
    std::string name;
    int64_t rows = 0, columns = 0;
    words >> name >> rows >> columns;
    if (name.empty()) continue;
    rows = rows < 1 ? 1 : rows % 17;
    tensors[name] = columns < 1 ? at::ones({}) : at::ones({rows, columns % 17});
  }
  try {
    vggflow::Metadata metadata;
    if (!rest.empty()) metadata["lora_adapter_metadata"] = std::string(rest);
    const auto file = fuzz_folder() / "lora.safetensors";
    vggflow::write_safetensors(file, vggflow::TensorList(tensors.begin(), tensors.end()), metadata);
    for (const auto text : {vggflow::TextAdapters::kRefuse, vggflow::TextAdapters::kSkip}) {
      vggflow::read_lora(file, text);
      fuzz_accepted = true;
    }
  } catch (const vggflow::Error&) {
  }
  return 0;
}
