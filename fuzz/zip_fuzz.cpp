// Any bytes given to the reader of zip files end in entries whose bytes lie inside the file and
// have their check sums, or in an Error.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "fuzz.h"
#include "vggflow/core/error.h"
#include "vggflow/io/zip.h"

bool fuzz_accepted = false;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz_accepted = false;
  try {
    const vggflow::ZipFile file(
        vggflow::MappedFile::of_bytes({reinterpret_cast<const char*>(data), size}, "fuzz"));
    for (const auto& [name, entry] : file.entries()) {
      const std::string_view content = file.content(name);
      if (content.size() != entry.size) std::abort();
      size_t sum = 0;  // every byte is read
      for (const char c : content) sum += static_cast<unsigned char>(c);
      if (sum > 255 * content.size()) std::abort();
    }
    fuzz_accepted = true;
  } catch (const vggflow::Error&) {
  }
  return 0;
}
