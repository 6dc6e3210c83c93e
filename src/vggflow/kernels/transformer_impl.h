#pragma once
// The kernels' source, included once per instruction set with VGGFLOW_TABLE naming the table to
// define. Loops are written so that the compiler vectorises them (-O3 -ffast-math in these files
// alone); only the small matrix products use vector types, because register blocking is what makes
// them fast: a block of 4 rows by up to 6 vectors stays in registers over all of k.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "vggflow/kernels/transformer.h"

namespace vggflow::kernels {
namespace {

inline float load(float x) { return x; }
inline float load(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
inline void store(float& p, float x) { p = x; }
inline void store(bf16& p, float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  p.bits = static_cast<uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
}

// exp by 2^n * 2^f, |f| <= 1/2, with a degree-6 polynomial: relative error below 3e-7 and, unlike
// expf, a vector loop.
inline float exp_fast(float x) {
  float t =
      x * 1.44269504f;  // comparisons and not fmin, fmax: those are calls, and would drop a NaN
  t = t < -126.0f ? -126.0f : t;
  t = t > 126.0f ? 126.0f : t;
  const float n = __builtin_rintf(t), f = (t - n) * 0.69314718f;
  const float p =
      1.0f +
      f * (1.0f + f * (0.5f + f * (0.16666667f +
                                   f * (0.041666667f + f * (0.0083333333f + f * 0.0013888889f)))));
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

template <class T>
void ln_modulate(const float* x, Rows shift, Rows scale, int64_t n, int64_t d, float eps, T* y,
                 float* mean, float* rstd, int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const float* sh = shift.data + b * shift.stride;
    const float* sc = scale.data + b * scale.stride;
    for (int64_t r = b * n; r < (b + 1) * n; ++r) {
      const float* xr = x + r * d;
      float sum = 0, sq = 0;
      for (int64_t i = 0; i < d; ++i) sum += xr[i];
      const float mu = sum / static_cast<float>(d);
      for (int64_t i = 0; i < d; ++i) sq += (xr[i] - mu) * (xr[i] - mu);
      const float rs = 1.0f / std::sqrt(sq / static_cast<float>(d) + eps);
      T* yr = y + r * d;
      for (int64_t i = 0; i < d; ++i) store(yr[i], (xr[i] - mu) * rs * (1.0f + sc[i]) + sh[i]);
      mean[r] = mu;
      rstd[r] = rs;
    }
  }
}

// With xh = (x - mu) rstd and a = gy (1 + scale):  gx = rstd (a - mean(a) - xh mean(a xh)).
template <class T>
void ln_modulate_backward(const T* gy, const float* x, Rows scale, const float* mean,
                          const float* rstd, int64_t n, int64_t d, float* gx, float* gshift,
                          float* gscale, int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const float* sc = scale.data + b * scale.stride;
    float* gsh = gshift + b * d;
    float* gsc = gscale + b * d;
    std::memset(gsh, 0, sizeof(float) * static_cast<size_t>(d));
    std::memset(gsc, 0, sizeof(float) * static_cast<size_t>(d));
    for (int64_t r = b * n; r < (b + 1) * n; ++r) {
      const T* g = gy + r * d;
      const float* xr = x + r * d;
      const float mu = mean[r], rs = rstd[r];
      float sum = 0, dot = 0;
      for (int64_t i = 0; i < d; ++i) {
        const float gi = load(g[i]), xh = (xr[i] - mu) * rs, a = gi * (1.0f + sc[i]);
        sum += a;
        dot += a * xh;
        gsh[i] += gi;
        gsc[i] += gi * xh;
      }
      sum /= static_cast<float>(d);
      dot /= static_cast<float>(d);
      float* o = gx + r * d;
      for (int64_t i = 0; i < d; ++i) {
        const float xh = (xr[i] - mu) * rs;
        o[i] = rs * (load(g[i]) * (1.0f + sc[i]) - sum - xh * dot);
      }
    }
  }
}

// Of x = mu + c and dx = dmu + e with c, e of mean zero, and r = 1 / sqrt(mean(c^2) + eps), rt the
// same of c + e:  mean((c + e)^2) - mean(c^2) = mean(e (2 c + e)) =: m  and  rt - r = -m r^2 rt^2 /
// (r + rt), so nothing cancels in  xh = c r,  dxh = e rt + c (rt - r).
template <class T>
void ln_modulate_pair(const float* x, const float* dx, Rows shift, Rows scale, Rows dshift,
                      Rows dscale, int64_t n, int64_t d, float eps, T* y, T* dy, int64_t begin,
                      int64_t end) {
  const auto count = static_cast<float>(d);
  for (int64_t b = begin; b < end; ++b) {
    const float *sh = shift.data + b * shift.stride, *sc = scale.data + b * scale.stride,
                *dsh = dshift.data + b * dshift.stride, *dsc = dscale.data + b * dscale.stride;
    for (int64_t row = b * n; row < (b + 1) * n; ++row) {
      const float *xr = x + row * d, *dr = dx + row * d;
      float sum = 0, dsum = 0, sq = 0, more = 0;
      for (int64_t i = 0; i < d; ++i) {
        sum += xr[i];
        dsum += dr[i];
      }
      const float mu = sum / count, dmu = dsum / count;
      for (int64_t i = 0; i < d; ++i) {
        const float c = xr[i] - mu, e = dr[i] - dmu;
        sq += c * c;
        more += e * (2.0f * c + e);
      }
      const float r = 1.0f / std::sqrt(sq / count + eps),
                  rt = 1.0f / std::sqrt((sq + more) / count + eps),
                  change = -(more / count) * (r * rt) * (r * rt) / (r + rt);
      T *yr = y + row * d, *dyr = dy + row * d;
      for (int64_t i = 0; i < d; ++i) {
        const float c = xr[i] - mu, e = dr[i] - dmu, xh = c * r;
        store(yr[i], xh * (1.0f + sc[i]) + sh[i]);
        store(dyr[i], (e * rt + c * change) * (1.0f + sc[i] + dsc[i]) + xh * dsc[i] + dsh[i]);
      }
    }
  }
}

template <class T>
void gated_add(const float* x, Rows gate, const T* y, int64_t n, int64_t d, float* out,
               int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const float* g = gate.data + b * gate.stride;
    for (int64_t r = b * n; r < (b + 1) * n; ++r) {
      for (int64_t i = 0; i < d; ++i) out[r * d + i] = x[r * d + i] + g[i] * load(y[r * d + i]);
    }
  }
}

template <class T>
void gated_add_backward(const float* gout, Rows gate, const T* y, int64_t n, int64_t d, T* gy,
                        float* ggate, int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const float* g = gate.data + b * gate.stride;
    float* gg = ggate + b * d;
    std::memset(gg, 0, sizeof(float) * static_cast<size_t>(d));
    for (int64_t r = b * n; r < (b + 1) * n; ++r) {
      const float* go = gout + r * d;
      for (int64_t i = 0; i < d; ++i) {
        store(gy[r * d + i], g[i] * go[i]);
        gg[i] += go[i] * load(y[r * d + i]);
      }
    }
  }
}

