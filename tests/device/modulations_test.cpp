// What a network on a device does not make anew at every forward: fp32 copies of narrow weights,
// joined weights of queries, keys and values, weights that come up from a file.
#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>

#include <atomic>
#include <functional>
#include <memory>

#include "pretend_run.h"
#include "tiny_sd35.h"
#include "vggflow/families/open_model.h"
#include "vggflow/families/sd3/mmdit_network.h"
#include "vggflow/ops/cast_linear.h"
#include "vggflow/testing/count_calls.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/weights/frozen_weights.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using testing::device_counts;
using testing::norm_error;
using testing::on_pretend_device;
using testing::pretend_device;

Tensor draw(uint64_t id, at::IntArrayRef shape) {
  return keyed_normal(41, Purpose::kTest, 0, id, 1, shape).squeeze(0);
}

Tensor wide(const Tensor& x) { return x.cpu().to(at::kDouble); }

// Each against double precision with the same weights.
TEST(CastLinear, MultipliesByNarrowWeightsAsTheyLieWithTheErrorOfFp32) {
  const DeviceScope device(pretend_device());
  const Tensor w = draw(1, {50, 40}).to(at::kBFloat16).to(pretend_device()),
               b = draw(2, {50}).to(at::kBFloat16).to(pretend_device()),
               x = draw(3, {3, 40}).to(pretend_device()),
               dx = draw(4, {3, 40}).to(pretend_device()),
               g = draw(5, {3, 50}).to(pretend_device());
  ASSERT_TRUE(ops::multiplies_as_it_lies(x, w));
  const Tensor want = at::linear(wide(x), wide(w), wide(b)), dwant = at::linear(wide(dx), wide(w));
  const Tensor leaf = x.clone().requires_grad_(true);
  const Tensor y = ops::cast_linear(leaf, w, b);
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  EXPECT_LE(norm_error(wide(y), want), 3e-7);
  EXPECT_LE(norm_error(wide(torch::autograd::grad({y}, {leaf}, {g})[0]), at::mm(wide(g), wide(w))),
            3e-7);
  const Dual dual = ops::cast_linear(Dual{x, dx}, w, b);
  EXPECT_LE(norm_error(wide(dual.value), want), 3e-7);
  EXPECT_LE(norm_error(wide(dual.tangent), dwant), 3e-7);
  const Pair pair = ops::cast_linear(Pair{x, 1e-3 * dx}, w, b);
  EXPECT_LE(norm_error(wide(pair.base), want), 3e-7);
  EXPECT_LE(norm_error(wide(pair.difference), 1e-3 * dwant), 3e-7);
  EXPECT_FALSE(ops::cast_linear(Pair{x, {}}, w, b).difference.defined());
}

// Weights that are trained, the CPU and kernels=plain take the cast.
TEST(CastLinear, CastsWhereItMust) {
  const Tensor w = draw(1, {50, 40}).to(at::kBFloat16), x = draw(3, {3, 40});
  EXPECT_FALSE(ops::multiplies_as_it_lies(x, w));
  EXPECT_TRUE(at::equal(ops::cast_linear(x, w, {}), at::linear(x, w.to(at::kFloat))));
  const Tensor there = x.to(pretend_device()),
               trained = w.to(pretend_device()).requires_grad_(true);
  EXPECT_FALSE(ops::multiplies_as_it_lies(there, trained));
  const Tensor y = ops::cast_linear(there, trained, {});
  EXPECT_TRUE(torch::autograd::grad({y.sum()}, {trained})[0].defined());
  EXPECT_FALSE(
      on_pretend_device([&] { return ops::multiplies_as_it_lies(there, w.to(pretend_device())); }));
}

// Casts of bf16 matrices of `numbers` and more to fp32 on the device while f runs.
int widenings(int64_t numbers, const std::function<void()>& f) {
  static std::atomic<int> found;
  static int64_t least;
  found = 0;
  least = numbers;
  const auto handle =
      at::addGlobalCallback(at::RecordFunctionCallback([](const at::RecordFunction& op)
                                                           -> std::unique_ptr<at::ObserverContext> {
                              const auto inputs = op.inputs();
                              if (std::string_view(op.name()) == "aten::_to_copy" &&
                                  inputs[0].isTensor() && inputs[1].isInt()) {
                                const Tensor& x = inputs[0].toTensor();
                                found += x.device() == pretend_device() &&
                                         x.scalar_type() == at::kBFloat16 && x.numel() >= least &&
                                         inputs[1].toScalarType() == at::kFloat;
                              }
                              return nullptr;
                            }).needsInputs(true));
  f();
  at::removeCallback(handle);
  return found;
}

