#pragma once
// What the correction network's own U-Net costs, from its sizes alone; the other kinds are networks
// of the model's family (flow/model_shape.h).

#include "vggflow/families/value_network.h"
#include "vggflow/nn/pass_cost.h"

namespace vggflow {

/// One pass on x (C, h, w), fp32, trained.
PassCost unet_value_cost(const ValueOptions& options, int64_t channels, int64_t h, int64_t w);
double unet_value_parameters(const ValueOptions& options, int64_t channels, int64_t pooled_dim);

}  // namespace vggflow
