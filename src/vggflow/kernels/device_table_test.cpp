// The device kernels' host instantiation against loops in double precision that are written to be
// read: at most 5e-7 of the norm in fp32, at odd widths and at SD3's, and each tangent against the
// formula that the reverse passes are transposes of.
#include "vggflow/kernels/device_table.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "vggflow/core/random.h"

namespace vggflow::kernels {
namespace {

using Doubles = std::vector<double>;

constexpr double kEps = 1e-6;
constexpr double kFloatBound = 5e-7;
constexpr double kBfloat16Bound = 3e-3;  // one rounding of the result: 2^-9 at most

double bound_of(Type type) { return type == Type::kFloat ? kFloatBound : kBfloat16Bound; }

// An array of either type, with its values in double precision.
class Values {
 public:
  Values(Type type, int64_t count) : type_(type), count_(static_cast<size_t>(count)) {
    floats_.resize(count_ + 1);  // one more, so that an empty array has an address
    halves_.resize(count_ + 1);
  }
  static Values random(Type type, int64_t count, uint64_t id, double offset = 0) {
    RandomStream random({.seed = 11, .purpose = Purpose::kTest, .sample = id});
    Values v(type, count);
    for (size_t i = 0; i < v.count_; ++i) v.set(i, random.normal() + offset);
    return v;
  }
  void* data() {
    return type_ == Type::kFloat ? static_cast<void*>(floats_.data()) : halves_.data();
  }
  const void* data() const { return const_cast<Values*>(this)->data(); }
  float* floats() { return floats_.data(); }
  Type type() const { return type_; }
  size_t count() const { return count_; }
  double operator[](size_t i) const {
    return type_ == Type::kFloat
               ? floats_[i]
               : std::bit_cast<float>(static_cast<uint32_t>(halves_[i].bits) << 16);
  }
  Doubles doubles() const {
    Doubles all;
    for (size_t i = 0; i < count_; ++i) all.push_back((*this)[i]);
    return all;
  }
  Modulation rows(int64_t stride) const { return {data(), stride, type_}; }
  Array array() const { return {data(), type_}; }

 private:
  void set(size_t i, double x) {
    const auto u = std::bit_cast<uint32_t>(static_cast<float>(x));
    floats_[i] = static_cast<float>(x);
    halves_[i] = {static_cast<uint16_t>((u + 0x7FFF + ((u >> 16) & 1)) >> 16)};
  }

