// Every function on pairs against differences of the same function in fp64, for differences far
// below the values and as large as they: fused and plain, in fp64, fp32 and bf16.
#include "vggflow/ops/pair.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "vggflow/device/device.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::norm_error;
using testing::random_double;

constexpr int64_t kBatch = 2, kTokens = 7, kWidth = 24, kHeads = 3;
constexpr double kEps = 1e-6;

using Plain = std::function<Tensor(const std::vector<Tensor>&)>;
using Paired = std::function<Pair(const std::vector<Pair>&)>;

// A function, and its inputs' shapes; of `stream` inputs the first are residual streams: fp32 where
// the products are bf16. `same`: inputs without a difference.
struct Case {
  std::string name;
  std::vector<std::vector<int64_t>> shapes;
  Plain plain;
  Paired paired;
  size_t streams = 0;
  std::vector<size_t> same = {};
  double rounding = 1;  // of the difference, in units of its type's
};

const std::vector<int64_t> kStream{kBatch, kTokens, kWidth}, kRow{kBatch, kWidth};

// A constant of the type that the products have.
Tensor weight(at::IntArrayRef shape, uint64_t id, const Tensor& like) {
  return random_double(shape, 50 + id, 0.4).to(at::kBFloat16).to(like.scalar_type());
}
ops::QkWeights head_weights(uint64_t id, const Tensor& like) {
  return {1 + weight({kWidth / kHeads}, id, like), 1 + weight({kWidth / kHeads}, id + 1, like)};
}

std::vector<Case> cases() {
  const auto type = [](const auto& x) { return primal(x).scalar_type(); };
  const auto both = [](auto f) { return std::pair<Plain, Paired>(f, f); };
  std::vector<Case> all;
  const auto add = [&](const std::string& name, const std::vector<std::vector<int64_t>>& shapes,
                       auto f, size_t streams = 0, const std::vector<size_t>& same = {},
                       double rounding = 1) {
    const auto [plain, paired] = both(f);
    all.push_back({name, shapes, plain, paired, streams, same, rounding});
  };
  add("silu", {kRow}, [](const auto& x) { return ops::silu(x[0]); });
  add("gelu_tanh", {kStream}, [](const auto& x) { return ops::gelu_tanh(x[0]); });
  add("sum", {kRow, kRow}, [](const auto& x) { return x[0] + x[1]; });
  add("linear", {kStream}, [&](const auto& x) {
    const Tensor& like = primal(x[0]);
    return ops::linear(x[0], weight({5, kWidth}, 1, like), weight({5}, 2, like));
  });
  add("conv2d", {{kBatch, 3, 4, 4}}, [&](const auto& x) {
    const Tensor& like = primal(x[0]);
    return ops::conv2d(x[0], weight({6, 3, 2, 2}, 3, like), weight({6}, 4, like), 2, 0);
  });
  const auto modulate = [=](const auto& x) {
    return ops::layer_norm_modulate(x[0], x[1], x[2], kEps, type(x[1]));
  };
  add("layer_norm_modulate", {kStream, kRow, kRow}, modulate, 1);
  add("layer_norm_modulate of equal modulations", {kStream, kRow, kRow}, modulate, 1, {1, 2});
  add("layer_norm_modulate of equal streams", {kStream, kRow, kRow}, modulate, 1, {0});
  const auto gate = [](const auto& x) { return ops::gated_add(x[0], x[1], x[2]); };
  add("gated_add", {kStream, kRow, kStream}, gate, 1);
  add("gated_add of equal gates", {kStream, kRow, kStream}, gate, 1, {1});
  add("gated_add of equal streams", {kStream, kRow, kStream}, gate, 1, {0});
  add(
      "gated_add_modulate", {kStream, kRow, kStream, kRow, kRow},
      [](const auto& x) {
        return ops::gated_add_modulate(x[0], x[1], x[2], x[3], x[4], kEps).modulated;
      },
      1);
  const std::vector<int64_t> packed{kBatch, kTokens, 3 * kWidth};
  add("normalize_qk", {packed}, [&](const auto& x) {
    return ops::normalize_qk(x[0], head_weights(5, primal(x[0])), kHeads, kEps);
  });
  add("normalize_qk of two streams", {packed, packed},
      [&](const auto& x) {
        const Tensor& like = primal(x[0]);
        return ops::normalize_qk(x[0], head_weights(5, like), x[1], head_weights(7, like), kHeads,
                                 kEps);
      },
      0, {1});
  // Taken as a difference in fp32.
  add(
      "attention", {packed}, [](const auto& x) { return ops::attention(x[0], kHeads); }, 0, {},
      100);
  add("shapes", {packed}, [](const auto& x) {
    using T = std::decay_t<decltype(x[0])>;
    const T y = ops::permute(ops::reshape(x[0], {kBatch, kTokens, 3, kWidth}), {0, 2, 1, 3});
    return ops::cat(std::vector<T>{ops::narrow(y, 1, 0, 1), ops::narrow(y, 1, 2, 1)}, 1);
  });
  return all;
}

struct Found {
  double base, difference;
};

