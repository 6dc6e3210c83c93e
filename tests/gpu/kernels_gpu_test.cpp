// On a GPU: the plug-in's kernels and the functions over them against double precision on the CPU,
// attention's kernels against the plain formula, the same bits twice, graphs, memory figures.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_sdp_choice.h>
#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <cmath>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

#include "gpu.h"
#include "vggflow/device/error_text.h"
#include "vggflow/kernels/device_table.h"
#include "vggflow/ops/attention.h"
#include "vggflow/ops/block_functions.h"
#include "vggflow/ops/cast_linear.h"
#include "vggflow/ops/device_kernels.h"
#include "vggflow/ops/kernel_check.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::norm_error;
using ::testing::StartsWith;
using KernelsOnGpu = testing::OnCuda;
using AttentionOnGpu = testing::OnCuda;
using PluginOnGpu = testing::OnCuda;

Tensor draw(uint64_t id, at::IntArrayRef shape, at::ScalarType dtype, at::Device device) {
  return keyed_normal(31, Purpose::kTest, 0, id, 1, shape).squeeze(0).to(dtype).to(device);
}

TEST_F(PluginOnGpu, IsBesideTheProgramAndServesTensors) {
  ASSERT_NE(cuda_api(), nullptr) << "libvggflow_cuda.so is not beside the program or in its lib/";
  EXPECT_NE(ops::device_kernels(at::zeros({2}, gpu())), nullptr);
  EXPECT_EQ(ops::device_kernels(at::zeros({2}, at::device(gpu()).dtype(at::kDouble))), nullptr);
  char text[512] = {};
  ASSERT_EQ(cuda_api()->describe(gpu().index(), text, sizeof text), nullptr);
  std::printf("%s; built with CUDA %s and LibTorch %s\n", text, cuda_api()->cuda_version,
              cuda_api()->torch_version);
  EXPECT_THAT(text, HasSubstr("compute capability"));
}

TEST_F(KernelsOnGpu, EqualTheirCompositionsInDoublePrecision) {
  for (const ops::KernelError& e : ops::kernel_check(gpu())) {
    std::printf("%-45s %.1e of %.0e\n", e.name.c_str(), e.error, e.bound);
    EXPECT_LE(e.error, e.bound) << e.name;
  }
}

// The composition that kernels=plain takes, on the same GPU.
TEST_F(KernelsOnGpu, PlainTakesLibTorchsOwnWithinItsRounding) {
  const Tensor x = draw(1, {2, 333, 1536}, at::kFloat, gpu()),
               shift = draw(2, {2, 1536}, at::kFloat, gpu()),
               scale = draw(3, {2, 1536}, at::kFloat, gpu());
  const Tensor fused = ops::layer_norm_modulate(x, shift, scale, 1e-6, at::kFloat);
  DeviceOptions plain = testing::gpu_options();
  plain.kernels = Kernels::kPlain;
  const DeviceScope scope(plain);
  EXPECT_EQ(ops::device_kernels(x), nullptr);
  EXPECT_LE(norm_error(ops::layer_norm_modulate(x, shift, scale, 1e-6, at::kFloat), fused), 1e-6);
}

// As modulations are made: fp32 rows by a weight in bf16.
TEST_F(KernelsOnGpu, MultiplyByNarrowWeightsAsTheyLie) {
  const Tensor x = draw(1, {8, 1536}, at::kFloat, gpu()),
               w = draw(2, {6 * 1536, 1536}, at::kBFloat16, gpu()),
               b = draw(3, {6 * 1536}, at::kBFloat16, gpu()),
               g = draw(4, {8, 6 * 1536}, at::kFloat, gpu());
  const auto wide = [](const Tensor& t) { return t.cpu().to(at::kDouble); };
  const Tensor leaf = x.clone().requires_grad_(true), y = ops::cast_linear(leaf, w, b);
  EXPECT_LE(norm_error(wide(y), at::linear(wide(x), wide(w), wide(b))), 1e-6);
  EXPECT_LE(norm_error(wide(torch::autograd::grad({y}, {leaf}, {g})[0]), at::mm(wide(g), wide(w))),
            1e-6);
}

TEST_F(KernelsOnGpu, GiveTheSameBitsTwice) {
  const Tensor x = draw(1, {2, 4429, 1536}, at::kFloat, gpu()),
               y = draw(2, {2, 4429, 1536}, at::kBFloat16, gpu()),
               mod = draw(3, {2, 1536}, at::kBFloat16, gpu());
  const auto gradients = [&] {
    const Tensor a = x.clone().requires_grad_(true), m = mod.clone().requires_grad_(true),
                 b = y.clone().requires_grad_(true);
    const auto out = ops::gated_add_modulate(a, m, b, m, m, 1e-6);
    return torch::autograd::grad({out.stream.square().sum() + out.modulated.square().sum()},
                                 {a, m, b});
  };
  const auto first = gradients(), second = gradients();
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(first[i].equal(second[i])) << i;
}