  Type type_;
  size_t count_;
  std::vector<float> floats_;
  std::vector<bf16> halves_;
};

// |got - want| / |want| in the Euclidean norm.
double error(const Values& got, const Doubles& want) {
  double off = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    off += std::pow(got[i] - want[i], 2);
    norm += std::pow(want[i], 2);
  }
  return std::sqrt(off / norm);
}

double dot(const Doubles& a, const Doubles& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

struct Types {
  Type x, y;
};
const std::vector<Types> kTypes{{Type::kFloat, Type::kFloat},
                                {Type::kFloat, Type::kBfloat16},
                                {Type::kBfloat16, Type::kFloat},
                                {Type::kBfloat16, Type::kBfloat16}};
const std::vector<int64_t> kWidths{2, 3, 31, 32, 33, 160, 1536};

std::string trace(const Types& t, int64_t width) {
  return std::to_string(static_cast<int>(t.x)) + std::to_string(static_cast<int>(t.y)) + " width " +
         std::to_string(width);
}

// Row i of a matrix.
double* row(Doubles& m, int64_t i, int64_t width) { return m.data() + i * width; }
const double* row(const Doubles& m, int64_t i, int64_t width) { return m.data() + i * width; }

// y = LN(x) (1 + scale) + shift and its directional derivative, by the formula.
struct ModulateInput {
  Doubles x, shift, scale;
};
Doubles modulate(const ModulateInput& in, int64_t batch, int64_t n, int64_t d) {
  Doubles y(in.x.size());
  for (int64_t r = 0; r < batch * n; ++r) {
    const double* x = row(in.x, r, d);
    double mean = 0, var = 0;
    for (int64_t i = 0; i < d; ++i) mean += x[i] / static_cast<double>(d);
    for (int64_t i = 0; i < d; ++i) var += std::pow(x[i] - mean, 2) / static_cast<double>(d);
    for (int64_t i = 0; i < d; ++i) {
      row(y, r, d)[i] = (x[i] - mean) / std::sqrt(var + kEps) * (1 + row(in.scale, r / n, d)[i]) +
                        row(in.shift, r / n, d)[i];
    }
  }
  return y;
}

Doubles along(const Doubles& x, const Doubles& dx, double h) {
  Doubles moved = x;
  for (size_t i = 0; i < x.size(); ++i) moved[i] += h * dx[i];
  return moved;
}

// (f(h) - f(-h)) / 2h, in double precision exact to about 1e-9.
Doubles derivative(const std::function<Doubles(double)>& f) {
  constexpr double h = 1e-5;
  const Doubles up = f(h), down = f(-h);
  Doubles d(up.size());
  for (size_t i = 0; i < d.size(); ++i) d[i] = (up[i] - down[i]) / (2 * h);
  return d;
}

// The gradient in each element, from the inner products with all unit directions, is too slow:
// <w, J dx> = <J^T w, dx> for the tests' own random dx holds the reverse pass instead, and the
// plain formulas below hold it element by element.
struct LnGradient {
  Doubles x, shift, scale;
};
LnGradient modulate_backward(const ModulateInput& in, const Doubles& gy, int64_t batch, int64_t n,
                             int64_t d) {
  LnGradient g{Doubles(in.x.size()), Doubles(in.shift.size()), Doubles(in.scale.size())};
  for (int64_t r = 0; r < batch * n; ++r) {
    const double *x = row(in.x, r, d), *gr = row(gy, r, d), *sc = row(in.scale, r / n, d);
    double mean = 0, var = 0, sum = 0, with = 0;
    for (int64_t i = 0; i < d; ++i) mean += x[i] / static_cast<double>(d);
    for (int64_t i = 0; i < d; ++i) var += std::pow(x[i] - mean, 2) / static_cast<double>(d);
    const double rs = 1 / std::sqrt(var + kEps);
    for (int64_t i = 0; i < d; ++i) {
      const double xh = (x[i] - mean) * rs, a = gr[i] * (1 + sc[i]);
      sum += a / static_cast<double>(d);
      with += a * xh / static_cast<double>(d);
      row(g.shift, r / n, d)[i] += gr[i];
      row(g.scale, r / n, d)[i] += gr[i] * xh;
    }
    for (int64_t i = 0; i < d; ++i)
      row(g.x, r, d)[i] = rs * (gr[i] * (1 + sc[i]) - sum - (x[i] - mean) * rs * with);
  }
  return g;
}

// All arrays of one adaLN test: x has a mean far from 0, where sums of squares would lose digits.
struct LnCase {
  LnCase(Types t, Type mod, int64_t width)
      : types(t),
        d(width),
        x(Values::random(t.x, batch * n * d, 1, 0.5)),
        dx(Values::random(t.x, batch * n * d, 2)),
        shift(Values::random(mod, batch * d, 3)),
        scale(Values::random(mod, batch * d, 4)),
        dshift(Values::random(mod, batch * d, 5)),
        dscale(Values::random(mod, batch * d, 6)) {}
  ModulateInput input(double h = 0) const {
    return {along(x.doubles(), dx.doubles(), h), along(shift.doubles(), dshift.doubles(), h),
            along(scale.doubles(), dscale.doubles(), h)};
  }

  static constexpr int64_t batch = 2, n = 35;  // two partial sums
  Types types;
  int64_t d;
  Values x, dx, shift, scale, dshift, dscale;
  Values y{types.y, batch* n* d}, dy{types.y, batch* n* d}, mean{Type::kFloat, batch* n},
      rstd{Type::kFloat, batch* n};
};

void check_ln_modulate(Types types, Type mod, int64_t d) {
  LnCase c(types, mod, d);
  ASSERT_EQ(host_table().ln_modulate(
                {c.x.data(), c.dx.data(), c.shift.rows(d), c.scale.rows(d), c.dshift.rows(d),
                 c.dscale.rows(d), c.y.data(), c.dy.data(), c.mean.floats(), c.rstd.floats(),
                 c.batch, c.n, d, kEps, types.x, types.y},
                nullptr),
            nullptr);
  EXPECT_LT(error(c.y, modulate(c.input(), c.batch, c.n, d)), bound_of(types.y));
  EXPECT_LT(
      error(c.dy, derivative([&](double h) { return modulate(c.input(h), c.batch, c.n, d); })),
      bound_of(types.y));
  const Values gy = Values::random(types.y, c.batch * c.n * d, 7),
               add = Values::random(types.x, c.batch * c.n * d, 8);
  Values gx(types.x, c.batch * c.n * d), gshift(Type::kFloat, c.batch * d),
      gscale(Type::kFloat, c.batch * d), partial(Type::kFloat, c.batch * partials(c.n) * 2 * d);
  ASSERT_EQ(host_table().ln_modulate_backward(
                {gy.data(), c.x.data(), add.data(), c.scale.rows(d), c.mean.floats(),
                 c.rstd.floats(), gx.data(), gshift.floats(), gscale.floats(), partial.floats(),
                 c.batch, c.n, d, types.x, types.y},
                nullptr),
            nullptr);
  const LnGradient want = modulate_backward(c.input(), gy.doubles(), c.batch, c.n, d);
  EXPECT_LT(error(gx, along(want.x, add.doubles(), 1)), bound_of(types.x));
  EXPECT_LT(error(gshift, want.shift), kFloatBound);
  EXPECT_LT(error(gscale, want.scale), kFloatBound);
}

TEST(DeviceKernels, LayerNormModulateItsTangentAndGradientsEqualDoublePrecision) {
  for (const Types& t : kTypes) {
    for (const int64_t d : kWidths) {
      SCOPED_TRACE(trace(t, d));
      if (d == 2) continue;  // LN of two channels is a sign: its derivative cancels to nothing
      check_ln_modulate(t, Type::kFloat, d);
      check_ln_modulate(t, Type::kBfloat16, d);
    }
  }
}

// (out, modulated) of out = x + gate y and its adaLN, at a distance h along all tangents. `out` of
// a bf16 stream is rounded before its statistics are taken, which the second part starts from.
void check_gate(Types types, bool with_next, int64_t d) {
  LnCase c(types, types.y, d);
  const int64_t count = c.batch * c.n * d;
  const Values y = Values::random(types.y, count, 11), dy = Values::random(types.y, count, 12),
               gate = Values::random(types.y, c.batch * d, 13),
               dgate = Values::random(types.y, c.batch * d, 14);
  Values out(types.x, count), dout(types.x, count);
  void* const next = with_next ? c.y.data() : nullptr;
  ASSERT_EQ(host_table().gate({c.x.data(),
                               y.data(),
                               c.dx.data(),
                               dy.data(),
                               gate.rows(d),
                               dgate.rows(d),
                               c.shift.rows(d),
                               c.scale.rows(d),
                               c.dshift.rows(d),
                               c.dscale.rows(d),
                               out.data(),
                               dout.data(),
                               next,
                               c.dy.data(),
                               c.mean.floats(),
                               c.rstd.floats(),
                               c.batch,
                               c.n,
                               d,
                               kEps,
                               types.x,
                               types.y},
                              nullptr),
            nullptr);
  const auto plain = [&](double h) {
    const Doubles yh = along(y.doubles(), dy.doubles(), h),
                  gh = along(gate.doubles(), dgate.doubles(), h);
    Doubles sum = along(c.x.doubles(), c.dx.doubles(), h);
    for (int64_t r = 0; r < c.batch * c.n; ++r) {
      for (int64_t i = 0; i < d; ++i)
        row(sum, r, d)[i] += row(gh, r / c.n, d)[i] * row(yh, r, d)[i];
    }
    return sum;
  };
  EXPECT_LT(error(out, plain(0)), bound_of(types.x));
  EXPECT_LT(error(dout, derivative(plain)), bound_of(types.x));
  if (with_next) {
    const auto next_at = [&](double h) {
      ModulateInput in = c.input(h);
      in.x = along(out.doubles(), dout.doubles(), h);
      return modulate(in, c.batch, c.n, d);
    };
    EXPECT_LT(error(c.y, next_at(0)), bound_of(types.y));
    EXPECT_LT(error(c.dy, derivative(next_at)), bound_of(types.y));
  }
  const Values gout = Values::random(types.x, count, 15);
  Values gy(types.y, count), ggate(Type::kFloat, c.batch * d),
      partial(Type::kFloat, c.batch * partials(c.n) * d);
  ASSERT_EQ(
      host_table().gate_backward({gout.data(), y.data(), gate.rows(d), gy.data(), ggate.floats(),
                                  partial.floats(), c.batch, c.n, d, types.x, types.y},
                                 nullptr),
      nullptr);
  Doubles gy_want(static_cast<size_t>(count)), ggate_want(gate.count());
  for (int64_t r = 0; r < c.batch * c.n; ++r) {
    for (int64_t i = 0; i < d; ++i) {
      const auto at = static_cast<size_t>(r * d + i), b = static_cast<size_t>(r / c.n * d + i);
      gy_want[at] = gate[b] * gout[at];
      ggate_want[b] += gout[at] * y[at];
    }
  }
  EXPECT_LT(error(gy, gy_want), bound_of(types.y));
  EXPECT_LT(error(ggate, ggate_want), kFloatBound);
}

TEST(DeviceKernels, GateWithAndWithoutTheNextModulationEqualsDoublePrecision) {
  for (const Types& t : kTypes) {
    for (const int64_t d : kWidths) {
      SCOPED_TRACE(trace(t, d));
      check_gate(t, /*with_next=*/false, d);
      if (d > 2) check_gate(t, /*with_next=*/true, d);
    }
  }
}

double gelu_plain(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double gelu_slope(double x) {
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x), t = std::tanh(u);
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}

TEST(DeviceKernels, GeluItsTangentAndGradientEqualDoublePrecision) {
  for (const Type type : {Type::kFloat, Type::kBfloat16}) {
    for (const int64_t n : {1, 7, 8, 31, 32, 33, 1536}) {
      SCOPED_TRACE(n);
      const Values x = Values::random(type, n, 21), dx = Values::random(type, n, 22);
      Values y(type, n), dy(type, n), gx(type, n);
      ASSERT_EQ(host_table().gelu({x.data(), dx.data(), y.data(), dy.data(), n, type}, nullptr),
                nullptr);
      ASSERT_EQ(host_table().gelu_backward({dx.data(), x.data(), gx.data(), n, type}, nullptr),
                nullptr);
      Doubles y_want, dy_want;
      for (size_t i = 0; i < x.count(); ++i) {
        y_want.push_back(gelu_plain(x[i]));
        dy_want.push_back(gelu_slope(x[i]) * dx[i]);
      }
      EXPECT_LT(error(y, y_want), bound_of(type));
      EXPECT_LT(error(dy, dy_want), bound_of(type));
      EXPECT_LT(error(gx, dy_want), bound_of(type));
    }
  }
}

TEST(DeviceKernels, GeluIsFiniteFarOut) {
  std::vector<float> x{-60, 60, -1e4f, 1e4f}, y(4), gx(4), ones(4, 1);
  host_table().gelu({x.data(), nullptr, y.data(), nullptr, 4, Type::kFloat}, nullptr);
  host_table().gelu_backward({ones.data(), x.data(), gx.data(), 4, Type::kFloat}, nullptr);
  EXPECT_EQ(y, (std::vector<float>{0, 60, 0, 1e4f}));
  EXPECT_EQ(gx, (std::vector<float>{0, 1, 0, 1}));
}

// Two streams of packed (B, rows, 3D) and what both become, by the formula.
struct QkCase {
  QkCase(Type t, int64_t dim)
      : type(t),
        head_dim(dim),
        image(Values::random(t, batch * n * 3 * heads * dim, 31)),
        text(Values::random(t, batch * m * 3 * heads * dim, 32)),
        dimage(Values::random(t, batch * n * 3 * heads * dim, 33)),
        dtext(Values::random(t, batch * m * 3 * heads * dim, 34)) {
    for (uint64_t i = 0; i < 4; ++i) weights.push_back(Values::random(t, dim, 35 + i, 1));
  }
  int64_t width() const { return heads * head_dim; }
  QkvStream first(void* gradient = nullptr) const {
    return {image.data(), dimage.data(), gradient, n, weights[0].array(), weights[1].array()};
  }
  QkvStream second(void* gradient = nullptr) const {
    return {text.data(), dtext.data(), gradient, m, weights[2].array(), weights[3].array()};
  }
  // Where channel i of a head of the joint buffer comes from.
  double source(const Doubles& im, const Doubles& te, int64_t b, int64_t t, int64_t column) const {
    return t < n ? row(im, b * n + t, 3 * width())[column]
                 : row(te, b * m + t - n, 3 * width())[column];
  }
  Doubles joined(const Doubles& im, const Doubles& te) const {
    Doubles out(static_cast<size_t>(batch * (n + m) * 3 * width()));
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t t = 0; t < n + m; ++t) {
        for (int64_t unit = 0; unit < 3 * heads; ++unit) {
          const int64_t part = unit / heads, start = unit * head_dim;
          double sq = 0;
          for (int64_t i = 0; i < head_dim; ++i)
            sq += std::pow(source(im, te, b, t, start + i), 2) / static_cast<double>(head_dim);
          for (int64_t i = 0; i < head_dim; ++i) {
            const double x = source(im, te, b, t, start + i);
            const Values& w =
                weights[static_cast<size_t>((t < n ? 0 : 2) + std::min<int64_t>(part, 1))];
            row(out, b * (n + m) + t, 3 * width())[start + i] =
                part == 2 ? x : x / std::sqrt(sq + kEps) * w[static_cast<size_t>(i)];
          }
        }
      }
    }
    return out;
  }
  Doubles joined_at(double h) const {
    return joined(along(image.doubles(), dimage.doubles(), h),
                  along(text.doubles(), dtext.doubles(), h));
  }

