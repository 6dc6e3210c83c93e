// Every function: reverse mode and tangents against central differences in float64, the fused fp32
// path against the plain one, and reverse mode through a tangent (what the consistency loss needs).
#include "vggflow/ops/functional.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <string>
#include <tuple>

#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using testing::gradient_error;
using ::testing::HasSubstr;
using testing::message_of;
using testing::random_double;
using testing::relative_error;
using testing::tangent_error;

struct Case {
  const char* name;
  std::vector<std::vector<int64_t>> shapes;
  std::function<Tensor(const std::vector<Tensor>&)> f;
  std::function<Dual(const std::vector<Dual>&)> f_dual;
};

#define VGGFLOW_CASE(name, shapes, expression)                                       \
  Case {                                                                             \
    name, shapes, [](const std::vector<Tensor>& v) -> Tensor { return expression; }, \
        [](const std::vector<Dual>& v) -> Dual { return expression; }                \
  }
#define SHAPES(...) (std::vector<std::vector<int64_t>>{__VA_ARGS__})

Tensor weight(at::IntArrayRef shape, uint64_t id) { return random_double(shape, 100 + id, 0.5); }

std::vector<Case> cases() {
  using V = std::vector<int64_t>;
  return {
      VGGFLOW_CASE("silu", SHAPES(V{3, 5}), ops::silu(v[0])),
      VGGFLOW_CASE("tanh", SHAPES(V{3, 5}), ops::tanh(v[0])),
      VGGFLOW_CASE("square", SHAPES(V{3, 5}), ops::square(v[0])),
      VGGFLOW_CASE("safe_sqrt", SHAPES(V{3, 5}), ops::safe_sqrt(ops::square(v[0]), 0.1)),
      VGGFLOW_CASE("gelu_tanh", SHAPES(V{3, 5}), ops::gelu_tanh(v[0])),
      VGGFLOW_CASE("gelu", SHAPES(V{3, 5}), ops::gelu(v[0])),
      VGGFLOW_CASE("quick_gelu", SHAPES(V{3, 5}), ops::quick_gelu(v[0])),
      VGGFLOW_CASE("divide", SHAPES(V{3, 5}, V{3, 5}), v[0] / (ops::square(v[1]) + 1.0)),
      VGGFLOW_CASE("linear", SHAPES(V{2, 3, 4}),
                   ops::linear(v[0], weight({5, 4}, 1), weight({5}, 2))),
      VGGFLOW_CASE("conv2d", SHAPES(V{2, 4, 6, 6}),
                   ops::conv2d(v[0], weight({6, 2, 3, 3}, 1), weight({6}, 2), 2, 1, 2)),
      VGGFLOW_CASE("avg_pool2d", SHAPES(V{2, 3, 4, 4}), ops::avg_pool2d(v[0], 2)),
      VGGFLOW_CASE("upsample2x", SHAPES(V{2, 3, 2, 2}), ops::upsample2x(v[0])),
      VGGFLOW_CASE("layer_norm", SHAPES(V{2, 3, 7}),
                   ops::layer_norm(v[0], weight({7}, 1), weight({7}, 2), 1e-5)),
      VGGFLOW_CASE("rms_norm", SHAPES(V{2, 3, 7}), ops::rms_norm(v[0], weight({7}, 1), 1e-6)),
      VGGFLOW_CASE("group_norm", SHAPES(V{2, 6, 3, 3}),
                   ops::group_norm(v[0], 3, weight({6}, 1), weight({6}, 2), 1e-5)),
      VGGFLOW_CASE("l2_normalize", SHAPES(V{4, 7}), ops::l2_normalize(v[0])),
      VGGFLOW_CASE("layer_norm_modulate", SHAPES(V{2, 3, 7}, V{2, 7}, V{2, 7}),
                   ops::layer_norm_modulate(v[0], v[1], v[2], 1e-6, at::kDouble)),
      VGGFLOW_CASE("gated_add", SHAPES(V{2, 3, 7}, V{2, 7}, V{2, 3, 7}),
                   ops::gated_add(v[0], v[1], v[2])),
      VGGFLOW_CASE("attention", SHAPES(V{2, 5, 24}), ops::attention(v[0], 2)),
      VGGFLOW_CASE("cross_attention", SHAPES(V{2, 3, 8}, V{2, 5, 8}, V{2, 5, 8}),
                   ops::cross_attention(v[0], v[1], v[2], 2, {})),
      VGGFLOW_CASE("biased_attention", SHAPES(V{2, 3, 8}, V{2, 5, 8}, V{2, 5, 8}),
                   ops::cross_attention(v[0], v[1], v[2], 2, weight({2, 1, 1, 5}, 3))),
      VGGFLOW_CASE("timestep_embedding", SHAPES(V{4}), ops::timestep_embedding(v[0], 8)),
      VGGFLOW_CASE("cat_narrow_permute", SHAPES(V{2, 3, 4}, V{2, 5, 4}),
                   ops::permute(ops::narrow(ops::cat({v[0], v[1]}, 1), 1, 2, 3), {0, 2, 1})),
      VGGFLOW_CASE("mean_sum", SHAPES(V{2, 3, 4}),
                   ops::mean(ops::sum(ops::square(v[0]), {1}, true), {0, 2}, false)),
  };
}

