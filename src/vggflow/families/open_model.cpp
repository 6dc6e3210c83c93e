#include "vggflow/families/open_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/shipped_files.h"
#include "vggflow/families/registry.h"

namespace vggflow {

namespace fs = std::filesystem;

fs::path model_path(const ModelOptions& options) { return find_shipped(options.model); }

namespace {

const Family& known_family(const ModelOptions& options) {
  const Family* family = family_of(model_path(options));
  std::vector<std::string> signs;
  for (const Family& known : families()) signs.push_back(known.sign);
  VGGFLOW_CHECK(family, "[model] {} is no model: expected {} in it", model_path(options).string(),
                fmt::join(signs, " or "));
  return *family;
}

const Family& checked_family(const ModelOptions& options) {
  const Family& family = known_family(options);
  family.check(options);
  return family;
}

ModelShape shape_of(std::shared_ptr<const FamilyModel> model) {
  ModelShape shape = model->shape();
  shape.model = std::move(model);
  return shape;
}

std::shared_ptr<const FamilyModel> under(const ModelOptions& options, const ModelShape& shape) {
  return known_family(options).model(options, shape.model.get());
}

}  // namespace

ModelOptions options_of(const ModelSource& files) {
  ModelOptions options{.model = files.model, .precision = Precision::kFp32, .sd3 = {}};
  options.sd3.config = files.config;
  options.sd3.variant = files.variant;
  options.sd3.revision = files.revision;
  return options;
}

WrittenModel write_model(const ModelSource& files, const fs::path& out, const ModelCopy& copy) {
  const ModelOptions options = options_of(files);
  const Family& family = checked_family(options);
  VGGFLOW_CHECK(family.write, "[model] models of the family {} are not written again", family.name);
  return family.write(options, out, copy);
}

void check_model_options(const ModelOptions& options) { checked_family(options); }

void check_model_sizes(const ModelOptions& options, const ModelShape& shape) {
  under(options, shape)->check();
}

ModelShape read_model_shape(const ModelOptions& options) {
  return shape_of(checked_family(options).model(options, nullptr));
}

ModelShape reshaped(const ModelShape& shape, const ModelOptions& options) {
  return shape_of(under(options, shape));
}

bool is_model_folder(const fs::path& folder) {
  return fs::is_directory(folder) && family_of(folder) != nullptr;
}

const std::string& negative_prompt(const ModelOptions& options) {
  return options.sd3.negative_prompt;
}

bool has_own_prompts(const ModelOptions& options) {
  const Family* family = family_of(model_path(options));
  return family && family->has_own_prompts(model_path(options));
}

int64_t images_at_once(int64_t batch, const std::vector<int64_t>& shape) {
  constexpr int64_t kImages = 64, kPositions = 16 * 16, kColours = 3;
  if (batch > 0) return batch;
  if (shape[0] == kColours) return kImages;
  return std::clamp<int64_t>(kImages * kPositions / (shape[1] * shape[2]), 1, kImages);
}

std::unique_ptr<FlowModel> open_flow_model(const ModelOptions& options, const Group& group) {
  return checked_family(options).model(options, nullptr)->open(group);
}

}  // namespace vggflow
