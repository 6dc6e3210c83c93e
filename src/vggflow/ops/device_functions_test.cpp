// The functions over a device's kernels, with the host's instantiation as the back end of the CPU:
// what a GPU runs through but for the launch itself (tests/gpu runs the same check there).
#include "vggflow/ops/device_functions.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "vggflow/core/error.h"
#include "vggflow/device/device.h"
#include "vggflow/ops/block_functions.h"
#include "vggflow/ops/kernel_check.h"
#include "vggflow/testing/message.h"

namespace vggflow::ops {
namespace {

using ::testing::HasSubstr;

struct Launches {
  int64_t gelu = 0;
} launches;

// The host's table with a count, to see what runs.
const kernels::DeviceTable& counting_table() {
  static const kernels::DeviceTable table = [] {
    kernels::DeviceTable t = kernels::host_table();
    t.gelu = [](const kernels::Gelu& a, void* stream) {
      ++launches.gelu;
      return kernels::host_table().gelu(a, stream);
    };
    return t;
  }();
  return table;
}

TEST(DeviceFunctions, EqualTheirCompositionsInDoublePrecision) {
  const DeviceKernelsScope scope(at::kCPU, kernels::host_table());
  for (const KernelError& e : kernel_check(at::kCPU)) EXPECT_LE(e.error, e.bound) << e.name;
}

TEST(DeviceFunctions, TheCpusOwnPathHoldsTheBoundsOfFloat) {
  for (const KernelError& e : kernel_check(at::kCPU)) {
    if (e.name.find("fp32") == std::string::npos) continue;
    EXPECT_LE(e.error, e.bound) << e.name;
  }
}

TEST(DeviceFunctions, KernelsPlainTakesTheComposition) {
  const DeviceKernelsScope table(at::kCPU, counting_table());
  const at::Tensor x = at::randn({5});
  launches = {};
  gelu_tanh(x);
  EXPECT_EQ(launches.gelu, 1);
  const DeviceScope plain(DeviceOptions{.device = "cpu", .kernels = Kernels::kPlain});
  gelu_tanh(x);
  EXPECT_EQ(launches.gelu, 1);
}

TEST(DeviceFunctions, OtherDtypesTakeTheComposition) {
  const DeviceKernelsScope table(at::kCPU, counting_table());
  launches = {};
  gelu_tanh(at::randn({5}, at::kDouble));
  EXPECT_EQ(launches.gelu, 0);
}

TEST(DeviceFunctions, ADualThatAutogradFollowsTakesTheCompositionAndCanBeDifferentiated) {
  const DeviceKernelsScope table(at::kCPU, counting_table());
  const at::Tensor x = at::randn({5}).requires_grad_(true), dx = at::randn({5});
  launches = {};
  const Dual y = gelu_tanh(Dual{x, dx});
  EXPECT_EQ(launches.gelu, 0);
  EXPECT_TRUE(torch::autograd::grad({y.tangent.sum()}, {x})[0].defined());
  const at::NoGradGuard no_graph;
  gelu_tanh(Dual{x, dx});
  EXPECT_EQ(launches.gelu, 1);
}

TEST(DeviceFunctions, GradientsAreTheSameBitsEveryTime) {
  const DeviceKernelsScope table(at::kCPU, kernels::host_table());
  const at::Tensor x = at::randn({2, 70, 33}), mod = at::randn({2, 33});
  const auto gradient = [&] {
    const at::Tensor m = mod.clone().requires_grad_(true);
    return torch::autograd::grad({layer_norm_modulate(x, m, m, 1e-6, at::kFloat).square().sum()},
                                 {m})[0];
  };
  EXPECT_TRUE(gradient().equal(gradient()));
}

// The second attention of SD3.5-medium's first blocks joins nothing.
TEST(DeviceFunctions, QkNormTakesOneStreamAlone) {
  const int64_t heads = 2, width = 32;
  const QkWeights weights{at::rand({width / heads}) + 0.5, at::rand({width / heads}) + 0.5};
  const at::Tensor qkv = at::randn({2, 5, 3 * width}).requires_grad_(true),
                   cotangent = at::randn({2, 5, 3 * width});
  const auto run = [&] {
    const Tensor out = normalize_qk(qkv, weights, heads, 1e-6);
    return std::pair{out, torch::autograd::grad({out}, {qkv}, {cotangent})[0]};
  };
  const auto want = run();
  const DeviceKernelsScope table(at::kCPU, kernels::host_table());
  const auto got = run();
  EXPECT_TRUE(at::allclose(got.first, want.first, 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(got.second, want.second, 1e-5, 1e-6));
}

TEST(DeviceFunctions, AGateWithoutUseOfItsModulationHasAGradientToo) {
  const DeviceKernelsScope table(at::kCPU, kernels::host_table());
  const at::Tensor x = at::randn({1, 3, 8}).requires_grad_(true), mod = at::randn({1, 8});
  const auto out = gated_add_modulate(x, mod, at::randn({1, 3, 8}), mod, mod, 1e-6);
  EXPECT_TRUE(torch::autograd::grad({out.stream.sum()}, {x})[0].equal(at::ones({1, 3, 8})));
}

TEST(DeviceFunctions, AKernelThatDoesNotStartIsAnErrorInWords) {
  kernels::DeviceTable broken = kernels::host_table();
  broken.gelu = [](const kernels::Gelu&, void*) { return "no kernel image for this device"; };
  const DeviceKernelsScope table(at::kCPU, broken);
  EXPECT_THAT(testing::message_of([] { gelu_tanh(at::randn({5})); }),
              HasSubstr("[gelu_tanh] the fused kernel did not start: no kernel image"));
}

}  // namespace
}  // namespace vggflow::ops
