#include "vggflow/train/base_cache.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/hash.h"
#include "vggflow/core/log.h"
#include "vggflow/io/files.h"
#include "vggflow/io/safetensors.h"

namespace vggflow {
namespace {

constexpr const char* kIdentity = "identity";

}  // namespace

BaseCache::BaseCache(const std::filesystem::path& folder, std::string identity)
    : identity_(std::move(identity)),
      file_(folder / fmt::format("base-{:016x}.safetensors", fnv1a(identity_))) {}

std::optional<TensorMap> BaseCache::read() const {
  if (!std::filesystem::exists(file_)) return std::nullopt;
  try {
    const SafetensorsFile file(file_);
    const auto identity = file.metadata().find(kIdentity);
    if (identity == file.metadata().end() || identity->second != identity_) return std::nullopt;
    TensorMap figures;
    for (const auto& entry : file.tensors()) figures[entry.first] = file.load(entry.first);
    return figures;
  } catch (const Error& e) {
    log_info("the base is measured anew: {}", e.what());
    return std::nullopt;
  }
}

void BaseCache::write(const TensorMap& figures) const {
  try {
    make_writable_folder(file_.parent_path());
    write_safetensors(file_, TensorList(figures.begin(), figures.end()), {{kIdentity, identity_}});
  } catch (const Error& e) {
    log_info("the base's figures are not kept for other runs: {}", e.what());
  }
}

}  // namespace vggflow
