// Runs every file of a corpus folder through a fuzzer's entry function. Files named good_* must be
// accepted, all others refused.
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>

#include "fuzz.h"
#include "vggflow/io/files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: {} CORPUS_FOLDER\n", argv[0]);
    return 2;
  }
  int files = 0, wrong = 0;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    const std::string bytes = vggflow::read_text(entry.path()),
                      name = entry.path().filename().string();
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    const bool good = name.starts_with("good_");
    if (fuzz_accepted != good)
      fmt::print("{} was {}\n", name, fuzz_accepted ? "accepted" : "refused");
    wrong += fuzz_accepted != good;
    ++files;
  }
  fmt::print("{} files, {} not as named\n", files, wrong);
  return files == 0 || wrong > 0;
}