  static constexpr int64_t batch = 2, n = 3, m = 2, heads = 3;
  Type type;
  int64_t head_dim;
  Values image, text, dimage, dtext;
  std::vector<Values> weights;
};

TEST(DeviceKernels, QueriesAndKeysAreNormalisedIntoOneBufferAsInDoublePrecision) {
  for (const Type type : {Type::kFloat, Type::kBfloat16}) {
    for (const int64_t dim : {1, 8, 31, 32, 33, 64}) {
      SCOPED_TRACE(dim);
      const QkCase c(type, dim);
      const int64_t count = c.batch * (c.n + c.m) * 3 * c.width();
      Values out(type, count), dout(type, count);
      ASSERT_EQ(host_table().qk_norm({c.first(), c.second(), out.data(), dout.data(), c.batch,
                                      c.heads, dim, kEps, type},
                                     nullptr),
                nullptr);
      EXPECT_LT(error(out, c.joined_at(0)), bound_of(type));
      EXPECT_LT(error(dout, derivative([&](double h) { return c.joined_at(h); })), bound_of(type));

      const Values gout = Values::random(type, count, 39);
      Values gimage(type, c.batch * c.n * 3 * c.width()),
          gtext(type, c.batch * c.m * 3 * c.width());
      ASSERT_EQ(host_table().qk_norm_backward({c.first(gimage.data()), c.second(gtext.data()),
                                               gout.data(), c.batch, c.heads, dim, kEps, type},
                                              nullptr),
                nullptr);
      // The map couples the channels of one head of one token alone, so one channel of every head
      // can be moved at once.
      for (int64_t i = 0; i < dim; i += std::max<int64_t>(1, dim / 4)) {
        Doubles di(c.image.count()), dt(c.text.count());
        for (size_t at = static_cast<size_t>(i); at < di.size(); at += static_cast<size_t>(dim))
          di[at] = 1;
        for (size_t at = static_cast<size_t>(i); at < dt.size(); at += static_cast<size_t>(dim))
          dt[at] = 1;
        const Doubles moved = derivative([&](double h) {
          return c.joined(along(c.image.doubles(), di, h), along(c.text.doubles(), dt, h));
        });
        Doubles got, want;
        for (int64_t head = 0; head < c.batch * (c.n + c.m) * 3 * c.heads; ++head) {
          double sum = 0;
          for (int64_t k = 0; k < dim; ++k) {
            const auto at = static_cast<size_t>(head * dim + k);
            sum += gout[at] * moved[at];
          }
          want.push_back(sum);
          const int64_t token = head / (3 * c.heads), b = token / (c.n + c.m),
                        t = token % (c.n + c.m), column = head % (3 * c.heads) * dim + i;
          got.push_back(c.source(gimage.doubles(), gtext.doubles(), b, t, column));
        }
        EXPECT_LT(std::sqrt(dot(along(got, want, -1), along(got, want, -1)) / dot(want, want)),
                  dim == 1 ? 2e-3 : bound_of(type))  // a norm of one channel is a sign
            << "channel " << i;
      }
    }
  }
}

