#pragma once
// The files of the flow model that settings name, opened once.

#include <memory>
#include <string>

#include "vggflow/families/open_model.h"
#include "vggflow/flow/model_shape.h"

namespace vggflow {

/// A model whose files are opened once: first its shape, which settings are checked against, then
/// the model.
class ModelFiles {
 public:
  explicit ModelFiles(const ModelOptions& options);
  const ModelShape& shape() const { return shape_; }
  /// As open_flow_model.
  std::unique_ptr<FlowModel> open() const { return shape_.model->open(); }
  /// As FamilyModel::network_hash.
  std::string network_hash() const { return shape_.model->network_hash(); }

 private:
  ModelShape shape_;
};

/// Throws where images of these settings cannot be made by a model of this shape.
void check_model_sizes(const ModelOptions& options, const ModelShape& shape);

/// The shape of options.model: config.json and config.yaml are read, and of the weights the
/// safetensors header alone.
ModelShape read_model_shape(const ModelOptions& options);

/// The shape of the same model under other settings; its files are not opened again.
ModelShape reshaped(const ModelShape& shape, const ModelOptions& options);

}  // namespace vggflow
