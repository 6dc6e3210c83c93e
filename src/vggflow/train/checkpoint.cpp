#include "vggflow/train/checkpoint.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

constexpr const char* kPrefix = "update_";

// Complete checkpoints, oldest first.
std::vector<std::pair<int64_t, fs::path>> complete_checkpoints(const fs::path& run) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !is_complete(entry.path())) continue;
    found.emplace_back(std::stoll(name.substr(std::string(kPrefix).size())), entry.path());
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

}  // namespace vggflow
