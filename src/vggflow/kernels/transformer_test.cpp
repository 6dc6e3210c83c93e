// The fused kernels of every instruction set that runs here against loops written to be read, over
// odd sizes and both types.
#include "vggflow/kernels/transformer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <type_traits>
#include <vector>

#include "vggflow/core/random.h"

namespace vggflow::kernels {
namespace {

using Floats = std::vector<double>;

template <class T>
T from_double(double x);
template <>
float from_double(double x) {
  return static_cast<float>(x);
}
template <>
bf16 from_double(double x) {
  const auto u = std::bit_cast<uint32_t>(static_cast<float>(x));
  return {static_cast<uint16_t>((u + 0x7FFF + ((u >> 16) & 1)) >> 16)};
}
double to_double(float x) { return x; }
double to_double(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

template <class T>
double tolerance() {
  return std::is_same_v<T, float> ? 2e-5 : 2e-2;
}

template <class T>
std::vector<T> random_values(uint64_t id, int64_t n) {
  RandomStream random({.seed = 7, .purpose = Purpose::kTest, .sample = id});
  std::vector<T> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(from_double<T>(random.normal()));
  return out;
}

template <class T>
void expect_close(const std::vector<T>& got, const Floats& want, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_NEAR(to_double(got[i]), want[i], tolerance<T>() * (1 + std::abs(want[i])))
        << what << " at " << i;
  }
}

template <class T>
const TransformerKernels<T>& of(const KernelTable& t) {
  if constexpr (std::is_same_v<T, float>) {
    return t.f32;
  } else {
    return t.b16;
  }
}

template <class T>
void check_layer_norm(const KernelTable& table, int64_t n, int64_t d) {
  const int64_t batch = 2;
  const auto x = random_values<float>(1, batch * n * d),
             mod = random_values<float>(2, batch * 3 * d);
  const auto gy = random_values<T>(3, batch * n * d);
  const Rows shift{mod.data(), 3 * d}, scale{mod.data() + d, 3 * d};
  std::vector<T> y(x.size());
  std::vector<float> mean(static_cast<size_t>(batch * n)), rstd(mean), gx(x.size()),
      gsh(static_cast<size_t>(batch * d)), gsc(gsh);
  of<T>(table).ln_modulate(x.data(), shift, scale, n, d, 1e-6f, y.data(), mean.data(), rstd.data(),
                           0, batch);
  of<T>(table).ln_modulate_backward(gy.data(), x.data(), scale, mean.data(), rstd.data(), n, d,
                                    gx.data(), gsh.data(), gsc.data(), 0, batch);
  Floats y_want(x.size()), gx_want(x.size()), gsh_want(gsh.size()), gsc_want(gsc.size());
  for (int64_t r = 0; r < batch * n; ++r) {
    const int64_t b = r / n;
    const auto at = [&](int64_t i) { return static_cast<size_t>(r * d + i); };
    double mu = 0, var = 0, sum = 0, dot = 0;
    for (int64_t i = 0; i < d; ++i) mu += x[at(i)] / static_cast<double>(d);
    for (int64_t i = 0; i < d; ++i) var += std::pow(x[at(i)] - mu, 2) / static_cast<double>(d);
    const double rs = 1 / std::sqrt(var + 1e-6);
    for (int64_t i = 0; i < d; ++i) {
      const double xh = (x[at(i)] - mu) * rs,
                   a = to_double(gy[at(i)]) * (1 + mod[static_cast<size_t>(b * 3 * d + d + i)]);
      y_want[at(i)] = xh * (1 + mod[static_cast<size_t>(b * 3 * d + d + i)]) +
                      mod[static_cast<size_t>(b * 3 * d + i)];
      sum += a / static_cast<double>(d);
      dot += a * xh / static_cast<double>(d);
      gsh_want[static_cast<size_t>(b * d + i)] += to_double(gy[at(i)]);
      gsc_want[static_cast<size_t>(b * d + i)] += to_double(gy[at(i)]) * xh;
    }
    for (int64_t i = 0; i < d; ++i) {
      const double xh = (x[at(i)] - mu) * rs,
                   a = to_double(gy[at(i)]) * (1 + mod[static_cast<size_t>(b * 3 * d + d + i)]);
      gx_want[at(i)] = rs * (a - sum - xh * dot);
    }
  }
  expect_close(y, y_want, "y");
  expect_close(gx, gx_want, "gx");
  expect_close(gsh, gsh_want, "gshift");
  expect_close(gsc, gsc_want, "gscale");
}

template <class T>
void check_gated_add(const KernelTable& table, int64_t n, int64_t d) {
  const int64_t batch = 2;
  const auto x = random_values<float>(1, batch * n * d), gate = random_values<float>(2, batch * d),
             go = random_values<float>(4, batch * n * d);
  const auto y = random_values<T>(3, batch * n * d);
  std::vector<float> out(x.size()), gg(gate.size());
  std::vector<T> gy(y.size());
  of<T>(table).gated_add(x.data(), {gate.data(), d}, y.data(), n, d, out.data(), 0, batch);
  of<T>(table).gated_add_backward(go.data(), {gate.data(), d}, y.data(), n, d, gy.data(), gg.data(),
                                  0, batch);
  Floats out_want(x.size()), gy_want(x.size()), gg_want(gate.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t g =
        i / static_cast<size_t>(n * d) * static_cast<size_t>(d) + i % static_cast<size_t>(d);
    out_want[i] = x[i] + gate[g] * to_double(y[i]);
    gy_want[i] = gate[g] * go[i];
    gg_want[g] += go[i] * to_double(y[i]);
  }
  expect_close(out, out_want, "out");
  expect_close(gy, gy_want, "gy");
  expect_close(gg, gg_want, "ggate");
}

double gelu_plain(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

template <class T>
void check_gelu(const KernelTable& table, int64_t n) {
  auto x = random_values<T>(1, n);
  const auto gy = random_values<T>(2, n);
  x[0] = from_double<T>(60);  // far out, where a naive exp overflows
  if (n > 1) x[1] = from_double<T>(-60);
  std::vector<T> y(x.size()), gx(x.size());
  of<T>(table).gelu(x.data(), y.data(), 0, n);
  of<T>(table).gelu_backward(x.data(), gy.data(), gx.data(), 0, n);
  Floats y_want, gx_want;
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = to_double(x[i]), h = 1e-5;
    y_want.push_back(gelu_plain(v));
    gx_want.push_back(to_double(gy[i]) * (gelu_plain(v + h) - gelu_plain(v - h)) / (2 * h));
  }
  expect_close(y, y_want, "gelu");
  expect_close(gx, gx_want, "gelu'");
}

template <class T>
void check_attention(const KernelTable& table, int64_t n, int64_t heads, int64_t dh) {
  const int64_t batch = 2, d = heads * dh;
  const auto qkv = random_values<T>(1, batch * n * 3 * d), go = random_values<T>(2, batch * n * d);
  std::vector<T> out(go.size()), gqkv(qkv.size());
  std::vector<float> lse(static_cast<size_t>(batch * heads * n));
  of<T>(table).attention(qkv.data(), n, d, heads, out.data(), lse.data(), 0, batch * heads);
  of<T>(table).attention_backward(go.data(), qkv.data(), out.data(), lse.data(), n, d, heads,
                                  gqkv.data(), 0, batch * heads);
  Floats out_want(out.size()), g_want(qkv.size());
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      const auto at = [&](int64_t which, int64_t i, int64_t c) {
        return static_cast<size_t>((b * n + i) * 3 * d + which * d + h * dh + c);
      };
      const auto ot = [&](int64_t i, int64_t c) {
        return static_cast<size_t>((b * n + i) * d + h * dh + c);
      };
      const auto get = [&](int64_t which, int64_t i, int64_t c) {
        return to_double(qkv[at(which, i, c)]);
      };
      for (int64_t i = 0; i < n; ++i) {
        Floats p(static_cast<size_t>(n)), dp(p);
        double sum = 0, delta = 0;
        for (int64_t j = 0; j < n; ++j) {
          double s = 0;
          for (int64_t c = 0; c < dh; ++c)
            s += get(0, i, c) * get(1, j, c) / std::sqrt(static_cast<double>(dh));
          sum += p[static_cast<size_t>(j)] = std::exp(s);
        }
        for (int64_t j = 0; j < n; ++j) {
          p[static_cast<size_t>(j)] /= sum;
          for (int64_t c = 0; c < dh; ++c) {
            out_want[ot(i, c)] += p[static_cast<size_t>(j)] * get(2, j, c);
            dp[static_cast<size_t>(j)] += to_double(go[ot(i, c)]) * get(2, j, c);
            g_want[at(2, j, c)] += p[static_cast<size_t>(j)] * to_double(go[ot(i, c)]);
          }
          delta += p[static_cast<size_t>(j)] * dp[static_cast<size_t>(j)];
        }
        for (int64_t j = 0; j < n; ++j) {
          const double ds = p[static_cast<size_t>(j)] * (dp[static_cast<size_t>(j)] - delta) /
                            std::sqrt(static_cast<double>(dh));
          for (int64_t c = 0; c < dh; ++c) {
            g_want[at(0, i, c)] += ds * get(1, j, c);
            g_want[at(1, j, c)] += ds * get(0, i, c);
          }
        }
      }
    }
  }
  expect_close(out, out_want, "attention");
  expect_close(gqkv, g_want, "attention gradient");
}

