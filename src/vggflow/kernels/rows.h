#pragma once
// The arithmetic of the device kernels, written once for GPU and host. A row is shared out to a
// "team" in chunks of 8 channels: lane l takes chunks l, l + lanes, ...; `sum` adds the lanes'
// partial sums in a fixed order. On the GPU a team is a block or a part of a warp, on the host one
// lane. All arithmetic is fp32; a chunk is loaded 16 bytes at a time where it is whole and aligned,
// and element by element at odd widths.

#include <cmath>
#include <cstdint>

#include "vggflow/kernels/device_table.h"

#if defined(__CUDACC__)
#define VGGFLOW_HD __host__ __device__ inline
#define VGGFLOW_UNROLL _Pragma("unroll")
#else
#define VGGFLOW_HD inline
#define VGGFLOW_UNROLL  // the host's compiler knows
#endif

namespace vggflow::kernels::rows {

constexpr int kChunk = 8;

struct OneLane {
  VGGFLOW_HD int lane() const { return 0; }
  VGGFLOW_HD int lanes() const { return 1; }
  template <int N>
  VGGFLOW_HD void sum(float (&)[N]) const {}
};

union FloatBits {
  float f;
  uint32_t u;
};
VGGFLOW_HD float to_float(float x) { return x; }
VGGFLOW_HD float to_float(bf16 x) {
  FloatBits v;
  v.u = static_cast<uint32_t>(x.bits) << 16;
  return v.f;
}
VGGFLOW_HD void from_float(float& p, float x) { p = x; }
// Round to nearest even; NaN stays NaN, whose rounding could otherwise carry into infinity.
VGGFLOW_HD void from_float(bf16& p, float x) {
  FloatBits v;
  v.f = x;
  p.bits =
      x != x ? uint16_t{0x7FC0} : static_cast<uint16_t>((v.u + 0x7FFFu + ((v.u >> 16) & 1u)) >> 16);
}
template <class T>
VGGFLOW_HD float rounded(float x) {
  T t;
  from_float(t, x);
  return to_float(t);
}

/// 16 bytes, moved by one instruction.
template <class T>
struct alignas(16) Pack {
  static constexpr int kCount = 16 / static_cast<int>(sizeof(T));
  T v[kCount];
};
VGGFLOW_HD bool aligned(const void* p) { return (reinterpret_cast<uintptr_t>(p) & 15u) == 0; }
VGGFLOW_HD int chunk_size(int64_t left) { return left < kChunk ? static_cast<int>(left) : kChunk; }

/// v = the n channels at p, then zeros.
template <class T>
VGGFLOW_HD void load(const T* p, int n, float (&v)[kChunk]) {
  if (n == kChunk && aligned(p)) {
    VGGFLOW_UNROLL
    for (int q = 0; q < kChunk / Pack<T>::kCount; ++q) {
      const Pack<T> pack = reinterpret_cast<const Pack<T>*>(p)[q];
      VGGFLOW_UNROLL
      for (int j = 0; j < Pack<T>::kCount; ++j) v[q * Pack<T>::kCount + j] = to_float(pack.v[j]);
    }
  } else {
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) v[j] = j < n ? to_float(p[j]) : 0.0f;
  }
}
template <class T>
VGGFLOW_HD void store(T* p, int n, const float (&v)[kChunk]) {
  if (n == kChunk && aligned(p)) {
    VGGFLOW_UNROLL
    for (int q = 0; q < kChunk / Pack<T>::kCount; ++q) {
      Pack<T> pack;
      VGGFLOW_UNROLL
      for (int j = 0; j < Pack<T>::kCount; ++j) from_float(pack.v[j], v[q * Pack<T>::kCount + j]);
      reinterpret_cast<Pack<T>*>(p)[q] = pack;
    }
  } else {
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) {
      if (j < n) from_float(p[j], v[j]);
    }
  }
}
/// The channels [i, i + n) of either type; zeros where nothing is there.
VGGFLOW_HD void load(const void* data, Type type, int64_t i, int n, float (&v)[kChunk]) {
  if (!data) n = 0;
  if (type == Type::kFloat) {
    load(static_cast<const float*>(data) + i, n, v);
  } else {
    load(static_cast<const bf16*>(data) + i, n, v);
  }
}
VGGFLOW_HD void load(const Modulation& m, int64_t b, int64_t i, int n, float (&v)[kChunk]) {
  load(m.data, m.type, b * m.stride + i, n, v);
}

