// Any bytes given to the safetensors reader end in tensors or in an Error: no crash, no other
// exception, no read outside the bytes.
#include <ATen/ATen.h>

#include <cstdlib>

#include "fuzz.h"
#include "vggflow/core/error.h"
#include "vggflow/io/safetensors.h"

bool fuzz_accepted = false;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz_accepted = false;
  try {
    const vggflow::SafetensorsFile file(
        vggflow::MappedFile::of_bytes({reinterpret_cast<const char*>(data), size}, "fuzz"));
    for (const auto& [name, entry] : file.tensors()) {
      if (!at::equal(file.load(name).view({-1}).view(at::kByte),
                     file.view(name).reshape({-1}).view(at::kByte)))
        std::abort();
    }
    fuzz_accepted = true;
  } catch (const vggflow::Error&) {
  }
  return 0;
}
