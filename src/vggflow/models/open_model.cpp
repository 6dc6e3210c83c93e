#include "vggflow/models/open_model.h"

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/models/nano.h"

namespace vggflow {

namespace fs = std::filesystem;

namespace {

// Settings of Stable Diffusion 3 that a nano model would ignore. sd3.taesd is a place, which may be given for all models.
void refuse_sd3_settings(Sd3Options given, const fs::path& path) {
  Sd3Options plain;
  given.taesd.clear();
  const auto changed = differences(fields_of(given), fields_of(plain));
  VGGFLOW_CHECK(changed.empty(), "[model] {} is a nano model, which has no sd3.{}", path.string(), fmt::join(changed, ", sd3."));
}

}  // namespace

std::unique_ptr<FlowModel> open_flow_model(const ModelOptions& options) {
  const at::ScalarType dtype = precision_dtype(options.precision);
  const fs::path path = options.model;
  if (NanoModel::is_folder(path)) {
    refuse_sd3_settings(options.sd3, path);
    auto nano = NanoModel::load(path, dtype);
    nano->transformer.checkpointing = options.checkpointing;
    nano->open_decoder(options.sd3.taesd);
    return nano;
  }
  const bool folder = fs::is_directory(path) && !fs::is_directory(path / "snapshots");
  VGGFLOW_CHECK(!folder || fs::exists(path / "model_index.json"),
                "[model] {} is no model: expected vocabulary.txt (nano) or model_index.json (Stable Diffusion 3 in diffusers' layout) in it", path.string());
  return std::make_unique<Sd3Model>(options.model, options.sd3, dtype, options.checkpointing);
}

}  // namespace vggflow