VGGFLOW_HD float sum_of(const float (&v)[kChunk]) {
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

/// The chunks of a row that are this lane's: f(i, n) for channels [i, i + n).
template <class Team, class F>
VGGFLOW_HD void for_chunks(const Team& team, int64_t width, F f) {
  for (int64_t i = int64_t{kChunk} * team.lane(); i < width; i += int64_t{kChunk} * team.lanes()) {
    f(i, chunk_size(width - i));
  }
}

/// Mean and 1/sqrt(variance + eps) of a row, and of its tangent mean(dx) and mean(xh dx).
struct Statistics {
  float mean, rstd, tangent_mean, tangent_dot;
};

/// From the sums of x and dx over the row. Two passes: the variance of x - mean loses nothing.
template <bool kDual, class X, class Team>
VGGFLOW_HD Statistics statistics(const Team& team, const X* x, const X* dx, int64_t width,
                                 float eps, float (&sums)[2]) {
  const float count = static_cast<float>(width);
  team.sum(sums);
  Statistics s{sums[0] / count, 0, sums[1] / count, 0};
  float squares[2] = {0, 0};
  for_chunks(team, width, [&](int64_t i, int n) {
    float v[kChunk], dv[kChunk], sq[kChunk], dot[kChunk];
    load(x + i, n, v);
    if (kDual) load(dx + i, n, dv);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) {
      const float c = j < n ? v[j] - s.mean : 0.0f;
      sq[j] = c * c;
      dot[j] = kDual ? c * dv[j] : 0.0f;
    }
    squares[0] += sum_of(sq);
    if (kDual) squares[1] += sum_of(dot);
  });
  team.sum(squares);
  s.rstd = 1.0f / sqrtf(squares[0] / count + eps);
  s.tangent_dot = squares[1] / count * s.rstd;
  return s;
}

/// y = xh (1 + scale) + shift, xh = (x - mean) rstd; of a Dual also
/// dxh = rstd (dx - mean(dx) - xh mean(xh dx)),  dy = dxh (1 + scale) + xh dscale + dshift.
template <bool kDual, class X, class T, class Team>
VGGFLOW_HD void modulate_row(const Team& team, const X* x, const X* dx, int64_t width, int64_t b,
                             const Statistics& s, const Modulation& shift, const Modulation& scale,
                             const Modulation& dshift, const Modulation& dscale, T* y, T* dy) {
  for_chunks(team, width, [&](int64_t i, int n) {
    float v[kChunk], sh[kChunk], sc[kChunk], out[kChunk];
    load(x + i, n, v);
    load(shift, b, i, n, sh);
    load(scale, b, i, n, sc);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) {
      v[j] = (v[j] - s.mean) * s.rstd;
      out[j] = v[j] * (1.0f + sc[j]) + sh[j];
    }
    store(y + i, n, out);
    if (!kDual) return;
    float dv[kChunk], dsh[kChunk], dsc[kChunk];
    load(dx + i, n, dv);
    load(dshift, b, i, n, dsh);
    load(dscale, b, i, n, dsc);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) {
      const float dxh = s.rstd * (dv[j] - s.tangent_mean - v[j] * s.tangent_dot);
      out[j] = dxh * (1.0f + sc[j]) + v[j] * dsc[j] + dsh[j];
    }
    store(dy + i, n, out);
  });
}

