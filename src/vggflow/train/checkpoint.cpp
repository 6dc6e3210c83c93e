#include "vggflow/train/checkpoint.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

constexpr const char* kPrefix = "update_";

std::optional<int64_t> whole_number(const std::string& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number)
                                                                  : std::nullopt;
}

// Complete checkpoints, oldest first. A folder of a like name (a copy by hand) is none.
std::vector<std::pair<int64_t, fs::path>> complete_checkpoints(const fs::path& run) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !is_complete(entry.path())) continue;
    const std::string digits = name.substr(std::string(kPrefix).size());
    if (const auto update = whole_number(digits)) found.emplace_back(*update, entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

void write_state(const fs::path& run, const std::string& name, const Checkpoint& checkpoint) {
  make_writable_folder(run / "checkpoints");
  Metadata metadata = checkpoint.metadata;
  metadata["update"] = fmt::to_string(checkpoint.update);
  write_folder(run / "checkpoints" / name, [&](const fs::path& folder) {
    write_safetensors(folder / "state.safetensors", checkpoint.tensors, metadata);
  });
}

}  // namespace

void save_best_checkpoint(const fs::path& run, const Checkpoint& checkpoint) {
  write_state(run, "best", checkpoint);
}

void save_checkpoint(const fs::path& run, const Checkpoint& checkpoint) {
  write_state(run, fmt::format("{}{:06}", kPrefix, checkpoint.update), checkpoint);
  const auto all = complete_checkpoints(run);
  for (size_t i = 0; i + 2 < all.size(); ++i) fs::remove_all(all[i].second);
}

std::optional<int64_t> last_checkpoint(const fs::path& run) {
  const auto all = complete_checkpoints(run);
  return all.empty() ? std::nullopt : std::optional(all.back().first);
}

std::optional<Checkpoint> load_checkpoint(const fs::path& run) {
  const auto all = complete_checkpoints(run);
  if (all.empty()) return std::nullopt;
  const SafetensorsFile file(all.back().second / "state.safetensors");
  Checkpoint checkpoint{all.back().first, {}, file.metadata()};
  for (const auto& [name, entry] : file.tensors())
    checkpoint.tensors.emplace_back(name, file.load(name));
  return checkpoint;
}

Tensor checkpoint_tensor(const Checkpoint& checkpoint, const std::string& name,
                         const Tensor& like) {
  for (const auto& [key, tensor] : checkpoint.tensors) {
    if (key != name) continue;
    VGGFLOW_CHECK(
        tensor.sizes() == like.sizes(),
        "[checkpoint] '{}' has {} values, the network needs {}: the checkpoint belongs to "
        "another configuration",
        name, tensor.numel(), like.numel());
    return tensor;
  }
  fail("[checkpoint] update {} holds no '{}': it belongs to another configuration",
       checkpoint.update, name);
}

const std::string& checkpoint_text(const Checkpoint& checkpoint, const std::string& key) {
  const auto found = checkpoint.metadata.find(key);
  VGGFLOW_CHECK(found != checkpoint.metadata.end(),
                "[checkpoint] update {} holds no '{}' in its header: it is damaged, or belongs to "
                "another program",
                checkpoint.update, key);
  return found->second;
}

int64_t checkpoint_number(const Checkpoint& checkpoint, const std::string& key) {
  const std::string& text = checkpoint_text(checkpoint, key);
  const auto number = whole_number(text);
  VGGFLOW_CHECK(number,
                "[checkpoint] update {}: expected a whole number for '{}', got '{}': it is damaged",
                checkpoint.update, key, text);
  return *number;
}

}  // namespace vggflow