// Errors of f's pair, in 2-norms, for inputs of that type with differences `size` times as large as
// values, against fp64 on the same inputs.
Found errors(const Case& c, at::ScalarType dtype, double size) {
  std::vector<Pair> pairs;
  std::vector<Tensor> base, other;
  for (size_t i = 0; i < c.shapes.size(); ++i) {
    const bool stream = i < c.streams && dtype == at::kBFloat16;
    const auto own = stream ? at::kFloat : dtype;
    const bool same = std::find(c.same.begin(), c.same.end(), i) != c.same.end();
    pairs.push_back({random_double(c.shapes[i], i).to(own),
                     same ? Tensor() : random_double(c.shapes[i], 20 + i, size).to(own)});
    base.push_back(pairs.back().base.to(at::kDouble));
    other.push_back(same ? base.back() : base.back() + pairs.back().difference.to(at::kDouble));
  }
  const Tensor want = c.plain(base), far = c.plain(other);
  const Pair got = c.paired(pairs);
  EXPECT_EQ(got.base.scalar_type(), got.difference.scalar_type()) << c.name;
  EXPECT_EQ(got.base.scalar_type(),
            c.streams > 0 && c.name.starts_with("gated_add") && !c.name.ends_with("modulate")
                ? pairs[0].base.scalar_type()
                : dtype)
      << c.name;
  return {norm_error(got.base.to(at::kDouble), want),
          norm_error(got.difference.to(at::kDouble), far - want)};
}

void expect_differences(at::ScalarType dtype, double rounding) {
  for (const Case& c : cases()) {
    for (const double size : {1e-3, 0.3, 2.0}) {
      const Found e = errors(c, dtype, size);
      const bool narrow = dtype == at::kBFloat16;
      EXPECT_LT(e.base, 4 * rounding) << c.name;
      // What a difference in a wider type cancels is hidden by the narrow result's rounding.
      EXPECT_LT(e.difference, 4 * rounding * (narrow ? 1 : c.rounding))
          << fmt::format("{}, differences of {} of the values", c.name, size);
    }
  }
}

constexpr double kBf16 = 1.0 / 512;

TEST(Pair, GivesTheDifferenceOfFp64InFp64) { expect_differences(at::kDouble, 2e-13); }
TEST(Pair, GivesTheDifferenceOfFp64ToItsOwnRounding) {
  expect_differences(at::kFloat, 5e-7);
  expect_differences(at::kBFloat16, kBf16);
}
TEST(Pair, GivesTheSameByPlainOperations) {
  const DeviceScope plain(DeviceOptions{.device = "cpu", .kernels = Kernels::kPlain});
  expect_differences(at::kFloat, 5e-7);
  expect_differences(at::kBFloat16, kBf16);
}

// What a bf16 network loses without pairs: the reason for all of this.
TEST(Pair, KeepsWhatADifferenceOfTwoRoundedCallsLoses) {
  for (const Case& c : cases()) {
    if (c.name != "attention" && c.name != "gelu_tanh" && c.name != "layer_norm_modulate") continue;
    const Found e = errors(c, at::kBFloat16, 1e-3);
    std::vector<Tensor> base, other;
    for (size_t i = 0; i < c.shapes.size(); ++i) {
      base.push_back(random_double(c.shapes[i], i).to(at::kBFloat16));
      other.push_back((random_double(c.shapes[i], i) + random_double(c.shapes[i], 20 + i, 1e-3))
                          .to(at::kBFloat16));
    }
    if (c.streams > 0) {
      base[0] = base[0].to(at::kFloat);
      other[0] = other[0].to(at::kFloat);
    }
    std::vector<Tensor> exact_base, exact_other;
    for (size_t i = 0; i < base.size(); ++i) {
      exact_base.push_back(random_double(c.shapes[i], i));
      exact_other.push_back(exact_base[i] + random_double(c.shapes[i], 20 + i, 1e-3));
    }
    const Tensor got = c.plain(other).to(at::kDouble) - c.plain(base).to(at::kDouble);
    EXPECT_GT(norm_error(got, c.plain(exact_other) - c.plain(exact_base)), 100 * e.difference)
        << c.name;
  }
}

TEST(Pair, OfNoDifferenceIsTheValueAlone) {
  for (const Case& c : cases()) {
    std::vector<Pair> pairs;
    std::vector<Tensor> base;
    for (size_t i = 0; i < c.shapes.size(); ++i) {
      base.push_back(random_double(c.shapes[i], i).to(at::kFloat));
      pairs.push_back({base.back(), {}});
    }
    const Pair got = c.paired(pairs);
    EXPECT_FALSE(got.difference.defined()) << c.name;
    EXPECT_TRUE(at::equal(got.base, c.plain(base))) << c.name;
  }
}

TEST(Pair, TakesOneTimeForBothValues) {
  const Tensor t = at::rand({3});
  EXPECT_TRUE(
      at::equal(ops::timestep_embedding(Pair{t, {}}, 8).base, ops::timestep_embedding(t, 8)));
  EXPECT_THAT(testing::message_of([&] { ops::timestep_embedding(Pair{t, t}, 8); }),
              HasSubstr("expected one time for both values of a pair"));
}

}  // namespace
}  // namespace vggflow