template <bool kDual, class X, class T, class Team>
VGGFLOW_HD void ln_modulate(const Team& team, const LnModulate& a, int64_t r) {
  const X* x = static_cast<const X*>(a.x) + r * a.width;
  const X* dx = kDual ? static_cast<const X*>(a.dx) + r * a.width : nullptr;
  float sums[2] = {0, 0};
  for_chunks(team, a.width, [&](int64_t i, int n) {
    float v[kChunk];
    load(x + i, n, v);
    sums[0] += sum_of(v);
    if (!kDual) return;
    load(dx + i, n, v);
    sums[1] += sum_of(v);
  });
  const Statistics s = statistics<kDual>(team, x, dx, a.width, a.eps, sums);
  modulate_row<kDual>(team, x, dx, a.width, r / a.rows, s, a.shift, a.scale, a.dshift, a.dscale,
                      static_cast<T*>(a.y) + r * a.width,
                      kDual ? static_cast<T*>(a.dy) + r * a.width : nullptr);
  if (team.lane() == 0) {
    a.mean[r] = s.mean;
    a.rstd[r] = s.rstd;
  }
}

/// gx = add + rstd (a - mean(a) - xh mean(a xh)), a = gy (1 + scale).
template <class X, class T, class Team>
VGGFLOW_HD void ln_modulate_backward(const Team& team, const LnModulateBackward& a, int64_t r) {
  const int64_t b = r / a.rows;
  const T* gy = static_cast<const T*>(a.gy) + r * a.width;
  const X* x = static_cast<const X*>(a.x) + r * a.width;
  const X* add = a.add ? static_cast<const X*>(a.add) + r * a.width : nullptr;
  const float mean = a.mean[r], rstd = a.rstd[r], count = static_cast<float>(a.width);
  float sums[2] = {0, 0};
  for_chunks(team, a.width, [&](int64_t i, int n) {
    float g[kChunk], v[kChunk], sc[kChunk];
    load(gy + i, n, g);
    load(x + i, n, v);
    load(a.scale, b, i, n, sc);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) {
      g[j] *= 1.0f + sc[j];
      v[j] = g[j] * (v[j] - mean) * rstd;
    }
    sums[0] += sum_of(g);
    sums[1] += sum_of(v);
  });
  team.sum(sums);
  for_chunks(team, a.width, [&](int64_t i, int n) {
    float g[kChunk], v[kChunk], sc[kChunk], more[kChunk];
    load(gy + i, n, g);
    load(x + i, n, v);
    load(a.scale, b, i, n, sc);
    load(add ? add + i : x, add ? n : 0, more);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) {
      const float xh = (v[j] - mean) * rstd;
      v[j] = more[j] + rstd * (g[j] * (1.0f + sc[j]) - sums[0] / count - xh * (sums[1] / count));
    }
    store(static_cast<X*>(a.gx) + r * a.width + i, n, v);
  });
}

/// Columns [i, i + n) of rows [begin, end): shift[] += gy, scale[] += gy xh, in the order of rows.
template <class X, class T>
VGGFLOW_HD void ln_modulate_columns(const LnModulateBackward& a, int64_t i, int n, int64_t begin,
                                    int64_t end, float (&shift)[kChunk], float (&scale)[kChunk]) {
  for (int64_t r = begin; r < end; ++r) {
    float g[kChunk], v[kChunk];
    load(static_cast<const T*>(a.gy) + r * a.width + i, n, g);
    load(static_cast<const X*>(a.x) + r * a.width + i, n, v);
    const float mean = a.mean[r], rstd = a.rstd[r];
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) {
      shift[j] += g[j];
      scale[j] += g[j] * ((v[j] - mean) * rstd);
    }
  }
}

