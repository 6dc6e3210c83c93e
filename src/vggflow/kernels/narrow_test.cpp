// Products of bf16 against loops written to be read, over odd sizes, with what follows them.
#include "vggflow/kernels/narrow.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "vggflow/core/random.h"

namespace vggflow::kernels {
namespace {

bf16 narrow(double x) {
  const auto u = std::bit_cast<uint32_t>(static_cast<float>(x));
  return {static_cast<uint16_t>((u + 0x7FFF + ((u >> 16) & 1)) >> 16)};
}
double wide(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

std::vector<float> random_floats(uint64_t id, int64_t n) {
  RandomStream random({.seed = 7, .purpose = Purpose::kTest, .sample = id});
  std::vector<float> out(static_cast<size_t>(n));
  random.fill_normal(out);
  return out;
}
std::vector<bf16> random_narrow(uint64_t id, int64_t n) {
  std::vector<bf16> out;
  for (const float x : random_floats(id, n)) out.push_back(narrow(x));
  return out;
}

// A product of `rows` rows that lie apart from one another, into pieces of `piece` rows.
struct Problem {
  Problem(int64_t rows_, int64_t n_, int64_t k_, int64_t piece_)
      : rows(rows_),
        n(n_),
        k(k_),
        piece(piece_),
        x(random_narrow(1, rows * (k + 6))),
        w(random_narrow(2, n * k)),
        bias(random_floats(3, (n + 31) / 32 * 32)),
        packed(static_cast<size_t>(packed_size(n, k))) {
    narrow_kernels()->pack(w.data(), n, k, k, packed.data());
  }
  NarrowRows input() const { return {x.data(), k + 6, rows}; }
  PackedLinear layer() const { return {packed.data(), bias.data(), n, k}; }
  double at(int64_t r, int64_t c) const {
    double sum = bias[static_cast<size_t>(c)];
    for (int64_t i = 0; i < k; ++i)
      sum +=
          wide(x[static_cast<size_t>(r * (k + 6) + i)]) * wide(w[static_cast<size_t>(c * k + i)]);
    return sum;
  }
  // Pieces lie a row of n + 3 apart, and a gap of 5 follows each.
  int64_t stride() const { return n + 3; }
  int64_t piece_size() const { return piece * stride() + 5; }
  int64_t size() const { return (rows + piece - 1) / piece * piece_size(); }
  template <class T>
  Pieces<T> pieces(T* p) const {
    return {p, piece, piece_size(), stride()};
  }
  size_t place(int64_t r, int64_t c) const {
    return static_cast<size_t>(r / piece * piece_size() + r % piece * stride() + c);
  }
  int64_t rows, n, k, piece;
  std::vector<bf16> x, w;
  std::vector<float> bias;
  std::vector<bf16> packed;
};

double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

template <class F>
void over_odd_sizes(const F& check) {
  if (!narrow_kernels()) GTEST_SKIP() << "this processor has no dot products of bf16";
  for (const int64_t rows : {1, 2, 3, 7, 12, 13, 29}) {
    for (const int64_t n : {1, 15, 31, 32, 33, 160}) {
      for (const int64_t k : {2, 30, 32, 34, 160}) {
        SCOPED_TRACE(std::to_string(rows) + " rows, " + std::to_string(n) + " of " +
                     std::to_string(k));
        check(Problem(rows, n, k, rows > 3 ? 5 : rows));
      }
    }
  }
}

// What a kernel must leave as it is holds this.
constexpr float kUntouched = -77;

template <class T, class F>
void expect_values(const Problem& p, const std::vector<T>& got, double tolerance, const F& want) {
  std::vector<bool> written(got.size());
  const auto value = [&](size_t i) {
    if constexpr (std::is_same_v<T, bf16>) {
      return wide(got[i]);
    } else {
      return static_cast<double>(got[i]);
    }
  };
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t c = 0; c < p.n; ++c) {
      const double y = want(r, c);
      written[p.place(r, c)] = true;
      ASSERT_NEAR(value(p.place(r, c)), y, tolerance * (1 + std::abs(y))) << r << ", " << c;
    }
  }
  for (size_t i = 0; i < got.size(); ++i) {
    if (written[i]) continue;
    ASSERT_EQ(value(i), kUntouched) << "written beside the rows, at " << i;
  }
}

TEST(NarrowKernels, ProductsEqualTheirPlainTwins) {
  over_odd_sizes([](const Problem& p) {
    std::vector<bf16> y(static_cast<size_t>(p.size()), narrow(kUntouched));
    narrow_kernels()->product(p.input(), p.layer(), p.pieces(y.data()));
    expect_values(p, y, 4e-3, [&](int64_t r, int64_t c) { return p.at(r, c); });
    std::vector<float> wide_y(y.size(), kUntouched);
    narrow_kernels()->product_wide(p.input(), p.layer(), p.pieces(wide_y.data()));
    expect_values(p, wide_y, 2e-5, [&](int64_t r, int64_t c) { return p.at(r, c); });
  });
}

TEST(NarrowKernels, GeluFollowsAProductInItsRegisters) {
  over_odd_sizes([](const Problem& p) {
    std::vector<bf16> y(static_cast<size_t>(p.size()), narrow(kUntouched));
    narrow_kernels()->product_gelu(p.input(), p.layer(), p.pieces(y.data()));
    expect_values(p, y, 4e-3, [&](int64_t r, int64_t c) { return gelu(p.at(r, c)); });
  });
}

TEST(NarrowKernels, GatesOfEachPieceAndTheResidualFollowAProduct) {
  over_odd_sizes([](const Problem& p) {
    const int64_t pieces = (p.rows + p.piece - 1) / p.piece;
    const auto gate = random_floats(5, pieces * (p.n + 1)), r = random_floats(6, p.size());
    std::vector<float> y(static_cast<size_t>(p.size()), kUntouched);
    narrow_kernels()->product_gated(p.input(), p.layer(), {gate.data(), p.n + 1},
                                    p.pieces(r.data()), p.pieces(y.data()));
    expect_values(p, y, 2e-5, [&](int64_t row, int64_t c) {
      return r[p.place(row, c)] +
             gate[static_cast<size_t>(row / p.piece * (p.n + 1) + c)] * p.at(row, c);
    });
  });
}

TEST(NarrowKernels, AGeluFarOutIsItsLimitAndNotANumberStaysOne) {
  if (!narrow_kernels()) GTEST_SKIP() << "this processor has no dot products of bf16";
  const std::vector<bf16> w{narrow(1), narrow(0)};
  std::vector<bf16> packed(static_cast<size_t>(packed_size(1, 2)));
  narrow_kernels()->pack(w.data(), 1, 2, 2, packed.data());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<bf16> x, y(4);
  for (const double v : {300.0, -300.0, 0.0, nan}) x.insert(x.end(), {narrow(v), narrow(0)});
  x[6] = {0x7FC0};
  narrow_kernels()->product_gelu({x.data(), 2, 4}, {packed.data(), nullptr, 1, 2},
                                 {y.data(), 4, 0, 1});
  EXPECT_EQ(wide(y[0]), 300);
  EXPECT_EQ(wide(y[1]), 0);
  EXPECT_EQ(wide(y[2]), 0);
  EXPECT_TRUE(std::isnan(wide(y[3])));
}

}  // namespace
}  // namespace vggflow::kernels