// gelu_tanh(x) = x s(z) with s the logistic function and z = 2 sqrt(2/pi) (x + 0.044715 x^3), since
// (1 + tanh u)/2 = s(2u).
constexpr float kGeluA = 1.5957691216f, kGeluB = 0.044715f;

template <class T>
void gelu(const T* x, T* y, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const float v = load(x[i]), z = kGeluA * (v + kGeluB * v * v * v);
    store(y[i], v / (1.0f + exp_fast(-z)));
  }
}

template <class T>
void gelu_backward(const T* x, const T* gy, T* gx, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const float v = load(x[i]), z = kGeluA * (v + kGeluB * v * v * v);
    const float s = 1.0f / (1.0f + exp_fast(-z)), dz = kGeluA * (1.0f + 3.0f * kGeluB * v * v);
    store(gx[i], load(gy[i]) * (s + v * s * (1.0f - s) * dz));
  }
}

// tanh(a / 2), to 1e-6 of itself.
inline float tanh_half(float a) {
  const float h = 0.5f * a, q = h * h;
  const float near = h * (1.0f - q * (0.33333333f - q * (0.13333333f - q * 0.053968254f)));
  const float far = 1.0f - 2.0f / (1.0f + exp_fast(a));
  return q < 0.015625f ? near : far;
}

