// Any bytes given to the readers of PNG and JPEG end in pixels or in an Error: no crash, no other
// exception, no read outside the bytes, and no more memory than the pixels and their file explain.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "fuzz.h"
#include "vggflow/core/error.h"
#include "vggflow/io/image_file.h"

bool fuzz_accepted = false;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz_accepted = false;
  try {
    const vggflow::ImageFile file = vggflow::decode_image(std::span(data, size), "fuzz");
    const vggflow::Image& image = file.image;
    if (static_cast<int64_t>(image.rgb.size()) != 3 * image.width * image.height) std::abort();
    fuzz_accepted = true;
  } catch (const vggflow::Error&) {
  }
  return 0;
}
