#include "vggflow/families/open_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/shipped_files.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/flow/precision.h"

namespace vggflow {

namespace fs = std::filesystem;

fs::path model_path(const ModelOptions& options) { return find_shipped(options.model); }

// sd3.taesd is a place, which may be given for all models.
void check_model_options(const ModelOptions& options) {
  const fs::path path = model_path(options);
  const bool nano = NanoModel::is_folder(path),
             folder = fs::is_directory(path) && !fs::is_directory(path / "snapshots");
  VGGFLOW_CHECK(nano || !folder || fs::exists(path / "model_index.json"),
                "[model] {} is no model: expected vocabulary.txt (nano) or model_index.json "
                "(Stable Diffusion 3 in diffusers' layout) in it",
                path.string());
  if (!nano) return;
  Sd3Options given = options.sd3, plain;
  given.taesd.clear();
  const auto changed = differences(fields_of(given), fields_of(plain));
  VGGFLOW_CHECK(changed.empty(), "[model] {} is a nano model, which has no sd3.{}", options.model,
                fmt::join(changed, ", sd3."));
}

bool is_model_folder(const fs::path& folder) {
  return NanoModel::is_folder(folder) || fs::exists(folder / "model_index.json") ||
         fs::is_directory(folder / "snapshots");
}

const std::string& negative_prompt(const ModelOptions& options) {
  return options.sd3.negative_prompt;
}

bool draws_emoji(const ModelOptions& options) {
  const fs::path folder = model_path(options);
  if (!NanoModel::is_folder(folder)) return false;
  NanoOptions nano;
  load_yaml(fields_of(nano), folder / "config.yaml");
  return nano.decoder == "none";
}

int64_t images_at_once(int64_t batch, const std::vector<int64_t>& shape) {
  constexpr int64_t kImages = 64, kPositions = 16 * 16, kColours = 3;
  if (batch > 0) return batch;
  if (shape[0] == kColours) return kImages;
  return std::clamp<int64_t>(kImages * kPositions / (shape[1] * shape[2]), 1, kImages);
}

std::unique_ptr<FlowModel> open_flow_model(const ModelOptions& options) {
  const at::ScalarType dtype = precision_dtype(options.precision);
  const fs::path path = model_path(options);
  check_model_options(options);
  if (NanoModel::is_folder(path)) {
    auto nano = NanoModel::load(path, dtype);
    nano->transformer.checkpointing = options.checkpointing;
    nano->open_decoder(options.sd3.taesd);
    return nano;
  }
  return std::make_unique<Sd3Model>(path.string(), options.sd3, dtype, options.checkpointing);
}

}  // namespace vggflow
