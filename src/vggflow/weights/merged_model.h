#pragma once
// Copies of a model's files, as every family writes them: in another number format, or with
// adapters merged into the network. What was written is held against what was meant.

#include <optional>
#include <string>
#include <vector>

#include "vggflow/io/safetensors.h"
#include "vggflow/nn/lora.h"

namespace vggflow {

struct ModelCopy {
  std::optional<at::ScalarType> dtype;  ///< of every floating-point tensor; none: each as it is
  /// Merged into the network: W + scale B A in fp32, rounded once.
  std::vector<LoraLayer> adapters = {};
  Metadata metadata = {};  ///< for the header of the file that holds the network
};

/// What was written, and what reading it back showed.
struct WrittenModel {
  std::string layout;  ///< for people: "a folder in diffusers' layout"
  size_t tensors = 0;
  std::vector<std::string> components;
  double worst_rounding = 0;  ///< largest relative error that rounding makes in a layer's change
  std::string worst_name;
  double output_error = 0;  ///< see check_merged_output; of a copy with adapters
};

/// Takes the layer `name` into `seen`: its weights as they were, as base + change, and as they were
/// written in `dtype`. Throws where rounding loses the change.
void check_merged_layer(const std::string& name, const Tensor& before, const Tensor& exact,
                        const Tensor& written, at::ScalarType dtype, WrittenModel& seen);

/// Holds outputs of a network whose weights were merged and rounded against those of base and
/// adapter: the merged one may differ from the adapted one by denoiser_tolerance of its largest
/// value, and by less than the adapter changes. Returns the relative difference.
double check_merged_output(const Tensor& base, const Tensor& adapted, const Tensor& merged,
                           at::ScalarType dtype);

}  // namespace vggflow