// The logistic function s has s(u) - s(v) = (s(u) (1 - s(v)) + s(v) (1 - s(u))) tanh((u - v) / 2),
// and z's own difference has the factor dx.
template <class T>
void gelu_pair(const T* x, const T* dx, T* y, T* dy, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const float v = load(x[i]), e = load(dx[i]), t = v + e;
    const float z = kGeluA * (v + kGeluB * v * v * v),
                dz = kGeluA * e * (1.0f + kGeluB * (t * t + t * v + v * v));
    const float s = 1.0f / (1.0f + exp_fast(-z)), st = 1.0f / (1.0f + exp_fast(-(z + dz)));
    store(y[i], v * s);
    store(dy[i], e * st + v * (st * (1.0f - s) + s * (1.0f - st)) * tanh_half(dz));
  }
}

// ---- small matrix products in scratch memory
// -------------------------------------------------------------------------

typedef float Vec __attribute__((vector_size(64), aligned(64)));
constexpr int64_t kLanes = 16;

template <int NV>
inline void block4(int64_t k, const float* a, int64_t a_row, int64_t a_k, const float* b,
                   int64_t ldb, float* c, int64_t ldc, bool add) {
  Vec acc[4][NV] = {};
  for (int64_t i = 0; i < k; ++i) {
    const Vec* bv = reinterpret_cast<const Vec*>(b + i * ldb);
    for (int r = 0; r < 4; ++r) {
      const float av = a[r * a_row + i * a_k];
      for (int v = 0; v < NV; ++v) acc[r][v] += av * bv[v];
    }
  }
  for (int r = 0; r < 4; ++r) {
    for (int v = 0; v < NV; ++v) {
      Vec& to = *reinterpret_cast<Vec*>(c + r * ldc + v * kLanes);
      to = add ? to + acc[r][v] : acc[r][v];
    }
  }
}

// C (m, n) = A (m, k) B (k, n), m a multiple of 4, n of 16; A is read as a[r * a_row + i * a_k], so
// it may be transposed. `add`: the product is added to C.
void product(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_row, int64_t a_k,
             const float* b, int64_t ldb, float* c, int64_t ldc, bool add = false) {
  for (int64_t j = 0; j < n;) {
    const int64_t left = (n - j) / kLanes;
    const int64_t nv = left == 7 ? 4 : left == 8 ? 4 : left < 6 ? left : 6;
    for (int64_t r = 0; r < m; r += 4) {
      const float* ar = a + r * a_row;
      float* cr = c + r * ldc + j;
      switch (nv) {
        case 1:
          block4<1>(k, ar, a_row, a_k, b + j, ldb, cr, ldc, add);
          break;
        case 2:
          block4<2>(k, ar, a_row, a_k, b + j, ldb, cr, ldc, add);
          break;
        case 3:
          block4<3>(k, ar, a_row, a_k, b + j, ldb, cr, ldc, add);
          break;
        case 4:
          block4<4>(k, ar, a_row, a_k, b + j, ldb, cr, ldc, add);
          break;
        case 5:
          block4<5>(k, ar, a_row, a_k, b + j, ldb, cr, ldc, add);
          break;
        default:
          block4<6>(k, ar, a_row, a_k, b + j, ldb, cr, ldc, add);
          break;
      }
    }
    j += nv * kLanes;
  }
}

struct FreeDeleter {
  void operator()(float* p) const { std::free(p); }
};

// Query rows that are done at a time: all of a short sequence, a tile of a long one, whose matrix
// of scores then stays in the second-level cache.
inline int64_t tile_rows(int64_t np) { return np <= 512 ? np : 64; }

// Scratch of one head: matrices (N, d) and tiles (rows, N), padded to whole vectors, pads zero.
struct HeadScratch {
  HeadScratch(int64_t n, int64_t dh, int matrices, int tiles)
      : np((n + 15) / 16 * 16), dp((dh + 15) / 16 * 16), rows(tile_rows(np)) {
    const auto count = static_cast<size_t>(matrices * np * dp + tiles * rows * np);
    memory.reset(static_cast<float*>(std::aligned_alloc(64, count * sizeof(float))));
    std::memset(memory.get(), 0, count * sizeof(float));
    next = memory.get();
  }
  float* matrix() { return std::exchange(next, next + np * dp); }
  float* tile() { return std::exchange(next, next + rows * np); }
  int64_t np, dp, rows;
  std::unique_ptr<float, FreeDeleter> memory;
  float* next;
};

template <class T>
void gather(const T* p, int64_t stride, int64_t n, int64_t dh, float scale, float* out,
            int64_t ld) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < dh; ++c) out[i * ld + c] = load(p[i * stride + c]) * scale;
  }
}

