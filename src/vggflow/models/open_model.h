#pragma once
// Opens whatever flow model a path names: a nano folder, an SD3 folder, or a single file.

#include <memory>
#include <string>

#include "vggflow/models/flow_model.h"
#include "vggflow/models/sd3_model.h"

namespace vggflow {

struct ModelOptions {
  std::string model = "models/nano";
  std::string precision = "auto";
  bool checkpointing = false;
  Sd3Options sd3;

  template <class V>
  void fields(V& v) {
    v("model", model, "the flow model: a nano folder, a Stable Diffusion 3 folder in diffusers' layout, its org/name in the Hugging Face cache, or a single file");
    v("precision", precision, "of the frozen weights and matrix products; auto: bf16 where the processor has it", choices({"auto", "bf16", "fp32"}));
    v("checkpointing", checkpointing, "blocks of the network and of the decoder keep their inputs alone and run again for gradients: less memory, one more forward pass");
    v.section("sd3", sd3);
  }
};

/// Frozen, in options.precision. A path that is neither is refused with what was looked for.
std::unique_ptr<FlowModel> open_flow_model(const ModelOptions& options);

}  // namespace vggflow
