#include "vggflow/train/checkpoint.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/core/log.h"
#include "vggflow/io/content_hash.h"
#include "vggflow/io/files.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/io/mapped_file.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

constexpr const char* kPrefix = "update_";
constexpr const char* kState = "state.safetensors";
constexpr const char* kAbout = "checkpoint.json";
constexpr const char* kFormatKey = "format";  // in the state's header
constexpr int64_t kFormat = 2;

std::optional<int64_t> whole_number(const std::string& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number)
                                                                  : std::nullopt;
}

// Complete checkpoints, oldest first. A folder of a like name (a copy by hand) is none.
std::vector<std::pair<int64_t, fs::path>> complete_checkpoints(const fs::path& run,
                                                               bool say_unfinished = false) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    const auto update = whole_number(name.substr(std::string(kPrefix).size()));
    if (!update) continue;
    if (is_complete(entry.path())) {
      found.emplace_back(*update, entry.path());
    } else if (say_unfinished) {
      log_info("the checkpoint of update {} is not complete, and is left out", *update);
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

void write_state(const fs::path& run, const std::string& name, const Checkpoint& checkpoint) {
  make_writable_folder(run / "checkpoints");
  Metadata metadata = checkpoint.metadata;
  metadata["update"] = fmt::to_string(checkpoint.update);
  metadata[kFormatKey] = fmt::to_string(kFormat);
  write_folder(run / "checkpoints" / name, [&](const fs::path& folder) {
    write_safetensors(folder / kState, checkpoint.tensors, metadata);
    const auto bytes = MappedFile::open(folder / kState, "checkpoint");
    const Json about{{"format", kFormat},
                     {"update", checkpoint.update},
                     {"file", kState},
                     {"bytes", bytes->size()},
                     {"hash", bytes_hash({bytes->data(), bytes->size()})}};
    write_text(folder / kAbout, json_text(about, 2) + "\n");
  });
}

// Holds the state's bytes against what checkpoint.json says of them.
void check_bytes(const fs::path& folder, const MappedFile& state, int64_t update) {
  const Json about = parse_json(read_text(folder / kAbout), (folder / kAbout).string());
  const auto value = [&](const char* key) {
    return about.is_object() ? about.value(key, Json()) : Json();
  };
  VGGFLOW_CHECK(
      value("format") == kFormat,
      "[checkpoint] expected format {} in {}, got {}: it is damaged, or of a newer vggflow",
      kFormat, (folder / kAbout).string(), value("format").dump());
  VGGFLOW_CHECK(value("update") == update && value("file") == kState &&
                    value("bytes") == state.size() &&
                    value("hash") == bytes_hash({state.data(), state.size()}),
                "[checkpoint] {} is not as it was written: its bytes do not have the hash that {} "
                "holds",
                state.name(), kAbout);
}

Checkpoint read_checkpoint(const fs::path& folder, int64_t update) {
  const auto bytes = MappedFile::open(folder / kState, "checkpoint");
  const bool described = fs::exists(folder / kAbout);
  if (described) check_bytes(folder, *bytes, update);
  const SafetensorsFile file(bytes);
  Checkpoint checkpoint{update, {}, file.metadata()};
  VGGFLOW_CHECK(described || !checkpoint.metadata.contains(kFormatKey),
                "[checkpoint] {} has lost its {}", folder.string(), kAbout);
  const int64_t inside = checkpoint_number(checkpoint, "update");
  VGGFLOW_CHECK(inside == update, "[checkpoint] {} is of update {}, not of its folder's name",
                (folder / kState).string(), inside);
  for (const auto& [name, entry] : file.tensors())
    checkpoint.tensors.emplace_back(name, file.load(name));
  return checkpoint;
}

}  // namespace

void save_best_checkpoint(const fs::path& run, const Checkpoint& checkpoint) {
  write_state(run, "best", checkpoint);
}

void save_checkpoint(const fs::path& run, const Checkpoint& checkpoint) {
  write_state(run, fmt::format("{}{:06}", kPrefix, checkpoint.update), checkpoint);
  std::vector<fs::path> kept;
  for (const auto& [update, folder] : complete_checkpoints(run)) {
    // Beyond this update there are only those that could not be read.
    if (update > checkpoint.update) fs::remove_all(folder);
    if (update <= checkpoint.update) kept.push_back(folder);
  }
  for (size_t i = 0; i + 2 < kept.size(); ++i) fs::remove_all(kept[i]);
}

std::optional<int64_t> last_checkpoint(const fs::path& run) {
  const auto all = complete_checkpoints(run);
  return all.empty() ? std::nullopt : std::optional(all.back().first);
}

std::optional<Checkpoint> load_checkpoint(const fs::path& run) {
  const auto all = complete_checkpoints(run, /*say_unfinished=*/true);
  std::string damage;
  for (auto newest = all.rbegin(); newest != all.rend(); ++newest) {
    try {
      return read_checkpoint(newest->second, newest->first);
    } catch (const Error& e) {
      log_info("the checkpoint of update {} cannot be used, and the one before is looked for: {}",
               newest->first, e.what());
      if (damage.empty()) damage = e.what();
    }
  }
  VGGFLOW_CHECK(
      all.empty(),
      "[resume] no checkpoint of {} can be used (the newest: {}). Put a copy of one back, "
      "or start a new run in another folder; lora_best.safetensors, where there is one, is "
      "a start for it (init_lora=FILE)",
      run.string(), damage);
  return std::nullopt;
}

std::optional<Checkpoint> broadcast(const Group& group,
                                    const std::optional<Checkpoint>& checkpoint) {
  if (group.size() == 1) return checkpoint;
  Json about = nullptr;
  if (checkpoint) {
    about = {{"update", checkpoint->update}, {"metadata", checkpoint->metadata}};
    about["tensors"] = Json::array();
    for (const auto& [name, tensor] : checkpoint->tensors) {
      about["tensors"].push_back(name);
    }
  }
  about = parse_json(group.broadcast(json_text(about)), "rank 0's checkpoint");
  if (about.is_null()) return std::nullopt;
  Checkpoint out{about.at("update").get<int64_t>(), {}, about.at("metadata").get<Metadata>()};
  for (size_t i = 0; i < about.at("tensors").size(); ++i) {
    const Tensor own = checkpoint ? checkpoint->tensors[i].second : at::empty({0});
    out.tensors.emplace_back(about.at("tensors")[i].get<std::string>(), group.broadcast(own));
  }
  return out;
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