TEST(TransformerKernels, LayerNormModulateEqualsItsPlainTwin) {
  for (const auto* table : tables()) {
    for (const int64_t d : {1, 15, 31, 32, 33, 160}) {
      SCOPED_TRACE(table->isa + " width " + std::to_string(d));
      if (d > 1) check_layer_norm<float>(*table, 3, d);
      if (d > 1) check_layer_norm<bf16>(*table, 3, d);
    }
  }
}

TEST(TransformerKernels, GatedAddEqualsItsPlainTwin) {
  for (const auto* table : tables()) {
    for (const int64_t d : {1, 31, 32, 33}) {
      SCOPED_TRACE(table->isa + " width " + std::to_string(d));
      check_gated_add<float>(*table, 5, d);
      check_gated_add<bf16>(*table, 5, d);
    }
  }
}

TEST(TransformerKernels, GeluEqualsItsFormulaAndDerivativeEvenFarOut) {
  for (const auto* table : tables()) {
    for (const int64_t n : {1, 31, 32, 33, 1000}) {
      SCOPED_TRACE(table->isa + " elements " + std::to_string(n));
      check_gelu<float>(*table, n);
      check_gelu<bf16>(*table, n);
    }
  }
}

TEST(TransformerKernels, AttentionAndItsGradientEqualTheirPlainTwins) {
  for (const auto* table : tables()) {
    for (const int64_t n : {1, 15, 31, 32, 33, 76}) {
      for (const int64_t dh : {8, 32, 40, 64}) {
        SCOPED_TRACE(table->isa + " tokens " + std::to_string(n) + " head " + std::to_string(dh));
        check_attention<float>(*table, n, 2, dh);
        check_attention<bf16>(*table, n, 2, dh);
      }
    }
  }
}