/// out = x + gate y, dout = dx + dgate y + gate dy; kNext: next = modulate(LN(out)) likewise.
template <bool kDual, bool kNext, class X, class T, class Team>
VGGFLOW_HD void gate(const Team& team, const Gate& a, int64_t r) {
  const int64_t b = r / a.rows, at = r * a.width;
  X* out = static_cast<X*>(a.out) + at;
  X* dout = kDual ? static_cast<X*>(a.dout) + at : nullptr;
  float sums[2] = {0, 0};
  for_chunks(team, a.width, [&](int64_t i, int n) {
    float x[kChunk], y[kChunk], g[kChunk];
    load(static_cast<const X*>(a.x) + at + i, n, x);
    load(static_cast<const T*>(a.y) + at + i, n, y);
    load(a.gate, b, i, n, g);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) x[j] = rounded<X>(x[j] + g[j] * y[j]);
    store(out + i, n, x);
    if (kNext) sums[0] += sum_of(x);
    if (!kDual) return;
    float dy[kChunk], dg[kChunk];
    load(static_cast<const X*>(a.dx) + at + i, n, x);
    load(static_cast<const T*>(a.dy) + at + i, n, dy);
    load(a.dgate, b, i, n, dg);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) x[j] = rounded<X>(x[j] + dg[j] * y[j] + g[j] * dy[j]);
    store(dout + i, n, x);
    if (kNext) sums[1] += sum_of(x);
  });
  if (!kNext) return;
  // Each lane reads back only what it wrote itself.
  const Statistics s =
      statistics<kDual, X>(team, out, static_cast<const X*>(dout), a.width, a.eps, sums);
  modulate_row<kDual, X>(team, out, static_cast<const X*>(dout), a.width, b, s, a.shift, a.scale,
                         a.dshift, a.dscale, static_cast<T*>(a.next) + at,
                         kDual ? static_cast<T*>(a.dnext) + at : nullptr);
  if (team.lane() == 0) {
    a.mean[r] = s.mean;
    a.rstd[r] = s.rstd;
  }
}

template <class X, class T, class Team>
VGGFLOW_HD void gate_backward(const Team& team, const GateBackward& a, int64_t r) {
  for_chunks(team, a.width, [&](int64_t i, int n) {
    float g[kChunk], go[kChunk];
    load(a.gate, r / a.rows, i, n, g);
    load(static_cast<const X*>(a.gout) + r * a.width + i, n, go);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) go[j] *= g[j];
    store(static_cast<T*>(a.gy) + r * a.width + i, n, go);
  });
}

template <class X, class T>
VGGFLOW_HD void gate_columns(const GateBackward& a, int64_t i, int n, int64_t begin, int64_t end,
                             float (&sum)[kChunk]) {
  for (int64_t r = begin; r < end; ++r) {
    float g[kChunk], y[kChunk];
    load(static_cast<const X*>(a.gout) + r * a.width + i, n, g);
    load(static_cast<const T*>(a.y) + r * a.width + i, n, y);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) sum[j] += g[j] * y[j];
  }
}

/// gelu_tanh(x) = x s(z), s the logistic function and z = 2 sqrt(2/pi) (x + 0.044715 x^3);
/// its derivative s + x s (1 - s) z'.
struct GeluValue {
  float value, slope;
};
VGGFLOW_HD GeluValue gelu_at(float x) {
  constexpr float a = 1.5957691216057308f, b = 0.044715f;
  const float s = 1.0f / (1.0f + expf(-a * (x + b * x * x * x)));
  return {x * s, s + x * s * (1.0f - s) * (a * (1.0f + 3.0f * b * x * x))};
}

/// The chunk of elements that starts at i.
template <bool kDual, class T>
VGGFLOW_HD void gelu(const Gelu& a, int64_t i) {
  const int n = chunk_size(a.count - i);
  float x[kChunk], dx[kChunk];
  load(static_cast<const T*>(a.x) + i, n, x);
  if (kDual) load(static_cast<const T*>(a.dx) + i, n, dx);
  VGGFLOW_UNROLL
  for (int j = 0; j < kChunk; ++j) {
    const GeluValue y = gelu_at(x[j]);
    x[j] = y.value;
    if (kDual) dx[j] *= y.slope;
  }
  store(static_cast<T*>(a.y) + i, n, x);
  if (kDual) store(static_cast<T*>(a.dy) + i, n, dx);
}

template <class T>
VGGFLOW_HD void gelu_backward(const GeluBackward& a, int64_t i) {
  const int n = chunk_size(a.count - i);
  float x[kChunk], g[kChunk];
  load(static_cast<const T*>(a.x) + i, n, x);
  load(static_cast<const T*>(a.gy) + i, n, g);
  VGGFLOW_UNROLL
  for (int j = 0; j < kChunk; ++j) g[j] *= gelu_at(x[j]).slope;
  store(static_cast<T*>(a.gx) + i, n, g);
}

