// Any bytes given to the reader of torch.save's files end in tensors or in an Error: no crash, no
// other exception, no read outside the bytes. Most random bytes are no zip, so those that begin
// with a pickle's first byte are put into one.
#include <ATen/ATen.h>

#include <string>
#include <utility>

#include "fuzz.h"
#include "vggflow/core/error.h"
#include "vggflow/io/torch_pickle.h"

bool fuzz_accepted = false;

namespace {

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// A zip with this program and a storage '0' of 64 bytes 0 or 1.
std::string archive_of(const std::string& program) {
  std::string out, directory;
  for (const auto& [name, content] : {std::pair<std::string, std::string>{"a/data.pkl", program},
                                      {"a/data/0", std::string(64, '\1')}}) {
    std::string common;
    put<uint16_t>(common, 20);
    common.append(12, '\0');
    put(common, static_cast<uint32_t>(content.size()));
    put(common, static_cast<uint32_t>(content.size()));
    put(common, static_cast<uint16_t>(name.size()));
    common.append(2, '\0');
    put<uint32_t>(directory, 0x02014b50);
    put<uint16_t>(directory, 20);
    directory += common + std::string(10, '\0');
    put(directory, static_cast<uint32_t>(out.size()));
    directory += name;
    put<uint32_t>(out, 0x04034b50);
    out += common + name + content;
  }
  const auto start = static_cast<uint32_t>(out.size());
  out += directory;
  put<uint32_t>(out, 0x06054b50);
  put<uint32_t>(out, 0);
  put<uint16_t>(out, 2);
  put<uint16_t>(out, 2);
  put(out, static_cast<uint32_t>(directory.size()));
  put(out, start);
  put<uint16_t>(out, 0);
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz_accepted = false;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size > 0 && data[0] == 0x80) bytes = archive_of(bytes);
  try {
    for (const auto& [name, tensor] :
         vggflow::read_torch_pickle(vggflow::MappedFile::of_bytes(std::move(bytes), "fuzz"))) {
      // Every element is read; a stride of zero makes huge tensors out of small storages, and those
      // are left out.
      if (tensor.numel() < 4096) tensor.contiguous().sum();
    }
    fuzz_accepted = true;
  } catch (const vggflow::Error&) {
  }
  return 0;
}
