#include "vggflow/rewards/torchscript_reward.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <exception>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/device/device.h"

namespace vggflow {
namespace {

// What went wrong, without the stacks around it: the last line of an interpreter's report, which
// holds the operator's own words.
std::string said(const std::exception& e) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&e);
  std::string text = torch_error ? torch_error->what_without_backtrace() : e.what();
  text.erase(text.find_last_not_of("\n ") + 1);
  return text.substr(text.rfind('\n') + 1);
}

torch::jit::Module load(const std::filesystem::path& file) {
  VGGFLOW_CHECK(std::filesystem::is_regular_file(file),
                "[torchscript] expected a file that torch.jit.save wrote at {}, found none",
                file.string());
  try {
    torch::jit::Module module = torch::jit::load(file.string(), current_device());
    module.eval();
    for (const Tensor& parameter : module.parameters()) parameter.set_requires_grad(false);
    return module;
  } catch (const std::exception& e) {
    fail("[torchscript] {} is not a module that torch.jit.save wrote: {}", file.string(), said(e));
  }
}

}  // namespace

TorchScriptReward::TorchScriptReward(const std::filesystem::path& file)
    : file_(file), module_(std::make_unique<torch::jit::Module>(load(file))) {
  const auto method = module_->find_method("forward");
  const size_t inputs = method ? method->num_inputs() - 1 : 0;  // without self
  VGGFLOW_CHECK(
      inputs == 1 || inputs == 2,
      "[torchscript] expected {} to have forward(images) or forward(images, prompts), got {}",
      file.string(), method ? fmt::format("{} inputs", inputs) : "no forward");
  takes_prompts_ = inputs == 2;
}

TorchScriptReward::~TorchScriptReward() = default;

Tensor TorchScriptReward::score(const Tensor& images,
                                const std::vector<std::string>& prompts) const {
  // The optimizer's fused gradients cannot be differentiated again, and its first calls differ from
  // later ones in rounding.
  const torch::jit::GraphOptimizerEnabledGuard plain(false);
  std::vector<c10::IValue> inputs{images};
  if (takes_prompts_) inputs.emplace_back(prompts);
  c10::IValue out;
  try {
    out = module_->forward(std::move(inputs));
  } catch (const std::exception& e) {
    fail("[torchscript] {} failed on images {}: {}", file_.string(), shape_string(images), said(e));
  }
  VGGFLOW_CHECK(out.isTensor(), "[torchscript] expected a tensor of scores from {}, got {}",
                file_.string(), out.tagKind());
  const Tensor scores = out.toTensor();
  VGGFLOW_CHECK(scores.dim() == 1 && scores.size(0) == images.size(0),
                "[torchscript] expected scores ({}) from {}, got {}", images.size(0),
                file_.string(), shape_string(scores));
  VGGFLOW_CHECK(scores.requires_grad() || !images.requires_grad() || !at::GradMode::is_enabled(),
                "[torchscript] {} has no gradient to the "
                "images: its scores do not depend on them, or are computed under no_grad",
                file_.string());
  return scores.to(images.scalar_type());
}

Dual TorchScriptReward::score(const Dual& images, const std::vector<std::string>& prompts) const {
  const bool differentiated = images.value.requires_grad() && at::GradMode::is_enabled();
  const at::AutoGradMode on(true);
  const Tensor x = differentiated ? images.value : images.value.detach().requires_grad_(true);
  const Tensor r = score(x, prompts);
  const Tensor gradient = torch::autograd::grad({r.sum()}, {x}, {}, /*retain_graph=*/differentiated,
                                                /*create_graph=*/differentiated)[0];
  // The gradient of a linear module is no function of x for autograd; 0 x makes it one, whose
  // derivative is 0.
  const Tensor tangent =
      ops::sum((gradient + 0 * x) * images.tangent, {1, 2, 3}, /*keepdim=*/false);
  return {differentiated ? r : r.detach(), differentiated ? tangent : tangent.detach()};
}

}  // namespace vggflow