/// One head of one part (0 queries, 1 keys, 2 values) of one token: where it lies in its stream and
/// in the joint buffer.
struct Head {
  const QkvStream* stream;
  int part;
  int64_t in, out;  ///< first element
};
template <class A>
VGGFLOW_HD Head head_of(const A& a, int64_t item) {
  const int64_t width = a.heads * a.head_dim, tokens = a.first.rows + a.second.rows;
  const int64_t unit = item % (3 * a.heads), token = item / (3 * a.heads);
  const int64_t b = token / tokens, t = token % tokens;
  const bool first = t < a.first.rows;
  const QkvStream& s = first ? a.first : a.second;
  const int64_t row = b * s.rows + (first ? t : t - a.first.rows);
  return {&s, static_cast<int>(unit / a.heads), row * 3 * width + unit * a.head_dim,
          token * 3 * width + unit * a.head_dim};
}
VGGFLOW_HD Array weight_of(const Head& h) {
  return h.part == 0 ? h.stream->q_weight : h.stream->k_weight;
}

/// y = xh w, xh = x r, r = 1/sqrt(mean(x^2) + eps); dxh = r (dx - xh mean(xh dx)). Every lane of
/// the team runs through here, because sums need them all.
template <bool kDual, class T, class Team>
VGGFLOW_HD void qk_norm(const Team& team, const QkNorm& a, int64_t item) {
  const Head h = head_of(a, item);
  const T* x = static_cast<const T*>(h.stream->qkv) + h.in;
  const T* dx = kDual ? static_cast<const T*>(h.stream->dqkv) + h.in : nullptr;
  float sums[2] = {0, 0};
  for_chunks(team, a.head_dim, [&](int64_t i, int n) {
    float v[kChunk], dv[kChunk], sq[kChunk];
    load(x + i, n, v);
    if (kDual) load(dx + i, n, dv);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) {
      sq[j] = v[j] * v[j];
      if (kDual) dv[j] *= v[j];
    }
    sums[0] += sum_of(sq);
    if (kDual) sums[1] += sum_of(dv);
  });
  team.sum(sums);
  const float count = static_cast<float>(a.head_dim);
  const bool copied = h.part == 2;
  const float r = copied ? 1.0f : 1.0f / sqrtf(sums[0] / count + a.eps);
  const float dot = copied ? 0.0f : sums[1] / count * r;  // mean(xh dx)
  const Array weight = weight_of(h);
  for_chunks(team, a.head_dim, [&](int64_t i, int n) {
    float v[kChunk], dv[kChunk], w[kChunk];
    load(x + i, n, v);
    load(weight.data, weight.type, i, n, w);
    if (kDual) load(dx + i, n, dv);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) {
      if (copied) w[j] = 1.0f;
      v[j] *= r;
      if (kDual) dv[j] = r * (dv[j] - v[j] * dot) * w[j];
      v[j] *= w[j];
    }
    store(static_cast<T*>(a.out) + h.out + i, n, v);
    if (kDual) store(static_cast<T*>(a.dout) + h.out + i, n, dv);
  });
}

/// gx = r (a - xh mean(a xh)), a = g w.
template <class T, class Team>
VGGFLOW_HD void qk_norm_backward(const Team& team, const QkNormBackward& a, int64_t item) {
  const Head h = head_of(a, item);
  const T* x = static_cast<const T*>(h.stream->qkv) + h.in;
  const T* gout = static_cast<const T*>(a.gout) + h.out;
  const Array weight = weight_of(h);
  float sums[2] = {0, 0};
  for_chunks(team, a.head_dim, [&](int64_t i, int n) {
    float v[kChunk], g[kChunk], w[kChunk];
    load(x + i, n, v);
    load(gout + i, n, g);
    load(weight.data, weight.type, i, n, w);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) {
      g[j] *= v[j] * w[j];
      v[j] *= v[j];
    }
    sums[0] += sum_of(v);
    sums[1] += sum_of(g);
  });
  team.sum(sums);
  const float count = static_cast<float>(a.head_dim);
  const bool copied = h.part == 2;
  const float r = copied ? 1.0f : 1.0f / sqrtf(sums[0] / count + a.eps);
  const float dot = copied ? 0.0f : sums[1] / count * r;  // mean(a xh)
  for_chunks(team, a.head_dim, [&](int64_t i, int n) {
    float v[kChunk], g[kChunk], w[kChunk];
    load(x + i, n, v);
    load(gout + i, n, g);
    load(weight.data, weight.type, i, n, w);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) {
      if (copied) w[j] = 1.0f;
      g[j] = r * (g[j] * w[j] - v[j] * r * dot);
    }
    store(static_cast<T*>(h.stream->gqkv) + h.in + i, n, g);
  });
}

