#pragma once
// The C++ library in one include: open a flow model, sample and score images, align it with a
// reward, or try a method on a problem of your own. examples/cpp shows each, docs/library.md
// explains them.
//
//   find_package(vggflow REQUIRED)
//   target_link_libraries(mine PRIVATE vggflow::vggflow)
//
// Tensors are LibTorch's (at::Tensor). Images are (B, 3, H, W): about [-1, 1] as a model decodes
// them, [0, 1] as rewards see them. Times are in [0, 1], from noise to data. What fails throws
// vggflow::Error with a sentence that says what was expected, what was there, and what to do.

#include <ATen/ATen.h>

// Models: open_flow_model gives a FlowModel of whatever family the path holds.
#include "vggflow/families/open_model.h"
#include "vggflow/flow/adapted_flow.h"
#include "vggflow/flow/guided_velocity.h"
#include "vggflow/flow/sampling.h"
// Images of prompts, with a LoRA or without: Generator.
#include "vggflow/eval/run.h"
#include "vggflow/io/image_file.h"
// Rewards: make_reward by name, add_reward for one of your own.
#include "vggflow/rewards/reward.h"
// Alignment runs: align() with the settings of `vggflow align`.
#include "vggflow/train/align.h"
// Methods: make_method by name, on any AlignmentProblem; problems with known answers.
#include "vggflow/algorithms/registry.h"
#include "vggflow/proofs/analytic_optima.h"
// Settings as text, seeds, devices, errors.
#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/version.h"
#include "vggflow/device/device.h"
#include "vggflow/ops/random_tensor.h"