// Beyond 512 tokens the query rows go in tiles; 529 and 577 leave whole and partial ones.
// 8192 tokens, whose scores are 268 MB, in 32 MB more than the process has.
void attend_in_little_memory() {
  constexpr int64_t kTokens = 8192, kWidth = 16;
  const auto qkv = random_values<float>(1, kTokens * 3 * kWidth),
             gout = random_values<float>(2, kTokens * kWidth);
  std::vector<float> out(kTokens * kWidth), dout(out), lse(kTokens), gqkv(qkv.size());
  long pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlim_t bytes = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE)) + (rlim_t{32} << 20);
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_AS, &limit);
  const auto& k = of<float>(best_table());
  k.attention(qkv.data(), kTokens, kWidth, 1, out.data(), lse.data(), 0, 1);
  k.attention_backward(gout.data(), qkv.data(), out.data(), lse.data(), kTokens, kWidth, 1,
                       gqkv.data(), 0, 1);
  k.attention_pair(qkv.data(), qkv.data(), kTokens, kWidth, 1, out.data(), dout.data(), 0, 1);
  std::exit(0);
}

TEST(TransformerKernelsDeathTest, AttentionOverLongSequencesHoldsNoMatrixOfScores) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer's own memory has no such bound";
#endif
  EXPECT_EXIT(attend_in_little_memory(), ::testing::ExitedWithCode(0), "");
}

TEST(TransformerKernels, AttentionOverLongSequencesEqualsItsPlainTwin) {
  for (const auto* table : tables()) {
    for (const int64_t n : {529, 577}) {
      SCOPED_TRACE(table->isa + " tokens " + std::to_string(n));
      check_attention<float>(*table, n, 1, 8);
      check_attention<bf16>(*table, n, 1, 8);
    }
  }
}

using Kernels32 = TransformerKernels<float>;

// y = f(x) and dy = f(x + dx) - f(x) against fp32's f on the same numbers.
template <class T, class F, class P>
void check_pair(const KernelTable& table, int64_t inputs, int64_t outputs, const F& f,
                const P& pair) {
  const auto x = random_values<T>(1, inputs), dx = random_values<T>(2, inputs);
  std::vector<float> base, other;
  for (size_t i = 0; i < x.size(); ++i) {
    base.push_back(static_cast<float>(to_double(x[i])));
    other.push_back(base.back() + static_cast<float>(to_double(dx[i])));
  }
  std::vector<float> y_base(static_cast<size_t>(outputs)), y_other(y_base);
  f(table.f32, base.data(), y_base.data());
  f(table.f32, other.data(), y_other.data());
  std::vector<T> y(y_base.size()), dy(y);
  pair(x, dx, y, dy);
  Floats want, change;
  for (size_t i = 0; i < y.size(); ++i) {
    want.push_back(y_base[i]);
    change.push_back(static_cast<double>(y_other[i]) - y_base[i]);
  }
  expect_close(y, want, "y");
  expect_close(dy, change, "dy");
}