void check_lora(Type type, int64_t rows, int64_t d, int64_t rank) {
  constexpr float kScale = 0.75f;
  const Values y = Values::random(type, rows * d, 41), dy = Values::random(type, rows * d, 42),
               u = Values::random(type, rows * rank, 43),
               du = Values::random(type, rows * rank, 44);
  Values b = Values::random(Type::kFloat, d * rank, 45), out(type, rows * d), dout(type, rows * d);
  ASSERT_EQ(host_table().lora_up({y.data(), u.data(), dy.data(), du.data(), b.floats(), out.data(),
                                  dout.data(), rows, d, rank, kScale, type},
                                 nullptr),
            nullptr);
  const auto up = [&](const Doubles& start, const Doubles& down) {
    Doubles sum = start;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < d; ++i) {
        for (int64_t k = 0; k < rank; ++k)
          row(sum, r, d)[i] +=
              kScale * row(down, r, rank)[k] * b[static_cast<size_t>(i * rank + k)];
      }
    }
    return sum;
  };
  EXPECT_LT(error(out, up(y.doubles(), u.doubles())), bound_of(type));
  EXPECT_LT(error(dout, up(dy.doubles(), du.doubles())), bound_of(type));

  Values gu(type, rows * rank), gb(Type::kFloat, d * rank),
      partial(Type::kFloat, partials(rows) * d * rank);
  ASSERT_EQ(host_table().lora_up_backward({dy.data(), u.data(), b.floats(), gu.data(), gb.floats(),
                                           partial.floats(), rows, d, rank, kScale, type},
                                          nullptr),
            nullptr);
  Doubles gu_want(gu.count()), gb_want(gb.count());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < d; ++i) {
      for (int64_t k = 0; k < rank; ++k) {
        const double g = kScale * dy[static_cast<size_t>(r * d + i)];
        row(gu_want, r, rank)[k] += g * b[static_cast<size_t>(i * rank + k)];
        row(gb_want, i, rank)[k] += g * u[static_cast<size_t>(r * rank + k)];
      }
    }
  }
  EXPECT_LT(error(gu, gu_want), bound_of(type));
  EXPECT_LT(error(gb, gb_want), kFloatBound);
}