std::vector<Tensor> inputs_of(const Case& c) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < c.shapes.size(); ++i) inputs.push_back(random_double(c.shapes[i], i));
  return inputs;
}

TEST(Functions, ReverseModeEqualsCentralDifferences) {
  for (const Case& c : cases()) EXPECT_LT(gradient_error(c.f, inputs_of(c)), 1e-7) << c.name;
}

TEST(Functions, TangentsEqualCentralDifferences) {
  for (const Case& c : cases())
    EXPECT_LT(tangent_error(c.f, c.f_dual, inputs_of(c)), 1e-8) << c.name;
}

// bf16 inputs with a mean far from 0 and a direction almost along x, where statistics in bf16 would
// be off by tens of per cent: both overloads keep to what the same inputs give in double precision,
// but for the rounding of the result (2^-8; twice where a weight follows).
TEST(Functions, NormalisationsOfBf16TakeTheirStatisticsInFloat) {
  using F = std::function<Dual(const Dual&)>;
  using Plain = std::function<Tensor(const Tensor&)>;
  const auto like = [](const Tensor& x, int64_t id) {
    return weight({64}, static_cast<uint64_t>(id)).to(at::kBFloat16).to(x.scalar_type());
  };
  const auto chunk = [](const Tensor& x, uint64_t id) {
    return weight({3, 64}, id).to(at::kBFloat16).to(x.scalar_type());
  };
  const std::vector<std::tuple<std::string, F, Plain>> functions{
      {"rms_norm", [&](const Dual& x) { return ops::rms_norm(x, like(x.value, 1), 1e-6); },
       [&](const Tensor& x) { return ops::rms_norm(x, like(x, 1), 1e-6); }},
      {"layer_norm",
       [&](const Dual& x) { return ops::layer_norm(x, like(x.value, 1), like(x.value, 2), 1e-6); },
       [&](const Tensor& x) { return ops::layer_norm(x, like(x, 1), like(x, 2), 1e-6); }},
      {"group_norm",
       [&](const Dual& x) {
         return ops::group_norm(ops::reshape(x, {3, 64, 5, 1}), 2, like(x.value, 1),
                                like(x.value, 2), 1e-6);
       },
       [&](const Tensor& x) {
         return ops::group_norm(x.reshape({3, 64, 5, 1}), 2, like(x, 1), like(x, 2), 1e-6);
       }},
      {"l2_normalize", [](const Dual& x) { return ops::l2_normalize(x); },
       [](const Tensor& x) { return ops::l2_normalize(x); }},
      // The stream is fp32 in a network of bf16, the modulations are not.
      {"layer_norm_modulate",
       [&](const Dual& x) {
         const bool wide = x.value.scalar_type() == at::kDouble;
         return ops::layer_norm_modulate(
             wide ? x : ops::to_dtype(x, at::kFloat), lift<Dual>(chunk(x.value, 1)),
             lift<Dual>(chunk(x.value, 2)), 1e-6, x.value.scalar_type());
       },
       [&](const Tensor& x) {
         const bool wide = x.scalar_type() == at::kDouble;
         return ops::layer_norm_modulate(wide ? x : x.to(at::kFloat), chunk(x, 1), chunk(x, 2),
                                         1e-6, x.scalar_type());
       }}};
  const Tensor noise = random_double({3, 5, 64}, 1);
  const Tensor x = (20 + noise).to(at::kBFloat16),
               dx = (3 * x + 0.2 * random_double({3, 5, 64}, 2)).to(at::kBFloat16);
  constexpr double kRounding = 2.0 / 256;
  for (const auto& [name, f, plain] : functions) {
    const Dual want = f({x.to(at::kDouble), dx.to(at::kDouble)}), got = f({x, dx});
    ASSERT_EQ(got.value.scalar_type(), at::kBFloat16) << name;
    ASSERT_EQ(got.tangent.scalar_type(), at::kBFloat16) << name;
    const auto scaled = [](const Tensor& a, const Tensor& b) {
      return ((a - b).abs().max() / b.abs().max()).item<double>();
    };
    EXPECT_LT(scaled(got.value, want.value), kRounding) << name;
    EXPECT_LT(scaled(got.tangent, want.tangent), kRounding) << name;
    EXPECT_LT(scaled(plain(x), want.value), kRounding) << name;
  }
}