template <class T>
void gather_transposed(const T* p, int64_t stride, int64_t n, int64_t dh, float* out, int64_t ld) {
  for (int64_t c = 0; c < dh; ++c) {
    for (int64_t i = 0; i < n; ++i) out[c * ld + i] = load(p[i * stride + c]);
  }
}

template <class T>
void scatter(const float* in, int64_t ld, int64_t n, int64_t dh, float scale, T* p,
             int64_t stride) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < dh; ++c) store(p[i * stride + c], in[i * ld + c] * scale);
  }
}

// o = softmax(q k^T) v of one head in scratch memory; lse (N) may be null.
void attend(const HeadScratch& s, int64_t n, int64_t dh, const float* q, const float* kt,
            const float* v, float* p, float* o, float* lse) {
  const int64_t np = s.np, dp = s.dp;
  for (int64_t first = 0; first < n; first += s.rows) {
    const int64_t padded = std::min(s.rows, np - first), rows = std::min(s.rows, n - first);
    product(padded, np, dh, q + first * dp, dp, 1, kt, np, p, np);
    for (int64_t i = 0; i < rows; ++i) {
      float* row = p + i * np;
      float top = row[0], sum = 0;
      for (int64_t j = 1; j < n; ++j) top = row[j] > top ? row[j] : top;
      for (int64_t j = 0; j < n; ++j) sum += row[j] = exp_fast(row[j] - top);
      const float inv = 1.0f / sum;
      for (int64_t j = 0; j < n; ++j) row[j] *= inv;
      if (lse) lse[first + i] = top + std::log(sum);
    }
    product(padded, dp, n, p, np, 1, v, dp, o + first * dp, dp);
  }
}

template <class T>
void attention(const T* qkv, int64_t n, int64_t d, int64_t heads, T* out, float* lse, int64_t begin,
               int64_t end) {
  const int64_t dh = d / heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dh));
  HeadScratch s(n, dh, 4, 1);
  const int64_t np = s.np, dp = s.dp;
  float *q = s.matrix(), *v = s.matrix(), *o = s.matrix(), *kt = s.matrix(), *p = s.tile();
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / heads, h = item % heads;
    const T* base = qkv + b * n * 3 * d + h * dh;
    gather(base, 3 * d, n, dh, scale, q, dp);
    gather_transposed(base + d, 3 * d, n, dh, kt, np);
    gather(base + 2 * d, 3 * d, n, dh, 1.0f, v, dp);
    attend(s, n, dh, q, kt, v, p, o, lse ? lse + item * n : nullptr);
    scatter(o, dp, n, dh, 1.0f, out + b * n * d + h * dh, d);
  }
}

// Adds what gather() and gather_transposed() would write.
template <class T>
void gather_more(const T* x, int64_t stride, int64_t n, int64_t dh, float scale, float* out,
                 int64_t ld) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < dh; ++c) out[i * ld + c] += load(x[i * stride + c]) * scale;
  }
}
template <class T>
void gather_more_transposed(const T* x, int64_t stride, int64_t n, int64_t dh, float* out,
                            int64_t ld) {
  for (int64_t c = 0; c < dh; ++c) {
    for (int64_t i = 0; i < n; ++i) out[c * ld + i] += load(x[i * stride + c]);
  }
}

template <class T>
void attention_pair(const T* qkv, const T* dqkv, int64_t n, int64_t d, int64_t heads, T* out,
                    T* dout, int64_t begin, int64_t end) {
  const int64_t dh = d / heads, width = 3 * d;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dh));
  HeadScratch s(n, dh, 5, 1);
  const int64_t np = s.np, dp = s.dp;
  float *q = s.matrix(), *v = s.matrix(), *o = s.matrix(), *ot = s.matrix(), *kt = s.matrix(),
        *p = s.tile();
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / heads, h = item % heads, in = b * n * width + h * dh,
                  to = b * n * d + h * dh;
    gather(qkv + in, width, n, dh, scale, q, dp);
    gather_transposed(qkv + in + d, width, n, dh, kt, np);
    gather(qkv + in + 2 * d, width, n, dh, 1.0f, v, dp);
    attend(s, n, dh, q, kt, v, p, o, nullptr);
    gather_more(dqkv + in, width, n, dh, scale, q, dp);
    gather_more_transposed(dqkv + in + d, width, n, dh, kt, np);
    gather_more(dqkv + in + 2 * d, width, n, dh, 1.0f, v, dp);
    attend(s, n, dh, q, kt, v, p, ot, nullptr);
    for (int64_t i = 0; i < n * dp; ++i) ot[i] -= o[i];
    scatter(o, dp, n, dh, 1.0f, out + to, d);
    scatter(ot, dp, n, dh, 1.0f, dout + to, d);
  }
}

