#include "vggflow/nn/checkpoint.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <utility>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

using Modes = std::vector<std::pair<Linear*, AdapterMode>>;

// The layers with adapters. Switching a mode changes how the module computes and not what it is, so
// it is done on a const one, and undone.
Modes adapter_modes(const Module& module) {
  Modes modes;
  for (auto& [path, child] : const_cast<Module&>(module).modules()) {
    auto* layer = dynamic_cast<Linear*>(child);
    if (layer && layer->lora.a.defined()) modes.emplace_back(layer, layer->adapter);
  }
  return modes;
}

void set_modes(const Modes& modes) {
  for (const auto& [layer, mode] : modes) layer->adapter = mode;
}

// What a gradient may be asked for besides the inputs.
std::vector<Tensor> learnable(const Module& module, const Modes& modes) {
  std::vector<Tensor> all;
  for (const NamedTensor& p : module.parameters()) all.push_back(*p.tensor);
  for (const auto& [layer, mode] : modes) {
    if (mode == AdapterMode::kOn) all.insert(all.end(), {layer->lora.a, layer->lora.b});
  }
  std::erase_if(all, [](const Tensor& t) { return !t.requires_grad(); });
  return all;
}

// How to run the block again; autograd's context stores it as a capsule.
struct Rerun : torch::CustomClassHolder {
  const Module* module;
  TensorFunction f;
  Modes modes;
  size_t inputs;  ///< how many of the saved tensors are inputs; the others are learnable

  std::vector<Tensor> operator()(const std::vector<Tensor>& x) const {
    const Modes now = adapter_modes(*module);
    set_modes(modes);
    try {
      auto y = f(x);
      set_modes(now);
      return y;
    } catch (...) {
      set_modes(now);
      throw;
    }
  }
};
using RerunPtr = c10::intrusive_ptr<Rerun>;

struct Checkpoint : torch::autograd::Function<Checkpoint> {
  static variable_list forward(AutogradContext* ctx, const RerunPtr& rerun,
                               at::TensorList tensors) {
    ctx->save_for_backward(tensors.vec());
    ctx->saved_data["rerun"] = c10::IValue::make_capsule(rerun);
    return (*rerun)(tensors.slice(0, rerun->inputs).vec());
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    VGGFLOW_CHECK(!at::GradMode::is_enabled(),
                  "[checkpoint] second derivatives cannot run through a checkpointed block; use "
                  "Dual, or switch checkpointing off");
    const auto capsule = ctx->saved_data["rerun"].toCapsule();
    const auto& rerun = static_cast<const Rerun&>(*capsule);
    const variable_list saved = ctx->get_saved_variables();
    variable_list inputs, wanted;
    std::vector<size_t> places;
    for (size_t i = 0; i < saved.size(); ++i) {
      const bool is_input = i < rerun.inputs;
      if (is_input) inputs.push_back(saved[i].detach().requires_grad_(saved[i].requires_grad()));
      if (!saved[i].requires_grad()) continue;
      wanted.push_back(is_input ? inputs.back() : saved[i]);
      places.push_back(i);
    }
    variable_list outputs, cotangents;
    {
      const at::AutoGradMode on(true);
      const auto y = rerun(inputs);
      for (size_t i = 0; i < y.size(); ++i) {
        if (!y[i].requires_grad()) continue;
        outputs.push_back(y[i]);
        cotangents.push_back(grads[i]);
      }
    }
    const auto found = torch::autograd::grad(outputs, wanted, cotangents, /*retain_graph=*/false,
                                             /*create_graph=*/false, /*allow_unused=*/true);
    variable_list out(1 + saved.size());  // the first argument of forward is no tensor
    for (size_t i = 0; i < places.size(); ++i) out[1 + places[i]] = found[i];
    return out;
  }
};

}  // namespace

std::vector<Tensor> checkpoint(const Module& module, const TensorFunction& f,
                               const std::vector<Tensor>& inputs) {
  const Modes modes = adapter_modes(module);
  std::vector<Tensor> tensors = inputs;
  const auto weights = learnable(module, modes);
  tensors.insert(tensors.end(), weights.begin(), weights.end());
  const bool needs_grad = std::any_of(tensors.begin(), tensors.end(),
                                      [](const Tensor& t) { return t.requires_grad(); });
  if (!at::GradMode::is_enabled() || !needs_grad) return f(inputs);
  auto rerun = c10::make_intrusive<Rerun>();
  rerun->module = &module;
  rerun->f = f;
  rerun->modes = modes;
  rerun->inputs = inputs.size();
  return Checkpoint::apply(rerun, at::TensorList(tensors));
}

}  // namespace vggflow