// d/dx <w, J(x) dx> against central differences of the tangent: reverse over forward.
TEST(Functions, ReverseModeRunsThroughTangents) {
  for (const Case& c : cases()) {
    const auto inputs = inputs_of(c);
    const auto tangent = [&](const std::vector<Tensor>& x) {
      std::vector<Dual> duals;
      for (size_t k = 0; k < x.size(); ++k)
        duals.push_back({x[k], random_double(x[k].sizes(), 500 + k)});
      Tensor out = c.f_dual(duals).tangent;
      for (const Tensor& each : x)
        out = out + 0 * each.sum();  // linear maps: the tangent does not depend on x
      return out;
    };
    EXPECT_LT(gradient_error(tangent, inputs), 1e-7) << c.name;
  }
}

// The fused fp32 kernels against the plain float64 ops, values and gradients.
TEST(Functions, FusedFloatPathEqualsThePlainDoublePath) {
  for (const Case& c : cases()) {
    std::vector<Tensor> wide, narrow_inputs;
    for (const Tensor& x : inputs_of(c)) {
      wide.push_back(x.clone().requires_grad_(true));
      narrow_inputs.push_back(x.to(at::kFloat).requires_grad_(true));
    }
    const std::string name = c.name;
    if (name != "gelu_tanh" && name != "gated_add" && name != "attention" &&
        name != "layer_norm_modulate")
      continue;
    const Tensor y = c.f(wide);
    const Tensor z = name == "layer_norm_modulate"
                         ? ops::layer_norm_modulate(narrow_inputs[0], narrow_inputs[1],
                                                    narrow_inputs[2], 1e-6, at::kFloat)
                         : c.f(narrow_inputs);
    EXPECT_LT(relative_error(z, y), 1e-5) << name;
    const Tensor w = random_double(y.sizes(), 77);
    const auto want = torch::autograd::grad({(y * w).sum()}, wide);
    const auto got = torch::autograd::grad({(z * w.to(at::kFloat)).sum()}, narrow_inputs);
    for (size_t k = 0; k < want.size(); ++k)
      EXPECT_LT(relative_error(got[k], want[k]), 1e-5) << name << " input " << k;
  }
}

TEST(Functions, CrossAttentionRefusesShapesThatDoNotFit) {
  const auto refusal = [](at::IntArrayRef q, at::IntArrayRef k, int64_t heads) {
    return message_of(
        [&] { ops::cross_attention(at::zeros(q), at::zeros(k), at::zeros(k), heads, {}); });
  };
  EXPECT_THAT(refusal({2, 3, 8}, {2, 5, 6}, 2),
              HasSubstr("[cross_attention] expected q (B, N, D) and k, v (B, M, D) with D a "
                        "multiple of 2 heads"));
  EXPECT_THAT(refusal({2, 3, 8}, {2, 5, 8}, 3),
              HasSubstr("multiple of 3 heads, got (2, 3, 8), (2, 5, 8), (2, 5, 8)"));
}

TEST(KeyedNormal, ASampleDoesNotDependOnItsBatch) {
  const Tensor all = keyed_normal(3, Purpose::kNoise, 5, 0, 8, {2, 3});
  const Tensor tail = keyed_normal(3, Purpose::kNoise, 5, 6, 2, {2, 3});
  EXPECT_TRUE(at::equal(all.narrow(0, 6, 2), tail));
  EXPECT_FALSE(at::equal(keyed_normal(3, Purpose::kNoise, 6, 6, 2, {2, 3}), tail));
}

}  // namespace
}  // namespace vggflow