constexpr int kRanks = 8;  // of B held in registers at once

/// B[i + j][k0 + k] for n channels; zeros beyond them and beyond the rank.
VGGFLOW_HD void load_up(const float* b, int64_t rank, int64_t i, int n, int64_t k0,
                        float (&up)[kChunk][kRanks]) {
  VGGFLOW_UNROLL
  for (int j = 0; j < kChunk; ++j) {
    if (j < n) {
      load(b + (i + j) * rank + k0, chunk_size(rank - k0), up[j]);
    } else {
      VGGFLOW_UNROLL
      for (int k = 0; k < kRanks; ++k) up[j][k] = 0.0f;
    }
  }
}

/// Channels [i, i + n) of rows [begin, end). Up to rank 8, B stays in registers over the rows.
template <class T>
VGGFLOW_HD void lora_up(const LoraUp& a, const void* y, const void* u, void* out, int64_t i, int n,
                        int64_t begin, int64_t end) {
  float up[kChunk][kRanks];
  load_up(a.b, a.rank, i, n, 0, up);
  for (int64_t r = begin; r < end; ++r) {
    float sum[kChunk] = {0, 0, 0, 0, 0, 0, 0, 0}, v[kChunk], down[kRanks];
    for (int64_t k0 = 0; k0 < a.rank; k0 += kRanks) {
      if (a.rank > kRanks) load_up(a.b, a.rank, i, n, k0, up);
      load(static_cast<const T*>(u) + r * a.rank + k0, chunk_size(a.rank - k0), down);
      VGGFLOW_UNROLL
      for (int j = 0; j < kChunk; ++j) {
        VGGFLOW_UNROLL
        for (int k = 0; k < kRanks; ++k) sum[j] += down[k] * up[j][k];
      }
    }
    load(static_cast<const T*>(y) + r * a.width + i, n, v);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) v[j] += a.scale * sum[j];
    store(static_cast<T*>(out) + r * a.width + i, n, v);
  }
}

/// gu[r][k0 ..] = scale sum_i gout[r][i] B[i][k0 ..].
template <class T, class Team>
VGGFLOW_HD void lora_down(const Team& team, const LoraUpBackward& a, int64_t r) {
  for (int64_t k0 = 0; k0 < a.rank; k0 += kRanks) {
    float sum[kRanks] = {0, 0, 0, 0, 0, 0, 0, 0};
    for_chunks(team, a.width, [&](int64_t i, int n) {
      float g[kChunk], up[kChunk][kRanks];
      load(static_cast<const T*>(a.gout) + r * a.width + i, n, g);
      load_up(a.b, a.rank, i, n, k0, up);
      VGGFLOW_UNROLL
      for (int k = 0; k < kRanks; ++k) {
        float v[kChunk];
        VGGFLOW_UNROLL
        for (int j = 0; j < kChunk; ++j) v[j] = g[j] * up[j][k];
        sum[k] += sum_of(v);
      }
    });
    team.sum(sum);
    if (team.lane() != 0) continue;
    VGGFLOW_UNROLL
    for (float& each : sum) each *= a.scale;
    store(static_cast<T*>(a.gu) + r * a.rank + k0, chunk_size(a.rank - k0), sum);
  }
}