// Forward, backward, tangent and pair of SD3.5-medium's blocks in bf16.
TEST(NetworkOnADevice, WidensNoWeightInAnyPass) {
  const auto passes = [](int64_t numbers) {
    const int64_t width = 32;
    Mmdit net({.sample_size = 8,
               .channels = 1,
               .patch_size = 4,
               .layers = 3,
               .heads = 2,
               .head_dim = width / 2,
               .context_dim = 12,
               .pooled_dim = 40,
               .pos_embed_max = 2,
               .qk_norm = true,
               .dual_attention_layers = {0}});
    uint64_t id = 0;
    for (const NamedTensor& p : net.parameters())
      *p.tensor = (0.2 * draw(id++, p.tensor->sizes())).to(at::kBFloat16).to(pretend_device());
    net.compute = at::kBFloat16;
    const auto on_device = [](const Tensor& t) { return t.to(pretend_device()); };
    const Tensor x = on_device(draw(90, {1, 1, 8, 8})), t = on_device(at::full({1}, 300.0));
    const Conditioning c{on_device(draw(91, {1, 2, 12}).to(at::kBFloat16)),
                         on_device(draw(92, {1, 40}).to(at::kBFloat16))};
    return widenings(numbers, [&] {
      const Tensor leaf = x.clone().requires_grad_(true);
      torch::autograd::grad({net.forward(leaf, t, c).sum()}, {leaf});
      net.checkpointing = true;
      torch::autograd::grad({net.forward(leaf, t, c).sum()}, {leaf});
      const at::NoGradGuard no_grad;
      net.forward(Dual{x, x}, Dual{t, at::ones_like(t)}, c);
      net.forward(Pair{x, {}}, Pair{t, {}}, c);
    });
  };
  constexpr int64_t kMatrix = 32 * 32;  // of all linear layers; activations are smaller
  {
    const DeviceScope device(pretend_device());
    EXPECT_EQ(passes(kMatrix), 0);
  }
  EXPECT_GT(on_pretend_device([&] { return passes(kMatrix); }), 0) << "kernels=plain";
}

// Loading joins the weights of queries, keys and values: a call puts none together.
TEST(NetworkOnADevice, JoinsQueriesKeysAndValuesOnce) {
  const testing::TemporaryFolder folder;
  testing::write_sd35(folder / "sd35");
  for (const fs::path& path : {fs::path(VGGFLOW_SOURCE_DIR) / "models/nano",
                               testing::models_testdata("sd3_tiny"), folder / "sd35"}) {
    const auto count = [&](bool again) {
      ModelOptions o;
      o.model = path.string();
      o.precision = Precision::kFp32;
      const auto model = open_flow_model(o);
      Mmdit& net = dynamic_cast<OnMmdit<FlowModel>&>(*model).mmdit();
      if (again) net.join_projections();
      const auto made = [](const Tensor& t) { return t.to(current_device()); };
      const auto state = model->state_shape();
      const Tensor x = made(draw(1, {1, state[0], state[1], state[2]})),
                   t = made(at::full({1}, 0.5));
      const Conditioning c{made(draw(2, {1, 3, net.options.context_dim})),
                           made(draw(3, {1, net.options.pooled_dim}))};
      return testing::count_calls("aten::cat", [&] { (void)model->velocity(x, t, c); });
    };
    const int device = on_pretend_device([&] { return count(false); }),
              joined = on_pretend_device([&] { return count(true); }),
              cpu = testing::on_plain_cpu([&] { return count(false); });
    EXPECT_EQ(device, joined) << path;
    EXPECT_LT(device, cpu) << path;
  }
}

// In the file's dtype and in others, in parts that a stage holds.
TEST(FrozenWeights, ComeUpInPartsAndAreTheFiles) {
  constexpr int64_t kStage = int64_t{32} << 20;
  const int64_t many = 5 * kStage / 8 + 3;  // of bf16: 1.25 stages
  ComponentWeights weights{.tensors = {{"small", draw(1, {3, 5})},
                                       {"none", at::empty({0, 4})},
                                       {"turned", draw(2, {7, 6}).t()},
                                       {"large", at::arange(many, at::kInt).to(at::kBFloat16)}},
                           .files = {},
                           .origin = "[test]"};
  for (const auto dtype : {at::kBFloat16, at::kFloat}) {
    const DeviceScope device(pretend_device());
    std::map<std::string, Tensor> got;
    std::vector<NamedTensor> targets;
    for (const auto& [name, tensor] : weights.tensors) {
      got[name] = at::empty(tensor.sizes(), at::kMeta);
      targets.push_back({name, &got[name]});
    }
    const auto before = device_counts();
    adopt_weights(targets, weights, dtype);
    const int64_t copies = (device_counts() - before).to_device;
    for (const auto& [name, tensor] : weights.tensors) {
      EXPECT_EQ(got[name].device(), pretend_device()) << name;
      EXPECT_EQ(got[name].scalar_type(), dtype) << name;
      EXPECT_TRUE(at::equal(got[name].cpu(), tensor.to(dtype))) << name;
      EXPECT_EQ(got[name].strides(), tensor.strides()) << name;
    }
    EXPECT_EQ(copies, 2 + (dtype == at::kFloat ? 3 : 2));
  }
}

}  // namespace
}  // namespace vggflow
