// The pretend device itself: results are the CPU's bit for bit, and mistakes are found.
#include "vggflow/testing/pretend_device.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>

#include "vggflow/device/device.h"

namespace vggflow {
namespace {

using at::Tensor;
using ::testing::AnyOf;
using testing::device_counts;
using testing::DeviceCounts;
using ::testing::HasSubstr;
using testing::pretend_device;
using Tensors = std::vector<Tensor>;

std::string refusal_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "no refusal";
}

// Layers of every kind that the networks are made of; x, weight, bias, norm, filter.
Tensors little_network(const Tensors& v) {
  Tensor h = at::layer_norm(v[0], {v[0].size(2)}, v[3], {}, 1e-6);
  h = at::gelu(at::linear(h, v[1], v[2]), "tanh");
  const Tensor q = h.reshape({h.size(0), h.size(1), 4, -1}).transpose(1, 2);
  Tensor o = at::scaled_dot_product_attention(q, q, q).transpose(1, 2).reshape(h.sizes());
  o = at::cat({o.narrow(1, 0, 2), o.narrow(1, 2, o.size(1) - 2) + 1}, 1);
  // Contiguous: autograd hands group_norm's backward the gradient as the channels lie on the CPU,
  // and contiguous on all other devices.
  Tensor image = o.permute({0, 2, 1}).contiguous().reshape({o.size(0), o.size(2), 4, 4});
  image = at::group_norm(image, 4, {}, {}, 1e-5);
  image = at::_upsample_bicubic2d_aa(image, {7, 7}, false);
  image = at::conv2d(image, v[4], {}, {1, 1}, {1, 1});
  image = at::max_pool2d(image, {3, 3}, {2, 2}, {1, 1});
  return {o, image.square().mean() + at::softmax(o, -1).pow(3).sum()};
}

TEST(PretendDevice, ComputesWhatTheCpuComputesBitForBit) {
  at::globalContext().setSDPUseFlash(false);  // the CPU's plain formula is what the device runs
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto run = [&](at::Device device) {
      at::manual_seed(3);
      Tensors inputs;
      for (const auto& shape :
           std::vector<std::vector<int64_t>>{{3, 16, 32}, {32, 32}, {32}, {32}, {5, 32, 3, 3}})
        inputs.push_back(at::randn(shape, type).to(device).requires_grad_(true));
      const Tensors out = little_network(inputs);
      Tensors all = torch::autograd::grad({out[1]}, inputs);
      all.push_back(out[0].detach());
      all.push_back(out[1].detach());
      return all;
    };
    const Tensors cpu = run(at::kCPU), device = run(pretend_device());
    for (size_t i = 0; i < cpu.size(); ++i) {
      EXPECT_EQ(device[i].device(), pretend_device()) << i;
      EXPECT_TRUE(at::equal(device[i].cpu(), cpu[i])) << c10::toString(type) << " " << i;
    }
  }
  at::globalContext().setSDPUseFlash(true);
}

TEST(PretendDevice, RefusesTensorsOfTwoDevicesInOneOperation) {
  const Tensor d = at::ones({6, 4}).to(pretend_device());
  const auto mixed = AnyOf(HasSubstr("expected all on one"), HasSubstr("to be on the same device"));
  EXPECT_THAT(refusal_of([&] { (void)(d + at::ones({6, 4})); }), mixed);
  EXPECT_THAT(refusal_of([&] { (void)d.index_select(0, at::arange(3)); }), mixed);
  EXPECT_THAT(refusal_of([&] { (void)d.index({at::arange(3)}); }), mixed);
  EXPECT_THAT(refusal_of([&] { (void)at::embedding(d, at::arange(3)); }), mixed);
  EXPECT_THAT(refusal_of([&] { (void)at::cat({d, at::zeros({1, 4})}); }), mixed);
  EXPECT_THAT(refusal_of([&] { (void)at::linear(d, at::zeros({3, 4})); }), mixed);
  EXPECT_THAT(refusal_of([&] { (void)at::where(d > 0, d, at::zeros({6, 4})); }), mixed);
}

TEST(PretendDevice, AllowsNumbersOfTheHostAndCopies) {
  const Tensor d = at::ones({6, 4}).to(pretend_device());
  EXPECT_TRUE(at::equal((d + at::scalar_tensor(2.0)).cpu(), at::full({6, 4}, 3.0)));
  Tensor host = at::zeros({6, 4});
  host.copy_(d);
  EXPECT_TRUE(at::equal(host, at::ones({6, 4})));
}

TEST(PretendDevice, FindsMemoryThatWasNeverWritten) {
  const Tensor d = at::empty({3}, at::device(pretend_device()).dtype(at::kFloat));
  EXPECT_TRUE(d.isnan().all().item<bool>());
}

TEST(PretendDeviceDeathTest, EndsTheProcessWhereTheHostReadsItsMemory) {
  const Tensor d = at::ones({6, 4}).to(pretend_device());
  EXPECT_DEATH(
      {
        const volatile float x = d.const_data_ptr<float>()[3];
        (void)x;
      },
      "");
}

TEST(PretendDevice, CountsWhatMakesAGpuWait) {
  const Tensor host = at::ones({256});
  const DeviceCounts before = device_counts();
  const Tensor d = host.to(pretend_device());
  const float sum = d.sum().item<float>();
  const Tensor back = (d * 2).cpu();
  const DeviceCounts spent = device_counts() - before;
  EXPECT_EQ(sum, 256);
  EXPECT_EQ(spent.to_device, 1);
  EXPECT_EQ(spent.bytes_to_device, 1024);
  EXPECT_EQ(spent.to_host, 1);
  EXPECT_EQ(spent.items, 1);
  EXPECT_GE(spent.operations, 2);
  EXPECT_TRUE(back.is_cpu());
}

TEST(PretendDevice, TellsItsMemoryAndRefusesMoreThanItsLimit) {
  const DeviceScope scope(pretend_device());
  reset_device_peak();
  const double before = device_memory()->now_gib;
  {
    const Tensor d = at::zeros({1 << 20}, at::device(pretend_device()).dtype(at::kFloat));
    EXPECT_NEAR(device_memory()->now_gib - before, 4.0 / 1024, 1e-6);
  }
  EXPECT_NEAR(device_memory()->now_gib, before, 1e-9);
  EXPECT_NEAR(device_memory()->peak_gib - before, 4.0 / 1024, 1e-6);
  const testing::DeviceLimit limit(1 << 20);
  EXPECT_THAT(refusal_of([&] { (void)at::zeros({1 << 20}, at::device(pretend_device())); }),
              HasSubstr("out of memory"));
}

}  // namespace
}  // namespace vggflow