/// sum[j][k] += gout[r][i + j] u[r][k0 + k] over rows [begin, end).
template <class T>
VGGFLOW_HD void lora_columns(const LoraUpBackward& a, int64_t i, int n, int64_t k0, int64_t begin,
                             int64_t end, float (&sum)[kChunk][kRanks]) {
  for (int64_t r = begin; r < end; ++r) {
    float g[kChunk], down[kRanks];
    load(static_cast<const T*>(a.gout) + r * a.width + i, n, g);
    load(static_cast<const T*>(a.u) + r * a.rank + k0, chunk_size(a.rank - k0), down);
    VGGFLOW_UNROLL
    for (int j = 0; j < kChunk; ++j) {
      VGGFLOW_UNROLL
      for (int k = 0; k < kRanks; ++k) sum[j][k] += g[j] * down[k];
    }
  }
}

VGGFLOW_HD void adamw(const AdamWStep& s, const AdamWArrays& a, int64_t i) {
  const float g = a.g[i], m = s.beta1 * a.m[i] + (1.0f - s.beta1) * g,
              v = s.beta2 * a.v[i] + (1.0f - s.beta2) * g * g;
  a.m[i] = m;
  a.v[i] = v;
  a.p[i] -=
      s.lr * (m / s.correction1 / (sqrtf(v / s.correction2) + s.eps) + s.weight_decay * a.p[i]);
}

// ---- ordered sums: partial sums of kRowsPerPartial rows each, then their sum in order

/// The rows of partial sum `part` of sample b, and column sums into a.partial.
struct RowRange {
  int64_t begin, end;
};
VGGFLOW_HD RowRange rows_of_partial(int64_t rows, int64_t b, int64_t part) {
  const int64_t begin = part * kRowsPerPartial, end = begin + kRowsPerPartial;
  return {b * rows + begin, b * rows + (end < rows ? end : rows)};
}

template <class X, class T>
VGGFLOW_HD void ln_modulate_partial(const LnModulateBackward& a, int64_t b, int64_t part,
                                    int64_t i) {
  float shift[kChunk] = {0, 0, 0, 0, 0, 0, 0, 0}, scale[kChunk] = {0, 0, 0, 0, 0, 0, 0, 0};
  const int n = chunk_size(a.width - i);
  const RowRange range = rows_of_partial(a.rows, b, part);
  ln_modulate_columns<X, T>(a, i, n, range.begin, range.end, shift, scale);
  float* p = a.partial + (b * partials(a.rows) + part) * 2 * a.width;
  store(p + i, n, shift);
  store(p + a.width + i, n, scale);
}

template <class X, class T>
VGGFLOW_HD void gate_partial(const GateBackward& a, int64_t b, int64_t part, int64_t i) {
  float sum[kChunk] = {0, 0, 0, 0, 0, 0, 0, 0};
  const int n = chunk_size(a.width - i);
  const RowRange range = rows_of_partial(a.rows, b, part);
  gate_columns<X, T>(a, i, n, range.begin, range.end, sum);
  store(a.partial + (b * partials(a.rows) + part) * a.width + i, n, sum);
}

template <class T>
VGGFLOW_HD void lora_partial(const LoraUpBackward& a, int64_t part, int64_t i, int64_t k0) {
  float sum[kChunk][kRanks] = {};
  const int n = chunk_size(a.width - i);
  const RowRange range = rows_of_partial(a.rows, 0, part);
  lora_columns<T>(a, i, n, k0, range.begin, range.end, sum);
  float* p = a.partial + part * a.width * a.rank;
  VGGFLOW_UNROLL
  for (int j = 0; j < kChunk; ++j) {
    if (j < n) store(p + (i + j) * a.rank + k0, chunk_size(a.rank - k0), sum[j]);
  }
}

/// Element i of `count` summed over `parts` blocks of `stride` elements each, in order.
VGGFLOW_HD float sum_partials(const float* partial, int64_t parts, int64_t stride, int64_t i) {
  float sum = 0;
  for (int64_t part = 0; part < parts; ++part) sum += partial[part * stride + i];
  return sum;
}

}  // namespace vggflow::kernels::rows
