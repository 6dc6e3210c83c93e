// What bf16 leaves of an update's gradient: theta's gradient with the network in bf16 against fp32,
// on the same (bf16) weights, for adapters so small that v_theta - v_base is less than the rounding
// of either. nano is the shipped model, the tiny SD3 has random weights.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "vggflow/algorithms/registry.h"
#include "vggflow/families/open_model.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/reference.h"
#include "vggflow/train/image_problem.h"

namespace vggflow {
namespace {

constexpr double kAdapters = 0.003;
const std::vector<std::string> kPrompts{"red heart", "cat", "blue star", "dog"};

struct Side {
  Side(const std::string& path, Precision precision) {
    ModelOptions o;
    o.model = path;
    o.precision = precision;
    o.sd3.t5_tokens = 20;
    o.sd3.height = o.sd3.width = 16;
    model = open_flow_model(o);
    for (const NamedTensor& p : model->network().parameters())
      *p.tensor = p.tensor->to(at::kBFloat16)
                      .to(precision == Precision::kBf16 ? at::kBFloat16 : at::kFloat);
    adapted = std::make_unique<AdaptedFlow>(
        *model,
        LoraOptions{8, 8, {"transformer_blocks.*.attn.to_q", "transformer_blocks.*.attn.to_v"}}, 0);
    uint64_t id = 0;
    for (const NamedTensor& p : adapted->parameters()) {
      const Tensor noise = keyed_normal(3, Purpose::kTest, 0, id++, 1, p.tensor->sizes())[0];
      if (p.name.ends_with("lora_B.weight")) *p.tensor = (kAdapters * noise).requires_grad_(true);
    }
    adapted->merge();
  }
  Tensor gradient() const {
    std::vector<Tensor> parts;
    for (const NamedTensor& p : adapted->parameters())
      parts.push_back(p.tensor->grad().flatten().to(at::kDouble));
    return at::cat(parts);
  }
  std::unique_ptr<FlowModel> model;
  std::unique_ptr<AdaptedFlow> adapted;
};

// The problem, and whether it carries v_theta - v_base or takes it of two calls.
struct Posed : ImageProblem {
  Posed(Side& side, const Reward& reward, bool carries)
      : ImageProblem({*side.model, *side.adapted, reward, nullptr},
                     {.guidance = 3.0, .clamp = PixelClamp::kStraightThrough}, kPrompts),
        carries_(carries && side.model->computes_narrow()) {}
  bool has_difference() const override { return carries_; }

 private:
  bool carries_;
};

Tensor gradient_of(const std::string& method, const std::string& settings, const std::string& path,
                   Precision precision, bool carries) {
  Side side(path, precision);
  const auto reward = make_reward("colorfulness", {});
  Posed problem(side, *reward, carries);
  MethodOptions options;
  options.set(method, settings);
  make_method(method, options)
      ->update(problem, {.seed = 5,
                         .x0 = keyed_normal(5, Purpose::kNoise, 0, 0, 4, side.model->state_shape()),
                         .times = time_grid({.steps = 8}),
                         .micro_batch = 64});
  return side.gradient();
}

double cosine(const Tensor& a, const Tensor& b) {
  return ((a * b).sum() / (a.norm() * b.norm())).item<double>();
}

struct Regression {
  std::string method, settings;
};
const std::vector<Regression> kRegressions{{"vgg-flow", "bins=3 beta=1"},
                                           {"vgg-flow-pmp", "bins=3 beta=1"},
                                           {"fitted-adjoint", "bins=3 beta=1"},
                                           {"adjoint-matching", "clip=none"}};

TEST(Bf16, LeavesTheRegressionsTheirGradientOnNano) {
  const std::string nano = std::string(VGGFLOW_SOURCE_DIR) + "/models/nano";
  for (const auto& [method, settings] : kRegressions) {
    const Tensor want = gradient_of(method, settings, nano, Precision::kFp32, true);
    EXPECT_GT(cosine(gradient_of(method, settings, nano, Precision::kBf16, true), want), 0.999)
        << method;
    EXPECT_LT(cosine(gradient_of(method, settings, nano, Precision::kBf16, false), want), 0.997)
        << method << ": two calls do as well, and nothing need be carried";
  }
}

}  // namespace
}  // namespace vggflow
