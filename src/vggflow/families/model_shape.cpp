#include "vggflow/families/model_shape.h"

#include <utility>

#include "vggflow/families/registry.h"

namespace vggflow {
namespace {

ModelShape shape_of(std::shared_ptr<const FamilyModel> model) {
  ModelShape shape = model->shape();
  shape.model = std::move(model);
  return shape;
}

std::shared_ptr<const FamilyModel> under(const ModelOptions& options, const ModelShape& shape) {
  return family_of(model_path(options))->model(options, shape.model.get());
}

}  // namespace

ModelFiles::ModelFiles(const ModelOptions& options) : shape_(read_model_shape(options)) {}

void check_model_sizes(const ModelOptions& options, const ModelShape& shape) {
  under(options, shape)->check();
}

ModelShape read_model_shape(const ModelOptions& options) {
  check_model_options(options);
  return shape_of(family_of(model_path(options))->model(options, nullptr));
}

ModelShape reshaped(const ModelShape& shape, const ModelOptions& options) {
  return shape_of(under(options, shape));
}

}  // namespace vggflow