// P = exp(q k^T - lse), dP = dO V^T, D_i = <dO_i, O_i>, dS = P (dP - D); dV = P^T dO, dQ = scale dS
// K, dK = dS^T (scale Q). dK and dV add up over the tiles.
template <class T>
void attention_backward(const T* gout, const T* qkv, const T* out, const float* lse, int64_t n,
                        int64_t d, int64_t heads, T* gqkv, int64_t begin, int64_t end) {
  const int64_t dh = d / heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dh));
  HeadScratch s(n, dh, 8, 2);
  const int64_t np = s.np, dp = s.dp;
  float *q = s.matrix(), *k = s.matrix(), *go = s.matrix(), *kt = s.matrix(), *vt = s.matrix(),
        *gq = s.matrix(), *gk = s.matrix(), *gv = s.matrix(), *p = s.tile(), *ds = s.tile();
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / heads, h = item % heads;
    const T* base = qkv + b * n * 3 * d + h * dh;
    const T* o = out + b * n * d + h * dh;
    T* gbase = gqkv + b * n * 3 * d + h * dh;
    gather(base, 3 * d, n, dh, scale, q, dp);
    gather(base + d, 3 * d, n, dh, 1.0f, k, dp);
    gather_transposed(base + d, 3 * d, n, dh, kt, np);
    gather_transposed(base + 2 * d, 3 * d, n, dh, vt, np);
    gather(gout + b * n * d + h * dh, d, n, dh, 1.0f, go, dp);
    for (int64_t first = 0; first < n; first += s.rows) {
      const int64_t padded = std::min(s.rows, np - first), rows = std::min(s.rows, n - first);
      const float *qt = q + first * dp, *got = go + first * dp;
      product(padded, np, dh, qt, dp, 1, kt, np, p, np);
      product(padded, np, dh, got, dp, 1, vt, np, ds, np);
      for (int64_t i = 0; i < rows; ++i) {
        float delta = 0;
        for (int64_t c = 0; c < dh; ++c) delta += got[i * dp + c] * load(o[(first + i) * d + c]);
        float *pr = p + i * np, *dr = ds + i * np;
        const float l = lse[item * n + first + i];
        for (int64_t j = 0; j < n; ++j) {
          pr[j] = exp_fast(pr[j] - l);
          dr[j] = pr[j] * (dr[j] - delta);
        }
      }
      product(np, dp, rows, p, 1, np, got, dp, gv, dp, /*add=*/first > 0);
      product(padded, dp, n, ds, np, 1, k, dp, gq + first * dp, dp);
      product(np, dp, rows, ds, 1, np, qt, dp, gk, dp, /*add=*/first > 0);
    }
    scatter(gv, dp, n, dh, 1.0f, gbase + 2 * d, 3 * d);
    scatter(gq, dp, n, dh, scale, gbase, 3 * d);
    scatter(gk, dp, n, dh, 1.0f, gbase + d, 3 * d);
  }
}

void adamw(const AdamWStep& s, const float* g, float* p, float* m, float* v, int64_t begin,
           int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    m[i] = s.beta1 * m[i] + (1.0f - s.beta1) * g[i];
    v[i] = s.beta2 * v[i] + (1.0f - s.beta2) * g[i] * g[i];
    const float step = (m[i] / s.correction1) / (std::sqrt(v[i] / s.correction2) + s.eps);
    p[i] -= s.lr * (step + s.weight_decay * p[i]);
  }
}

template <class T>
TransformerKernels<T> make_kernels() {
  return {ln_modulate<T>,
          ln_modulate_backward<T>,
          gated_add<T>,
          gated_add_backward<T>,
          gelu<T>,
          gelu_backward<T>,
          attention<T>,
          attention_backward<T>,
          ln_modulate_pair<T>,
          gelu_pair<T>,
          attention_pair<T>};
}

}  // namespace

const KernelTable& VGGFLOW_TABLE() {
  static const KernelTable table{VGGFLOW_ISA, make_kernels<float>(), make_kernels<bf16>(), adamw};
  return table;
}

}  // namespace vggflow::kernels