TEST(DeviceKernels, LoraUpAddAndItsGradientsEqualDoublePrecision) {
  for (const Type type : {Type::kFloat, Type::kBfloat16}) {
    for (const int64_t d : {1, 31, 32, 33, 1536}) {
      for (const int64_t rank : {1, 4, 8, 9, 32}) {
        SCOPED_TRACE(std::to_string(d) + " rank " + std::to_string(rank));
        check_lora(type, /*rows=*/35, d, rank);
      }
    }
  }
}

TEST(DeviceKernels, AdamWFollowsItsFormulaInDoublePrecision) {
  for (const int64_t n : {1, 31, 33, 1000}) {
    const AdamWStep step{1e-2f, 0.9f, 0.99f, 1e-8f, 0.1f, 0.19f, 0.02f};
    Values g = Values::random(Type::kFloat, n, 51), p = Values::random(Type::kFloat, n, 52),
           m = Values::random(Type::kFloat, n, 53), v = Values::random(Type::kFloat, n, 54, 6);
    const Doubles p0 = p.doubles(), m0 = m.doubles(), v0 = v.doubles();
    ASSERT_EQ(
        host_table().adamw(step, {g.floats(), p.floats(), m.floats(), v.floats(), n}, nullptr),
        nullptr);
    Doubles want;
    for (size_t i = 0; i < g.count(); ++i) {
      const double mi = 0.9 * m0[i] + 0.1 * g[i], vi = 0.99 * v0[i] + 0.01 * g[i] * g[i];
      want.push_back(p0[i] - 1e-2 * (mi / 0.19 / (std::sqrt(vi / 0.02) + 1e-8) + 0.1 * p0[i]));
    }
    EXPECT_LT(error(p, want), kFloatBound);
  }
}

TEST(DeviceKernels, NanStaysNanInBfloat16) {
  std::vector<float> x{std::bit_cast<float>(0x7FFFFFFFu), 1};
  std::vector<bf16> y(2), ones(2, bf16{0x3F80});
  std::vector<float> partial(2), ggate(2), gate{1, 1};
  host_table().gate_backward({x.data(),
                              ones.data(),
                              {gate.data(), 2, Type::kFloat},
                              y.data(),
                              ggate.data(),
                              partial.data(),
                              1,
                              1,
                              2,
                              Type::kFloat,
                              Type::kBfloat16},
                             nullptr);
  EXPECT_EQ(y[0].bits & 0x7F80, 0x7F80);
  EXPECT_NE(y[0].bits & 0x007F, 0);
  EXPECT_EQ(y[1].bits, 0x3F80);
}

}  // namespace
}  // namespace vggflow::kernels
