#include "vggflow/rewards/plugin_file.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/io/mapped_file.h"
#include "vggflow/reward_plugin.h"

namespace vggflow {
namespace {

constexpr const char* kNumber = "vggflow_reward_abi_number";

// What a shared library exports.
struct PluginFile {
  std::set<std::string> symbols;
  std::optional<uint32_t> abi;  // kNumber
};

// The dynamic symbols of a file.
class ElfReader {
 public:
  explicit ElfReader(const std::string& path) : file_(MappedFile::open(path, "plugin")) {
    VGGFLOW_CHECK(file_->size() >= sizeof(Elf64_Ehdr) &&
                      std::memcmp(file_->data(), ELFMAG, SELFMAG) == 0 &&
                      file_->data()[EI_CLASS] == ELFCLASS64,
                  "[plugin] cannot load the shared library {}: it is no 64-bit ELF file", path);
    const auto header = at<Elf64_Ehdr>(0);
    for (uint64_t i = 0; i < header.e_shnum; ++i)
      sections_.push_back(at<Elf64_Shdr>(header.e_shoff + i * sizeof(Elf64_Shdr)));
  }

  PluginFile read() const {
    PluginFile found;
    for (const Elf64_Shdr& table : sections_) {
      if (table.sh_type != SHT_DYNSYM) continue;
      for (uint64_t i = 0; i < table.sh_size / sizeof(Elf64_Sym); ++i)
        add(at<Elf64_Sym>(table.sh_offset + i * sizeof(Elf64_Sym)), section(table.sh_link), found);
    }
    return found;
  }

 private:
  template <class T>
  T at(uint64_t offset) const {
    check(offset <= file_->size() && sizeof(T) <= file_->size() - offset);
    T value;
    std::memcpy(&value, file_->data() + offset, sizeof(T));
    return value;
  }

  const Elf64_Shdr& section(uint64_t index) const {
    check(index < sections_.size());
    return sections_[index];
  }

  std::string text(const Elf64_Shdr& strings, uint64_t offset) const {
    check(strings.sh_offset <= file_->size() && offset <= file_->size() - strings.sh_offset);
    const char* begin = file_->data() + strings.sh_offset + offset;
    const char* end = file_->data() + file_->size();
    return {begin, std::find(begin, end, '\0')};
  }

  void add(const Elf64_Sym& symbol, const Elf64_Shdr& strings, PluginFile& found) const {
    if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= SHN_LORESERVE) return;
    const std::string name = text(strings, symbol.st_name);
    found.symbols.insert(name);
    if (name != kNumber) return;
    const Elf64_Shdr& home = section(symbol.st_shndx);
    check(symbol.st_value >= home.sh_addr);
    found.abi = at<uint32_t>(home.sh_offset + (symbol.st_value - home.sh_addr));
  }

  void check(bool inside) const {
    VGGFLOW_CHECK(inside, "[plugin] cannot load the shared library {}: the file is cut off",
                  file_->name());
  }

  std::shared_ptr<const MappedFile> file_;
  std::vector<Elf64_Shdr> sections_;
};

}  // namespace

void check_plugin_file(const std::string& path) {
  const PluginFile file = ElfReader(path).read();
  for (const char* name : {"vggflow_reward_abi", "vggflow_reward_create", "vggflow_reward_destroy",
                           "vggflow_reward_flags", "vggflow_reward_score"}) {
    VGGFLOW_CHECK(file.symbols.contains(name),
                  "[plugin] {} has no function {}: it is no reward plug-in, or hides its symbols "
                  "(include/vggflow/reward_plugin.h lists and exports what is needed)",
                  path, name);
  }
  VGGFLOW_CHECK(file.abi,
                "[plugin] {} does not hold the number of its interface ({}): compile it anew with "
                "this vggflow's include/vggflow/reward_plugin.h, which puts it there",
                path, kNumber);
  check_plugin_abi(path, *file.abi);
}

void check_plugin_abi(const std::string& path, uint32_t abi) {
  VGGFLOW_CHECK(abi == VGGFLOW_REWARD_ABI,
                "[plugin] {} speaks version {} of the reward interface, expected {}: compile it "
                "with this vggflow's include/vggflow/reward_plugin.h",
                path, abi, VGGFLOW_REWARD_ABI);
}

}  // namespace vggflow