template <class T>
void check_pairs(const KernelTable& table, int64_t n, int64_t heads, int64_t d) {
  const auto gelu = [&](const Kernels32& k, const float* x, float* y) { k.gelu(x, y, 0, n * d); };
  check_pair<T>(table, n * d, n * d, gelu, [&](auto& x, auto& dx, auto& y, auto& dy) {
    of<T>(table).gelu_pair(x.data(), dx.data(), y.data(), dy.data(), 0, n * d);
  });
  const auto attention = [&](const Kernels32& k, const float* x, float* y) {
    k.attention(x, n, d, heads, y, nullptr, 0, heads);
  };
  check_pair<T>(table, 3 * n * d, n * d, attention, [&](auto& x, auto& dx, auto& y, auto& dy) {
    of<T>(table).attention_pair(x.data(), dx.data(), n, d, heads, y.data(), dy.data(), 0, heads);
  });
}

// The stream and the modulations are fp32 whatever T is.
template <class T>
void check_layer_norm_pair(const KernelTable& table, int64_t n, int64_t d) {
  const int64_t batch = 2, count = batch * n * d;
  const auto x = random_values<float>(1, count), dx = random_values<float>(2, count),
             mod = random_values<float>(3, batch * 2 * d),
             dmod = random_values<float>(4, batch * 2 * d);
  std::vector<float> far(x), far_mod(mod), y_base(x.size()), y_far(x.size()),
      mean(static_cast<size_t>(batch * n)), rstd(mean);
  for (size_t i = 0; i < x.size(); ++i) far[i] += dx[i];
  for (size_t i = 0; i < mod.size(); ++i) far_mod[i] += dmod[i];
  const auto run = [&](const std::vector<float>& of_x, const std::vector<float>& m,
                       std::vector<float>& y) {
    table.f32.ln_modulate(of_x.data(), {m.data(), 2 * d}, {m.data() + d, 2 * d}, n, d, 1e-6f,
                          y.data(), mean.data(), rstd.data(), 0, batch);
  };
  run(x, mod, y_base);
  run(far, far_mod, y_far);
  std::vector<T> y(x.size()), dy(y);
  of<T>(table).ln_modulate_pair(x.data(), dx.data(), {mod.data(), 2 * d}, {mod.data() + d, 2 * d},
                                {dmod.data(), 2 * d}, {dmod.data() + d, 2 * d}, n, d, 1e-6f,
                                y.data(), dy.data(), 0, batch);
  Floats want, change;
  for (size_t i = 0; i < y.size(); ++i) {
    want.push_back(y_base[i]);
    change.push_back(static_cast<double>(y_far[i]) - y_base[i]);
  }
  expect_close(y, want, "y");
  expect_close(dy, change, "dy");
}

TEST(TransformerKernels, PairsGiveTheValueAndItsDifference) {
  for (const auto* table : tables()) {
    for (const int64_t n : {1, 33, 76}) {
      for (const int64_t dh : {8, 40}) {
        SCOPED_TRACE(table->isa + " tokens " + std::to_string(n) + " head " + std::to_string(dh));
        check_pairs<float>(*table, n, 2, 2 * dh);
        check_pairs<bf16>(*table, n, 2, 2 * dh);
        check_layer_norm_pair<float>(*table, n, dh);
        check_layer_norm_pair<bf16>(*table, n, dh);
      }
    }
  }
}

TEST(TransformerKernels, AdamWFollowsItsFormula) {
  for (const auto* table : tables()) {
    const int64_t n = 37;
    const auto g = random_values<float>(1, n);
    auto p = random_values<float>(2, n), m = random_values<float>(3, n);
    std::vector<float> v(static_cast<size_t>(n), 0.5f);
    const auto p0 = p, m0 = m;
    table->adamw({1e-2f, 0.9f, 0.99f, 1e-8f, 0.1f, 0.19f, 0.02f}, g.data(), p.data(), m.data(),
                 v.data(), 0, n);
    for (size_t i = 0; i < p.size(); ++i) {
      const double mi = 0.9 * m0[i] + 0.1 * g[i], vi = 0.99 * 0.5 + 0.01 * g[i] * g[i];
      EXPECT_NEAR(p[i], p0[i] - 1e-2 * (mi / 0.19 / (std::sqrt(vi / 0.02) + 1e-8) + 0.1 * p0[i]),
                  1e-5);
    }
  }
}

}  // namespace
}  // namespace vggflow::kernels