struct AttentionResult {
  Tensor out;
  std::vector<Tensor> gradients;
};
template <class F>
AttentionResult attend(F f, const std::vector<Tensor>& qkv, const Tensor& weights) {
  std::vector<Tensor> leaves;
  for (const Tensor& x : qkv) leaves.push_back(x.detach().clone().requires_grad_(true));
  const Tensor out = f(leaves[0], leaves[1], leaves[2]);
  return {out.detach(), torch::autograd::grad({out}, leaves, {weights.to(out.scalar_type())})};
}

Tensor plain_attention(const Tensor& q, const Tensor& k, const Tensor& v) {
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
  return at::matmul(at::softmax(at::matmul(q, k.transpose(-1, -2)) * scale, -1), v);
}

const char* backend_of(const std::vector<Tensor>& x) {
  switch (static_cast<at::SDPBackend>(at::_fused_sdp_choice(x[0], x[1], x[2]))) {
    case at::SDPBackend::cudnn_attention:
      return "cuDNN";
    case at::SDPBackend::flash_attention:
      return "flash";
    case at::SDPBackend::efficient_attention:
      return "memory-efficient";
    case at::SDPBackend::math:
      return "math";
    default:
      return "another";
  }
}

// SD3's lengths at 512 and 1024 px and CLIP's: none is a multiple of 128, where older cuDNNs read
// beyond the end. Inputs lie as slices of a packed buffer, as in the network.
void check_attention(at::Device device, int64_t n, at::ScalarType dtype, double bound) {
  const Tensor packed = draw(static_cast<uint64_t>(n), {1, n, 3, 24, 64}, dtype, device);
  const auto parts = packed.permute({2, 0, 3, 1, 4}).unbind(0);
  const std::vector<Tensor> qkv(parts.begin(), parts.end());
  const Tensor weights = draw(7, {1, 24, n, 64}, dtype, device);
  std::vector<Tensor> wide;
  for (const Tensor& x : qkv) wide.push_back(x.to(at::kFloat));
  const auto fused = [](const Tensor& q, const Tensor& k, const Tensor& v) {
    return ops::fused_attention(q, k, v, std::nullopt);
  };
  const AttentionResult got = attend(fused, qkv, weights),
                        want = attend(plain_attention, wide, weights);
  double worst = norm_error(got.out, want.out);
  for (size_t i = 0; i < 3; ++i)
    worst = std::max(worst, norm_error(got.gradients[i], want.gradients[i]));
  std::printf("attention %s, %ld tokens: %s, error %.1e of %.0e\n", c10::toString(dtype),
              static_cast<long>(n), backend_of(qkv), worst, bound);
  EXPECT_LE(worst, bound) << n;
  EXPECT_STRNE(backend_of(qkv), "math");
}

TEST_F(AttentionOnGpu, EqualsThePlainFormulaInFp32ForwardAndBackward) {
  for (const int64_t n : {77, 1357, 4429}) {
    check_attention(gpu(), n, at::kBFloat16, 2e-2);
    check_attention(gpu(), n, at::kFloat, 1e-4);
  }
}

TEST_F(AttentionOnGpu, TakesAMaskThatBroadcasts) {
  const auto x = [&](uint64_t id) { return draw(id, {2, 77, 768}, at::kFloat, gpu()); };
  const Tensor q = x(1), k = x(2), v = x(3),
               mask = at::full({77, 77}, -1e4, q.options()).triu(1).view({1, 1, 77, 77});
  const Tensor got = ops::cross_attention(q, k, v, 12, mask);
  const auto on_cpu = [](const Tensor& t) { return t.cpu().to(at::kDouble); };
  EXPECT_LE(norm_error(on_cpu(got),
                       ops::cross_attention(on_cpu(q), on_cpu(k), on_cpu(v), 12, on_cpu(mask))),
            1e-4);
}

TEST_F(AttentionOnGpu, RefusesToFallToThePlainFormulaInWords) {
  const Tensor qkv = draw(1, {1, 64, 3 * 64}, at::kDouble, gpu());
  EXPECT_THAT(testing::message_of([&] { ops::attention(qkv, 1); }),
              HasSubstr("[attention] no fused kernel of this GPU takes q (1, 1, 64, 64)"));
}

