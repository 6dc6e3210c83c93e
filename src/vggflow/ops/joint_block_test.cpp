// A block of joint attention in one call against its composition in fp64, over odd sizes.
#include "vggflow/ops/joint_block.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "vggflow/device/device.h"
#include "vggflow/kernels/narrow.h"
#include "vggflow/ops/block_functions.h"
#include "vggflow/testing/gradient_check.h"

namespace vggflow {
namespace {

using testing::norm_error;
using testing::random_double;

constexpr double kEps = 1e-6;

ops::LayerWeights layer(int64_t out, int64_t in, uint64_t id) {
  return {random_double({out, in}, id, 0.7 / std::sqrt(static_cast<double>(in))).to(at::kBFloat16),
          random_double({out}, id + 1, 0.2).to(at::kBFloat16)};
}

struct Sizes {
  int64_t batch, image, text, heads, head_dim;
  bool text_ends;
  int64_t width() const { return heads * head_dim; }
};

ops::BlockStream part(const Sizes& s, uint64_t id, bool ends) {
  const int64_t d = s.width();
  ops::BlockStream p{{layer(d, d, id), layer(d, d, id + 2), layer(d, d, id + 4), {}, {}, {}}, {}};
  const auto rows = [&](uint64_t i) {  // a slice of wider rows, as modulations are
    return random_double({s.batch, d + 3}, id + i, 0.5).to(at::kFloat).narrow(1, 1, d);
  };
  p.modulations.shift = rows(20);
  p.modulations.scale = rows(21);
  if (ends) return p;
  p.layers.out = layer(d, d, id + 6);
  p.layers.in = layer(4 * d, d, id + 8);
  p.layers.back = layer(d, 4 * d, id + 10);
  p.modulations.gate = rows(22);
  p.modulations.mlp_shift = rows(23);
  p.modulations.mlp_scale = rows(24);
  p.modulations.mlp_gate = rows(25);
  return p;
}

Tensor exact(const Tensor& x) { return x.to(at::kDouble); }
Tensor apply(const ops::LayerWeights& w, const Tensor& x) {
  return at::linear(x, exact(w.weight), exact(w.bias));
}
Tensor modulated(const Tensor& x, const Tensor& shift, const Tensor& scale) {
  return ops::layer_norm_modulate(x, exact(shift), exact(scale), kEps, at::kDouble);
}

// The composition that joint_block.h prints, in fp64.
void plain(Tensor& image, Tensor& text, const ops::BlockStream& image_part,
           const ops::BlockStream& text_part, int64_t heads) {
  const int64_t n = image.size(1), m = text.size(1);
  const auto qkv = [&](const ops::BlockStream& p, const Tensor& x) {
    const Tensor y = modulated(x, p.modulations.shift, p.modulations.scale);
    return at::cat({apply(p.layers.q, y), apply(p.layers.k, y), apply(p.layers.v, y)}, -1);
  };
  const Tensor out =
      ops::attention(at::cat({qkv(image_part, image), qkv(text_part, text)}, 1), heads);
  const auto finish = [&](const ops::BlockStream& p, Tensor& x, const Tensor& attended) {
    const ops::StreamModulations& mod = p.modulations;
    x = x + exact(mod.gate).unsqueeze(1) * apply(p.layers.out, attended);
    const Tensor hidden =
        at::gelu(apply(p.layers.in, modulated(x, mod.mlp_shift, mod.mlp_scale)), "tanh");
    x = x + exact(mod.mlp_gate).unsqueeze(1) * apply(p.layers.back, hidden);
  };
  finish(image_part, image, out.narrow(1, 0, n));
  if (text_part.layers.out.weight.defined()) finish(text_part, text, out.narrow(1, n, m));
}

struct Block {
  explicit Block(const Sizes& s)
      : image(random_double({s.batch, s.image, s.width()}, 1).to(at::kFloat)),
        text(random_double({s.batch, s.text, s.width()}, 2).to(at::kFloat)),
        image_part(part(s, 100, false)),
        text_part(part(s, 200, s.text_ends)),
        heads(s.heads) {}
  bool taken() const {
    return ops::JointBlockKernel::takes(image, text, image_part, text_part, heads);
  }
  Tensor image, text;
  ops::BlockStream image_part, text_part;
  int64_t heads;
};

TEST(JointBlock, EqualsItsCompositionOverOddSizes) {
  if (!kernels::narrow_kernels()) GTEST_SKIP() << "this processor has no dot products of bf16";
  for (const Sizes& s : {Sizes{5, 64, 12, 5, 32, false}, Sizes{1, 1, 1, 1, 2, false},
                         Sizes{3, 7, 3, 2, 10, true}, Sizes{2, 65, 1, 3, 40, false},
                         Sizes{4, 9, 16, 2, 64, true}, Sizes{1, 200, 33, 1, 34, false}}) {
    SCOPED_TRACE(fmt::format("{} x ({} + {}), {} heads of {}", s.batch, s.image, s.text, s.heads,
                             s.head_dim));
    Block b(s);
    ASSERT_TRUE(b.taken());
    Tensor image = exact(b.image), text = exact(b.text);
    plain(image, text, b.image_part, b.text_part, b.heads);
    const Tensor before = b.image.clone();
    Tensor got_image = b.image, got_text = b.text;
    ops::JointBlockKernel kernel;
    kernel.run(got_image, got_text, b.image_part, b.text_part, b.heads, kEps);
    // Of the change alone: the streams themselves are exact.
    EXPECT_LT(norm_error(got_image - b.image, image - exact(b.image)), 8e-3);
    if (s.text_ends) {
      EXPECT_TRUE(got_text.is_same(b.text));
    } else {
      EXPECT_LT(norm_error(got_text - b.text, text - exact(b.text)), 8e-3);
    }
    EXPECT_TRUE(at::equal(before, b.image)) << "the kernel wrote to its input";
  }
}

TEST(JointBlock, SeesWeightsThatAreWrittenToOrReplaced) {
  if (!kernels::narrow_kernels()) GTEST_SKIP() << "this processor has no dot products of bf16";
  Block b({2, 9, 3, 2, 16, false});
  const ops::JointBlockKernel kept;
  const auto result = [&](const ops::JointBlockKernel& kernel) {
    Tensor image = b.image, text = b.text;
    kernel.run(image, text, b.image_part, b.text_part, b.heads, kEps);
    return image;
  };
  const Tensor first = result(kept);
  EXPECT_TRUE(at::equal(result(kept), first));
  b.image_part.layers.v.weight.mul_(2);
  const Tensor second = result(kept);
  EXPECT_FALSE(at::equal(second, first));
  EXPECT_TRUE(at::equal(second, result(ops::JointBlockKernel())));
  b.text_part.layers.k.bias = b.text_part.layers.k.bias + 1;
  b.text_part.layers.v.bias = b.text_part.layers.v.bias + 1;
  const Tensor third = result(kept);
  EXPECT_FALSE(at::equal(third, second));
  EXPECT_TRUE(at::equal(third, result(ops::JointBlockKernel())));
}

TEST(JointBlock, LeavesToTheCompositionWhatItCannotDo) {
  if (!kernels::narrow_kernels()) GTEST_SKIP() << "this processor has no dot products of bf16";
  const Sizes s{2, 9, 3, 2, 16, false};
  EXPECT_TRUE(Block(s).taken());
  Block graph(s);
  graph.image.requires_grad_(true);
  EXPECT_FALSE(graph.taken());
  {
    const at::NoGradGuard no_graph;
    EXPECT_TRUE(graph.taken());
  }
  Block modulation(s);
  modulation.text_part.modulations.shift.requires_grad_(true);
  EXPECT_FALSE(modulation.taken());
  Block trained(s);
  trained.image_part.layers.in.bias.requires_grad_(true);
  EXPECT_FALSE(trained.taken());
  Block wide(s);
  wide.image_part.layers.q.weight = wide.image_part.layers.q.weight.to(at::kFloat);
  EXPECT_FALSE(wide.taken());
  EXPECT_FALSE(Block({1, 2, 2, 2, 7, false}).taken());
  EXPECT_FALSE(Block({1, 2, 2, 9, 64, true}).taken());
  DeviceOptions off;
  off.device = "cpu";
  off.kernels = Kernels::kPlain;
  const DeviceScope scope(off);
  EXPECT_FALSE(Block(s).taken());
}

}  // namespace
}  // namespace vggflow