TEST_F(AttentionOnGpu, GivesTheSameBitsTwiceInDeterministicMode) {
  DeviceOptions options = testing::gpu_options();
  options.deterministic = true;
  const DeviceScope scope(options);
  for (const auto dtype : {at::kBFloat16, at::kFloat}) {
    const Tensor qkv = draw(1, {2, 1357, 3 * 1536}, dtype, gpu());
    const auto gradient = [&] {
      const Tensor leaf = qkv.clone().requires_grad_(true);
      return torch::autograd::grad({ops::attention(leaf, 24).square().sum()}, {leaf})[0];
    };
    EXPECT_TRUE(gradient().equal(gradient())) << c10::toString(dtype);
  }
}

TEST_F(PluginOnGpu, CountsMemory) {
  const auto now = [&] {
    device::CudaMemory m{};
    EXPECT_EQ(cuda_api()->memory(gpu().index(), &m), nullptr);
    return m;
  };
  cuda_api()->reset_peak(gpu().index());
  const int64_t before = now().allocated;
  {
    const Tensor x = at::empty({int64_t{64} << 20}, at::device(gpu()).dtype(at::kByte));
    EXPECT_GE(now().allocated - before, int64_t{64} << 20);
  }
  EXPECT_EQ(now().allocated, before);
  EXPECT_GE(now().peak_allocated - before, int64_t{64} << 20);
  EXPECT_GT(now().total, now().free);
}

TEST_F(PluginOnGpu, ReplaysACapturedGraphOnNewNumbers) {
  struct Work {
    Tensor x, y;
  } work{at::zeros({1000}, gpu()), at::zeros({1000}, gpu())};
  const at::NoGradGuard no_graph;
  void* graph = nullptr;
  ASSERT_EQ(cuda_api()->graph_capture(
                [](void* p) {
                  auto& w = *static_cast<Work*>(p);
                  w.y.copy_(ops::gelu_tanh(w.x));
                },
                &work, &graph),
            nullptr);
  work.x.copy_(draw(1, {1000}, at::kFloat, gpu()));
  ASSERT_EQ(cuda_api()->graph_replay(graph), nullptr);
  EXPECT_LE(norm_error(work.y.cpu(), at::gelu(work.x.cpu().to(at::kDouble), "tanh")), 1e-6);
  cuda_api()->graph_free(graph);
}

// Of one rank: NCCL takes no second one on the same GPU.
TEST_F(PluginOnGpu, GathersAndExchangesThroughNccl) {
  ASSERT_NE(cuda_api()->nccl, nullptr) << "the plug-in was built without NCCL";
  const device::NcclApi& nccl = *cuda_api()->nccl;
  char identity[128] = {};
  ASSERT_EQ(nccl.identity(gpu().index(), identity, sizeof identity), nullptr);
  EXPECT_EQ(std::string(identity).size(), 32U) << identity;
  const c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::HashStore>();
  void* group = nullptr;
  ASSERT_STREQ(nccl.open(&store, 0, 1, gpu().index(), &group), nullptr);
  const Tensor bytes = at::arange(1000, at::device(gpu()).dtype(at::kByte));
  for (const auto begin : {nccl.gather, nccl.exchange}) {
    const Tensor into = at::zeros_like(bytes);
    void* work = nullptr;
    ASSERT_STREQ(begin(group, &bytes, &into, &work), nullptr);
    for (bool done = false; !done;) ASSERT_STREQ(nccl.poll(work, &done), nullptr);
    nccl.free_work(work);
    EXPECT_TRUE(at::equal(into, bytes));
  }
  nccl.close(group, /*lost=*/false);
}

TEST_F(PluginOnGpu, SaysWhatWentWrongInACapture) {
  void* graph = nullptr;
  const char* problem = cuda_api()->graph_capture(
      [](void*) { throw std::runtime_error("no such luck"); }, nullptr, &graph);
  ASSERT_NE(problem, nullptr);
  EXPECT_STREQ(problem, "no such luck");
  EXPECT_EQ(graph, nullptr);
}

TEST_F(PluginOnGpu, SaysThatTheDeviceIsFullAndGoesOn) {
  std::string text;
  try {
    at::empty({int64_t{1} << 45}, at::device(gpu()).dtype(at::kByte));
  } catch (const std::exception& e) {
    text = error_text(e);
  }
  EXPECT_THAT(text, AllOf(StartsWith("[memory] the device is full (CUDA out of memory. Tried to "
                                     "allocate 32"),
                          HasSubstr("lower batch or micro_batch")));
  EXPECT_EQ(at::ones({3}, gpu()).sum().item<float>(), 3);
}

}  // namespace
}  // namespace vggflow
