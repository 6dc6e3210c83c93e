// The kernels of narrow.h by AVX512-BF16. A product's sums are kept for 12 rows by 32 columns: 24
// registers, and 2 of weights and one of x, so that the dot products alone are waited for.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>

#include "vggflow/kernels/narrow.h"
#include "vggflow/kernels/transformer.h"

namespace vggflow::kernels {
namespace {

__m512bh pairs(__m512i x) { return (__m512bh)x; }
__m512i load_pairs(const bf16* p) { return _mm512_loadu_si512(p); }
__m512i broadcast_pair(const bf16* p) {
  int32_t both;
  std::memcpy(&both, p, sizeof both);
  return _mm512_set1_epi32(both);
}
__m256i narrow(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

__m512 widen(__m256i x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

// 2^t.
template <int Degree>
inline __m512 exp2_of(__m512 t) {
  const __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(t, n);
  // Taylor coefficients of 2^f, |f| <= 1/2.
  constexpr float c[] = {1.0f, 0.69314718f, 0.24022651f, 0.05550411f, 0.00961813f, 0.00133336f};
  __m512 p = _mm512_set1_ps(c[Degree]);
  for (int i = Degree - 1; i >= 0; --i) p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c[i]));
  return _mm512_scalef_ps(p, n);
}

// x s(z), z = 2 sqrt(2/pi) (x + 0.044715 x^3); 1/(1 + 2^t) to 14 bits, which bf16 rounds to 8.
inline __m512 gelu_of(__m512 x) {
  constexpr float a = -1.5957691216f * 1.44269504f, b = 0.044715f;
  const __m512 sq = _mm512_mul_ps(x, x);
  const __m512 t = _mm512_mul_ps(x, _mm512_fmadd_ps(sq, _mm512_set1_ps(a * b), _mm512_set1_ps(a)));
  return _mm512_mul_ps(x, _mm512_rcp14_ps(_mm512_add_ps(_mm512_set1_ps(1.0f), exp2_of<4>(t))));
}

// ---- 16 x 16 transposition of 32-bit elements
void transpose16(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// Pairs of columns of x (rows, k), transposed: pair p of row r becomes 32-bit element
// out[p * stride + r]; rows beyond the end are zero, up to a multiple of 16, and so are columns up
// to a multiple of 2.
void transpose_pairs(const bf16* x, int64_t ld, int64_t rows, int64_t k, int32_t* out,
                     int64_t stride) {
  for (int64_t r0 = 0; r0 < rows; r0 += 16) {
    const int64_t count = std::min<int64_t>(16, rows - r0);
    for (int64_t c0 = 0; c0 < k; c0 += 32) {
      const int64_t columns = std::min<int64_t>(32, k - c0), half = (columns + 1) / 2;
      const auto mask = static_cast<__mmask32>(columns == 32 ? ~0u : (1u << columns) - 1);
      __m512i v[16];
      for (int64_t r = 0; r < 16; ++r)
        v[r] = r < count ? _mm512_maskz_loadu_epi16(mask, x + (r0 + r) * ld + c0)
                         : _mm512_setzero_si512();
      transpose16(v);
      for (int64_t p = 0; p < half; ++p)
        _mm512_storeu_si512(out + (c0 / 2 + p) * stride + r0, v[p]);
    }
  }
}

// ---- products
// W in panels of 32 columns of y: for every pair of k, the 32 pairs of a panel.
void pack(const bf16* w, int64_t n, int64_t k, int64_t stride, bf16* out) {
  const int64_t pairs_of_k = (k + 1) / 2;
  auto* to = reinterpret_cast<int32_t*>(out);
  for (int64_t j = 0; j < n; j += 32, to += pairs_of_k * 32) {
    for (int64_t half = 0; half < 32; half += 16) {
      const int64_t rows = std::clamp<int64_t>(n - j - half, 0, 16);
      if (rows > 0) {
        transpose_pairs(w + (j + half) * stride, stride, rows, k, to + half, 32);
      } else {
        for (int64_t p = 0; p < pairs_of_k; ++p)
          _mm512_storeu_si512(to + p * 32 + half, _mm512_setzero_si512());
      }
    }
  }
}

// acc[r][v] += sum over pairs p of a[r] and of 16 columns of b each; b's rows are b_stride apart.
template <int MR, int NV>
inline __attribute__((always_inline)) void tile(int64_t pairs_of_k, const bf16* a, int64_t lda,
                                                const bf16* b, int64_t b_stride,
                                                __m512 (&acc)[MR][NV]) {
  for (int64_t p = 0; p < pairs_of_k; ++p) {
    __m512i bv[NV];
    for (int v = 0; v < NV; ++v) bv[v] = load_pairs(b + p * b_stride + v * 32);
    for (int r = 0; r < MR; ++r) {
      const __m512i av = broadcast_pair(a + r * lda + 2 * p);
      for (int v = 0; v < NV; ++v) acc[r][v] = _mm512_dpbf16_ps(acc[r][v], pairs(av), pairs(bv[v]));
    }
  }
}

// Where the row of a product goes.
template <class T>
struct Cursor {
  Cursor(const Pieces<T>& p, int64_t r) : of(p), piece(r / p.rows), in_piece(r % p.rows) {}
  T* at() const { return of.data + piece * of.piece + in_piece * of.row; }
  void next() {
    if (++in_piece == of.rows) {
      in_piece = 0;
      ++piece;
    }
  }
  const Pieces<T>& of;
  int64_t piece, in_piece;
};

__mmask16 mask_of(int64_t columns) {
  return static_cast<__mmask16>(columns >= 16 ? 0xffff : (1u << std::max<int64_t>(columns, 0)) - 1);
}

template <bool Gelu>
struct StoreNarrow {
  Pieces<bf16> y;
  static __m256i made(__m512 sum) { return narrow(Gelu ? gelu_of(sum) : sum); }
  void rows(int64_t row, int64_t column, int64_t count, int64_t n, const __m512* acc) const {
    Cursor<bf16> to(y, row);
    const __mmask16 low = mask_of(n - column), high = mask_of(n - column - 16);
    for (int64_t r = 0; r < count; ++r, to.next()) {
      bf16* p = to.at() + column;
      _mm256_mask_storeu_epi16(p, low, made(acc[2 * r]));
      _mm256_mask_storeu_epi16(p + 16, high, made(acc[2 * r + 1]));
    }
  }
};
using Store = StoreNarrow<false>;
using StoreGelu = StoreNarrow<true>;
// Both what GELU takes, rounded, and what it gives.
struct StoreGeluTaped {
  Store before;
  StoreGelu after;
  void rows(int64_t row, int64_t column, int64_t count, int64_t n, const __m512* acc) const {
    before.rows(row, column, count, n, acc);
    after.rows(row, column, count, n, acc);
  }
};
struct StoreWide {
  Pieces<float> y;
  void rows(int64_t row, int64_t column, int64_t count, int64_t n, const __m512* acc) const {
    Cursor<float> to(y, row);
    const __mmask16 low = mask_of(n - column), high = mask_of(n - column - 16);
    for (int64_t r = 0; r < count; ++r, to.next()) {
      float* p = to.at() + column;
      _mm512_mask_storeu_ps(p, low, acc[2 * r]);
      _mm512_mask_storeu_ps(p + 16, high, acc[2 * r + 1]);
    }
  }
};
struct StoreGated {
  Rows gate;
  Pieces<const float> x;
  Pieces<float> y;
  void rows(int64_t row, int64_t column, int64_t count, int64_t n, const __m512* acc) const {
    Cursor<const float> from(x, row);
    Cursor<float> to(y, row);
    const __mmask16 mask[2] = {mask_of(n - column), mask_of(n - column - 16)};
    for (int64_t r = 0; r < count; ++r, to.next(), from.next()) {
      const float *p = from.at() + column, *g = gate.data + to.piece * gate.stride + column;
      float* q = to.at() + column;
      for (int h = 0; h < 2; ++h) {
        const __m512 gh = _mm512_maskz_loadu_ps(mask[h], g + 16 * h),
                     xh = _mm512_maskz_loadu_ps(mask[h], p + 16 * h);
        _mm512_mask_storeu_ps(q + 16 * h, mask[h], _mm512_fmadd_ps(gh, acc[2 * r + h], xh));
      }
    }
  }
};

template <int MR, int NV>
inline __attribute__((always_inline)) void clear(__m512 (&acc)[MR][NV]) {
  for (int r = 0; r < MR; ++r)
    for (int v = 0; v < NV; ++v) acc[r][v] = _mm512_setzero_ps();
}

// A further product whose sums are added: x of the same rows, w of the same columns.
struct More {
  const bf16* x = nullptr;
  int64_t stride = 0;
  PackedLinear w = {nullptr, nullptr, 0, 0};
};

template <int MR, bool kMore, class S>
inline __attribute__((always_inline)) void product_rows(const NarrowRows& x, const PackedLinear& w,
                                                        const More& more, const S& store,
                                                        int64_t row, int64_t column) {
  const auto panel = [&](const PackedLinear& l) { return l.weight + (l.k + 1) / 2 * 2 * column; };
  __m512 acc[MR][2];
  clear(acc);
  tile<MR, 2>((w.k + 1) / 2, x.data + row * x.stride, x.stride, panel(w), 64, acc);
  if constexpr (kMore)
    tile<MR, 2>((more.w.k + 1) / 2, more.x + row * more.stride, more.stride, panel(more.w), 64,
                acc);
  if (w.bias) {
    const __m512 b0 = _mm512_loadu_ps(w.bias + column), b1 = _mm512_loadu_ps(w.bias + column + 16);
    for (int r = 0; r < MR; ++r) {
      acc[r][0] = _mm512_add_ps(acc[r][0], b0);
      acc[r][1] = _mm512_add_ps(acc[r][1], b1);
    }
  }
  store.rows(row, column, MR, w.n, &acc[0][0]);
}

template <bool kMore, class S>
void multiply_all(const NarrowRows& x, const PackedLinear& w, const S& store, const More& more) {
  for (int64_t j = 0; j < w.n; j += 32) {
    int64_t r = 0;
    for (; r + 12 <= x.rows; r += 12) product_rows<12, kMore>(x, w, more, store, r, j);
    if (x.rows - r >= 8) product_rows<8, kMore>(x, w, more, store, r, j), r += 8;
    if (x.rows - r >= 4) product_rows<4, kMore>(x, w, more, store, r, j), r += 4;
    if (x.rows - r >= 2) product_rows<2, kMore>(x, w, more, store, r, j), r += 2;
    if (x.rows - r >= 1) product_rows<1, kMore>(x, w, more, store, r, j);
  }
}

// Of two functions, since a choice within the loops would take sums out of their registers.
template <class S>
void multiply(const NarrowRows& x, const PackedLinear& w, const S& store, const More& more = {}) {
  more.x ? multiply_all<true>(x, w, store, more) : multiply_all<false>(x, w, store, more);
}

void product(NarrowRows x, const PackedLinear& w, Pieces<bf16> y) { multiply(x, w, Store{y}); }
void product_wide(NarrowRows x, const PackedLinear& w, Pieces<float> y) {
  multiply(x, w, StoreWide{y});
}
void product_gelu(NarrowRows x, const PackedLinear& w, Pieces<bf16> y) {
  multiply(x, w, StoreGelu{y});
}
void product_gated(NarrowRows x, const PackedLinear& w, Rows gate, Pieces<const float> r,
                   Pieces<float> y) {
  multiply(x, w, StoreGated{gate, r, y});
}

// ---- scratch memory of one thread, kept from call to call
struct FreeDeleter {
  void operator()(char* p) const { std::free(p); }
};
class Scratch {
 public:
  void room(int64_t bytes) {
    if (bytes > size_) {
      memory_.reset(
          static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(bytes + 63) / 64 * 64)));
      size_ = bytes;
    }
    next_ = memory_.get();
  }
  template <class T>
  T* take(int64_t count) {
    T* p = reinterpret_cast<T*>(next_);
    next_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return p;
  }

 private:
  std::unique_ptr<char, FreeDeleter> memory_;
  char* next_ = nullptr;
  int64_t size_ = 0;
};

// ---- attention
int64_t up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

struct HeadSizes {
  HeadSizes(int64_t n_, int64_t dh_) : n(n_), dh(dh_), np(up(n_, 16)), dp(up(dh_, 16)) {}
  int64_t n, dh, np, dp;  // tokens and channels, and both in whole vectors
};

// Values of pairs of tokens, side by side: out[j * dp + c] = (v[2j][c], v[2j + 1][c]).
void interleave_tokens(const bf16* v, int64_t ld, const HeadSizes& s, int32_t* out) {
  for (int64_t j = 0; j < s.np / 2; ++j) {
    for (int64_t c = 0; c < s.dp; c += 16) {
      const __mmask16 mask = mask_of(s.dh - c);
      const auto row = [&](int64_t i) {
        return i < s.n ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, v + i * ld + c))
                       : _mm512_setzero_si512();
      };
      _mm512_storeu_si512(out + j * s.dp + c,
                          _mm512_or_si512(row(2 * j), _mm512_slli_epi32(row(2 * j + 1), 16)));
    }
  }
}

// out (MR, n) in fp32 = a (MR, pairs) b (pairs, columns); columns a multiple of 16.
template <int MR, int NV>
inline __attribute__((always_inline)) void wide_tile(int64_t pairs_of_k, const bf16* a, int64_t lda,
                                                     const int32_t* b, int64_t columns, float* out,
                                                     int64_t ldo) {
  __m512 acc[MR][NV];
  clear(acc);
  tile<MR, NV>(pairs_of_k, a, lda, reinterpret_cast<const bf16*>(b), 2 * columns, acc);
  for (int r = 0; r < MR; ++r)
    for (int v = 0; v < NV; ++v) _mm512_storeu_ps(out + r * ldo + 16 * v, acc[r][v]);
}

template <int MR>
void wide_product(int64_t pairs_of_k, const bf16* a, int64_t lda, const int32_t* b, int64_t columns,
                  float* out, int64_t ldo) {
  for (int64_t c = 0; c < columns;) {
    const int64_t left = (columns - c) / 16;
    const auto at = [&]<int NV>(std::integral_constant<int, NV>) {
      wide_tile<MR, NV>(pairs_of_k, a, lda, b + c, columns, out + c, ldo);
      c += 16 * NV;
    };
    if (left >= 5 && left != 6)
      at(std::integral_constant<int, 5>{});
    else if (left >= 4)
      at(std::integral_constant<int, 4>{});
    else if (left == 3)
      at(std::integral_constant<int, 3>{});
    else if (left == 2)
      at(std::integral_constant<int, 2>{});
    else
      at(std::integral_constant<int, 1>{});
  }
}

// p (n rounded up to 16) = exp(scale (s - max s)) as bf16; their sum.
struct SoftmaxRow {
  float sum, lse;  // lse: of scale s
};
template <bool kTaped>
inline SoftmaxRow softmax_row(const float* s, int64_t n, int64_t np, float scale, bf16* p) {
  const __m512 none = _mm512_set1_ps(-INFINITY);
  const int64_t whole = n / 16 * 16;
  const __mmask16 rest = mask_of(n - whole);
  __m512 top = none;
  for (int64_t j = 0; j < whole; j += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(s + j));
  if (rest) top = _mm512_max_ps(top, _mm512_mask_loadu_ps(none, rest, s + whole));
  const float c = scale * 1.44269504f, most = _mm512_reduce_max_ps(top);
  const __m512 factor = _mm512_set1_ps(c), shift = _mm512_set1_ps(-most * c);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t j = 0; j < np; j += 16) {
    const __m512 e = exp2_of<5>(_mm512_fmadd_ps(_mm512_loadu_ps(s + j), factor, shift));
    const __m512 x = j < whole ? e : _mm512_maskz_mov_ps(rest, e);
    sum = _mm512_add_ps(sum, x);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + j), narrow(x));
  }
  const float total = _mm512_reduce_add_ps(sum);
  return {total, kTaped ? most * scale + std::log(total) : 0};
}

struct HeadOutput {
  bf16 *first, *second;  // rows [0, split) and the rest
  int64_t split, ld;
  bf16* row(int64_t i) const { return i < split ? first + i * ld : second + (i - split) * ld; }
};

struct HeadScratch {
  int32_t *kt, *v;
  float *s, *o;
  bf16* p;
  static constexpr int64_t kRows = 8;
  HeadScratch(Scratch& m, const HeadSizes& z)
      : kt(m.take<int32_t>(z.dp / 2 * z.np)),
        v(m.take<int32_t>(z.np / 2 * z.dp)),
        s(m.take<float>(kRows * z.np)),
        o(m.take<float>(kRows * z.dp)),
        p(m.take<bf16>(kRows * z.np)) {}
  static int64_t bytes(const HeadSizes& z) {
    return 4 * (z.dp * z.np + kRows * z.np + kRows * z.dp) + 2 * kRows * z.np + 5 * 64;
  }
};

template <int MR, bool kTaped>
inline void attend_rows(const HeadSizes& z, const HeadScratch& m, const bf16* q, int64_t ld,
                        float scale, int64_t row, const HeadOutput& out, float* lse) {
  for (int h = 0; h < MR; h += 4)
    wide_product<(MR < 4 ? MR : 4)>((z.dh + 1) / 2, q + (row + h) * ld, ld, m.kt, z.np,
                                    m.s + h * z.np, z.np);
  float total[MR];
  for (int r = 0; r < MR; ++r) {
    const SoftmaxRow made = softmax_row<kTaped>(m.s + r * z.np, z.n, z.np, scale, m.p + r * z.np);
    total[r] = made.sum;
    if constexpr (kTaped) lse[row + r] = made.lse;
  }
  for (int64_t c = 0; c < z.dp;) {
    const auto columns = [&]<int NV>(std::integral_constant<int, NV>) {
      __m512 acc[MR][NV];
      clear(acc);
      tile<MR, NV>(z.np / 2, m.p, z.np, reinterpret_cast<const bf16*>(m.v + c), 2 * z.dp, acc);
      for (int r = 0; r < MR; ++r) {
        const __m512 inverse = _mm512_set1_ps(1.0f / total[r]);
        bf16* to = out.row(row + r) + c;
        for (int v = 0; v < NV; ++v)
          _mm256_mask_storeu_epi16(to + 16 * v, mask_of(z.dh - c - 16 * v),
                                   narrow(_mm512_mul_ps(acc[r][v], inverse)));
      }
      c += 16 * NV;
    };
    if (z.dp - c >= 32)
      columns(std::integral_constant<int, 2>{});
    else
      columns(std::integral_constant<int, 1>{});
  }
}

// out = softmax(scale q k^T) v of one head; q, k, v with rows `ld` apart. With a tape also lse.
template <bool kTaped>
void attend(const HeadSizes& z, const HeadScratch& m, const bf16* q, const bf16* k, const bf16* v,
            int64_t ld, const HeadOutput& out, float* lse) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(z.dh));
  transpose_pairs(k, ld, z.n, z.dh, m.kt, z.np);
  interleave_tokens(v, ld, z, m.v);
  int64_t i = 0;
  for (; i + 8 <= z.n; i += 8) attend_rows<8, kTaped>(z, m, q, ld, scale, i, out, lse);
  if (z.n - i >= 4) attend_rows<4, kTaped>(z, m, q, ld, scale, i, out, lse), i += 4;
  for (; i < z.n; ++i) attend_rows<1, kTaped>(z, m, q, ld, scale, i, out, lse);
}

// ---- the block
// Modulated rows of the samples [first, first + count): y (count * n, d).
void modulate(const Stream& s, const float* x, Rows shift, Rows scale, int64_t d, float eps,
              int64_t first, int64_t count, bf16* y) {
  const auto inv = 1.0f / static_cast<float>(d);
  for (int64_t b = 0; b < count; ++b) {
    const float *sh = shift.data + (first + b) * shift.stride,
                *sc = scale.data + (first + b) * scale.stride;
    for (int64_t i = 0; i < s.n; ++i, x += d, y += d) {
      __m512 sum = _mm512_setzero_ps();
      const auto part = [&](int64_t c) { return _mm512_maskz_loadu_ps(mask_of(d - c), x + c); };
      for (int64_t c = 0; c < d; c += 16) sum = _mm512_add_ps(sum, part(c));
      const __m512 mu = _mm512_set1_ps(_mm512_reduce_add_ps(sum) * inv);
      __m512 sq = _mm512_setzero_ps();
      for (int64_t c = 0; c < d; c += 16) {
        const __m512 e = _mm512_maskz_sub_ps(mask_of(d - c), part(c), mu);
        sq = _mm512_fmadd_ps(e, e, sq);
      }
      const __m512 rs = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(sq) * inv + eps));
      for (int64_t c = 0; c < d; c += 16) {
        const __mmask16 m = mask_of(d - c);
        const __m512 xh = _mm512_mul_ps(_mm512_sub_ps(part(c), mu), rs);
        const __m512 v = _mm512_fmadd_ps(
            xh, _mm512_add_ps(_mm512_set1_ps(1.0f), _mm512_maskz_loadu_ps(m, sc + c)),
            _mm512_maskz_loadu_ps(m, sh + c));
        _mm256_mask_storeu_epi16(y + c, m, narrow(v));
      }
    }
  }
}

// What an adapter adds to x W^T: u = x A^T, to be multiplied by B. u has room for x's rows.
More adapted(const NarrowRows& x, const PackedAdapter& a, bf16* u) {
  if (a.down.n == 0) return {};
  multiply(x, a.down, Store{{u, x.rows, 0, a.down.n}});
  return {u, a.down.n, a.up};
}

// Scratch of a few samples.
struct BlockBuffers {
  bf16 *rows, *hidden, *u;
};

Rows from(const Rows& r, int64_t first) { return {r.data + first * r.stride, r.stride}; }

// The MLP of the samples [first, first + count) and the two gated sums.
void finish_stream(const Stream& s, const StreamTape& tape, const bf16* attended, int64_t d,
                   float eps, int64_t first, int64_t count, const BlockBuffers& m) {
  const int64_t size = s.n * d, n = count * s.n;
  const float* x = s.x + first * size;
  float *y = s.y + first * size, *middle = tape.middle ? tape.middle + first * size : y;
  const NarrowRows a{attended, d, n};
  multiply(a, s.out, StoreGated{from(s.gate, first), {x, s.n, size, d}, {middle, s.n, size, d}},
           adapted(a, tape.out, m.u));
  modulate(s, middle, s.mlp_shift, s.mlp_scale, d, eps, first, count, m.rows);
  const NarrowRows rows{m.rows, d, n};
  const Pieces<bf16> after{m.hidden, n, 0, 4 * d};
  if (tape.hidden) {
    multiply(rows, s.in, StoreGeluTaped{{{tape.hidden + first * 4 * size, n, 0, 4 * d}}, {after}});
  } else {
    multiply(rows, s.in, StoreGelu{after});
  }
  product_gated({m.hidden, 4 * d, n}, s.back, from(s.mlp_gate, first), {middle, s.n, size, d},
                {y, s.n, size, d});
}

int64_t rank_of(const StreamTape& t) { return std::max(t.qkv.down.n, t.out.down.n); }

// Either with a tape, which then holds what is made on the way, or without: null pointers.
void run_block(const Stream& image, const StreamTape& image_tape, const Stream& text,
               const StreamTape& text_tape, const BlockTape& tape, int64_t d, int64_t heads,
               float eps, int64_t begin, int64_t end) {
  const int64_t tokens = image.n + text.n, widest = std::max(image.n, text.n);
  const int64_t rank = std::max(rank_of(image_tape), rank_of(text_tape));
  const HeadSizes z(tokens, d / heads);
  // As many samples at a time as keep their rows near and give the products rows enough.
  const int64_t group = std::clamp<int64_t>(192 / widest, 1, std::max<int64_t>(1, end - begin));
  thread_local Scratch memory;
  memory.room(2 * group * (widest * (5 * d + rank) + tokens * 4 * d) + 8 * 64 +
              HeadScratch::bytes(z));
  const auto rows_of = [&](int64_t rows, int64_t width) {
    return memory.take<bf16>(group * rows * width);
  };
  bf16 *rows = rows_of(widest, d), *hidden = rows_of(widest, 4 * d), *u = rows_of(widest, rank),
       *qkv_here = rows_of(tokens, 3 * d), *o_image_here = rows_of(image.n, d),
       *o_text_here = rows_of(text.n, d);
  const BlockBuffers buffers{rows, hidden, u};
  const HeadScratch head(memory, z);
  for (int64_t first = begin; first < end; first += group) {
    const int64_t count = std::min(group, end - first);
    const auto place = [&](bf16* taped, int64_t size, bf16* here) {
      return taped ? taped + first * size : here;
    };
    bf16 *qkv = place(tape.qkv, tokens * 3 * d, qkv_here),
         *o_image = place(image_tape.attended, image.n * d, o_image_here),
         *o_text = place(text_tape.attended, text.n * d, o_text_here);
    int64_t at = 0;
    for (const auto& [s, t] : {std::pair{&image, &image_tape}, std::pair{&text, &text_tape}}) {
      modulate(*s, s->x + first * s->n * d, s->shift, s->scale, d, eps, first, count, rows);
      const NarrowRows x{rows, d, count * s->n};
      multiply(x, s->qkv, Store{{qkv + at * 3 * d, s->n, tokens * 3 * d, 3 * d}},
               adapted(x, t->qkv, u));
      at += s->n;
    }
    for (int64_t b = 0; b < count; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        const bf16* q = qkv + b * tokens * 3 * d + h * z.dh;
        (tape.lse
             ? attend<true>
             : attend<false>)(z, head, q, q + d, q + 2 * d, 3 * d,
                              {o_image + b * image.n * d + h * z.dh,
                               o_text + b * text.n * d + h * z.dh, image.n, d},
                              tape.lse ? tape.lse + ((first + b) * heads + h) * tokens : nullptr);
      }
    }
    finish_stream(image, image_tape, o_image, d, eps, first, count, buffers);
    if (!text.last) finish_stream(text, text_tape, o_text, d, eps, first, count, buffers);
  }
}

void joint_block(const Stream& image, const Stream& text, int64_t d, int64_t heads, float eps,
                 int64_t begin, int64_t end) {
  run_block(image, {}, text, {}, {}, d, heads, eps, begin, end);
}

// ---- the block backwards
// The gradient of a stream: gx = g + rstd (a - mean(a) - xh mean(a xh)) with a = gy (1 + scale).
void modulate_back(const float* x, const float* g, const bf16* gy, Rows scale, int64_t n, int64_t d,
                   float eps, int64_t count, float* gx) {
  const auto inv = 1.0f / static_cast<float>(d);
  for (int64_t b = 0; b < count; ++b) {
    const float* sc = scale.data + b * scale.stride;
    for (int64_t i = 0; i < n; ++i, x += d, g += d, gy += d, gx += d) {
      const auto part = [&](int64_t c) { return _mm512_maskz_loadu_ps(mask_of(d - c), x + c); };
      const auto weighted = [&](int64_t c) {
        const __mmask16 m = mask_of(d - c);
        return _mm512_mul_ps(widen(_mm256_maskz_loadu_epi16(m, gy + c)),
                             _mm512_add_ps(_mm512_set1_ps(1.0f), _mm512_maskz_loadu_ps(m, sc + c)));
      };
      __m512 sum = _mm512_setzero_ps(), a_sum = sum, sq = sum, dot = sum;
      for (int64_t c = 0; c < d; c += 16) {
        sum = _mm512_add_ps(sum, part(c));
        a_sum = _mm512_add_ps(a_sum, weighted(c));
      }
      const __m512 mu = _mm512_set1_ps(_mm512_reduce_add_ps(sum) * inv);
      for (int64_t c = 0; c < d; c += 16) {
        const __m512 e = _mm512_maskz_sub_ps(mask_of(d - c), part(c), mu);
        sq = _mm512_fmadd_ps(e, e, sq);
        dot = _mm512_fmadd_ps(e, weighted(c), dot);
      }
      const float r = 1.0f / std::sqrt(_mm512_reduce_add_ps(sq) * inv + eps);
      const __m512 rs = _mm512_set1_ps(r), mean = _mm512_set1_ps(_mm512_reduce_add_ps(a_sum) * inv),
                   slope = _mm512_set1_ps(_mm512_reduce_add_ps(dot) * inv * r * r);
      for (int64_t c = 0; c < d; c += 16) {
        const __mmask16 m = mask_of(d - c);
        const __m512 e = _mm512_sub_ps(part(c), mu);
        const __m512 change = _mm512_fnmadd_ps(e, slope, _mm512_sub_ps(weighted(c), mean));
        _mm512_mask_storeu_ps(gx + c, m,
                              _mm512_fmadd_ps(change, rs, _mm512_maskz_loadu_ps(m, g + c)));
      }
    }
  }
}

// y = gate * g, rounded.
void gate_back(const float* g, Rows gate, int64_t n, int64_t d, int64_t count, bf16* y) {
  for (int64_t b = 0; b < count; ++b) {
    for (int64_t i = 0; i < n; ++i, g += d, y += d) {
      for (int64_t c = 0; c < d; c += 16) {
        const __mmask16 m = mask_of(d - c);
        const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, g + c),
                                       _mm512_maskz_loadu_ps(m, gate.data + b * gate.stride + c));
        _mm256_mask_storeu_epi16(y + c, m, narrow(v));
      }
    }
  }
}

// gelu'(x) = s + x s (1 - s) z'.
inline __m512 gelu_slope(__m512 x) {
  constexpr float a = 1.5957691216f, b = 0.044715f;
  const __m512 one = _mm512_set1_ps(1.0f), sq = _mm512_mul_ps(x, x);
  const __m512 t = _mm512_mul_ps(x, _mm512_fmadd_ps(sq, _mm512_set1_ps(-a * b * 1.44269504f),
                                                    _mm512_set1_ps(-a * 1.44269504f)));
  const __m512 s = _mm512_div_ps(one, _mm512_add_ps(one, exp2_of<5>(t)));
  const __m512 dz = _mm512_fmadd_ps(sq, _mm512_set1_ps(3 * a * b), _mm512_set1_ps(a));
  return _mm512_fmadd_ps(_mm512_mul_ps(x, _mm512_mul_ps(s, _mm512_sub_ps(one, s))), dz, s);
}

// A product times gelu' of what lies at `x` in the same layout.
struct StoreGeluBack {
  Pieces<bf16> y;
  const bf16* x;
  void rows(int64_t row, int64_t column, int64_t count, int64_t n, const __m512* acc) const {
    for (int64_t r = 0; r < count; ++r) {
      for (int h = 0; h < 2; ++h) {
        const int64_t at = (row + r) * y.row + column + 16 * h;
        const __mmask16 m = mask_of(n - column - 16 * h);
        const __m512 slope = gelu_slope(widen(_mm256_maskz_loadu_epi16(m, x + at)));
        _mm256_mask_storeu_epi16(y.data + at, m, narrow(_mm512_mul_ps(acc[2 * r + h], slope)));
      }
    }
  }
};

struct BackScratch {
  static constexpr int64_t kRows = 8;
  BackScratch(Scratch& m, const HeadSizes& z)
      : go(m.take<bf16>(z.n * z.dp)),
        qt(transposed(m, z)),
        kt(transposed(m, z)),
        vt(transposed(m, z)),
        got(transposed(m, z)),
        q(interleaved(m, z)),
        k(interleaved(m, z)),
        goi(interleaved(m, z)),
        s(m.take<float>(kRows * z.np)),
        dp(m.take<float>(kRows * z.np)),
        lse(m.take<float>(z.np)),
        delta(m.take<float>(z.np)),
        p(m.take<bf16>(kRows * z.np)),
        ds(m.take<bf16>(kRows * z.np)) {}
  static int32_t* transposed(Scratch& m, const HeadSizes& z) {
    return m.take<int32_t>(z.dp / 2 * z.np);
  }
  static int32_t* interleaved(Scratch& m, const HeadSizes& z) {
    return m.take<int32_t>(z.np / 2 * z.dp);
  }
  static int64_t bytes(const HeadSizes& z) {
    return 2 * z.n * z.dp + 14 * z.dp * z.np + z.np * (12 * kRows + 8) + 15 * 64;
  }
  bf16* go;                                   // the output's gradient, rows dp apart
  int32_t *qt, *kt, *vt, *got, *q, *k, *goi;  // transposed pairs of channels; interleaved tokens
  float *s, *dp, *lse, *delta;
  bf16 *p, *ds;
};

// For MR rows i of `a` and of `b`: p = exp(scale a at - lse), ds = p (b bt - delta) scale, where
// lse and delta are of the rows, or, of the columns.
template <int MR, bool kOfRows>
void weights_back(const HeadSizes& z, const BackScratch& m, const bf16* a, int64_t lda,
                  const int32_t* at, const bf16* b, int64_t ldb, const int32_t* bt, int64_t row) {
  constexpr int kStep = MR < 4 ? MR : 4;
  const float scale = 1.0f / std::sqrt(static_cast<float>(z.dh));
  for (int h = 0; h < MR; h += kStep) {
    wide_product<kStep>((z.dh + 1) / 2, a + h * lda, lda, at, z.np, m.s + h * z.np, z.np);
    wide_product<kStep>((z.dh + 1) / 2, b + h * ldb, ldb, bt, z.np, m.dp + h * z.np, z.np);
  }
  const __m512 c = _mm512_set1_ps(scale * 1.44269504f), sc = _mm512_set1_ps(scale);
  for (int r = 0; r < MR; ++r) {
    for (int64_t j = 0; j < z.np; j += 16) {
      const __m512 l = kOfRows ? _mm512_set1_ps(m.lse[row + r]) : _mm512_loadu_ps(m.lse + j),
                   d = kOfRows ? _mm512_set1_ps(m.delta[row + r]) : _mm512_loadu_ps(m.delta + j);
      const __m512 p = _mm512_maskz_mov_ps(
          mask_of(z.n - j), exp2_of<5>(_mm512_fmsub_ps(_mm512_loadu_ps(m.s + r * z.np + j), c, l)));
      const __m512 ds = _mm512_mul_ps(_mm512_mul_ps(p, sc),
                                      _mm512_sub_ps(_mm512_loadu_ps(m.dp + r * z.np + j), d));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(m.p + r * z.np + j), narrow(p));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(m.ds + r * z.np + j), narrow(ds));
    }
  }
}

// MR rows of w (rows of np) times interleaved tokens.
template <int MR>
void store_product(const HeadSizes& z, const bf16* w, const int32_t* tokens, bf16* out,
                   int64_t ld) {
  for (int64_t c = 0; c < z.dp; c += 16) {
    __m512 acc[MR][1];
    clear(acc);
    tile<MR, 1>(z.np / 2, w, z.np, reinterpret_cast<const bf16*>(tokens + c), 2 * z.dp, acc);
    for (int r = 0; r < MR; ++r)
      _mm256_mask_storeu_epi16(out + r * ld + c, mask_of(z.dh - c), narrow(acc[r][0]));
  }
}

template <int MR>
void attend_back_rows(const HeadSizes& z, const BackScratch& m, const bf16* qkv, int64_t d,
                      bf16* gqkv, int64_t i) {
  const int64_t ld = 3 * d;
  weights_back<MR, true>(z, m, qkv + i * ld, ld, m.kt, m.go + i * z.dp, z.dp, m.vt, i);
  store_product<MR>(z, m.ds, m.k, gqkv + i * ld, ld);
  weights_back<MR, false>(z, m, qkv + d + i * ld, ld, m.qt, qkv + 2 * d + i * ld, ld, m.got, i);
  store_product<MR>(z, m.ds, m.q, gqkv + d + i * ld, ld);
  store_product<MR>(z, m.p, m.goi, gqkv + 2 * d + i * ld, ld);
}

// One head: dS = P (dO V^T - D) scale, D_i = <dO_i, O_i>; dQ = dS K, and, of the transposed rows,
// dK = dS^T Q, dV = P^T dO.
void attend_back(const HeadSizes& z, const BackScratch& m, const bf16* qkv, const HeadOutput& out,
                 const HeadOutput& gout, const float* lse, int64_t d, bf16* gqkv) {
  const int64_t ld = 3 * d;
  for (int64_t i = 0; i < z.np; ++i) {
    float delta = 0;
    if (i < z.n) {
      const bf16 *o = out.row(i), *g = gout.row(i);
      __m512 sum = _mm512_setzero_ps();
      for (int64_t c = 0; c < z.dp; c += 16) {
        const __m256i gi = _mm256_maskz_loadu_epi16(mask_of(z.dh - c), g + c);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(m.go + i * z.dp + c), gi);
        sum = _mm512_fmadd_ps(widen(gi), widen(_mm256_maskz_loadu_epi16(mask_of(z.dh - c), o + c)),
                              sum);
      }
      delta = _mm512_reduce_add_ps(sum);
    }
    m.delta[i] = delta;
    m.lse[i] = i < z.n ? lse[i] * 1.44269504f : 0;
  }
  transpose_pairs(qkv, ld, z.n, z.dh, m.qt, z.np);
  transpose_pairs(qkv + d, ld, z.n, z.dh, m.kt, z.np);
  transpose_pairs(qkv + 2 * d, ld, z.n, z.dh, m.vt, z.np);
  transpose_pairs(m.go, z.dp, z.n, z.dh, m.got, z.np);
  interleave_tokens(qkv, ld, z, m.q);
  interleave_tokens(qkv + d, ld, z, m.k);
  interleave_tokens(m.go, z.dp, z, m.goi);
  int64_t i = 0;
  for (; i + 8 <= z.n; i += 8) attend_back_rows<8>(z, m, qkv, d, gqkv, i);
  if (z.n - i >= 4) attend_back_rows<4>(z, m, qkv, d, gqkv, i), i += 4;
  for (; i < z.n; ++i) attend_back_rows<1>(z, m, qkv, d, gqkv, i);
}

// The MLP and the output product of the samples [first, first + count) backwards: gx holds the
// gradient of the stream between attention and MLP afterwards, and `attended` that of attention.
void finish_back(const StreamBack& s, int64_t d, float eps, int64_t first, int64_t count,
                 const BlockBuffers& m, bf16* attended) {
  const int64_t size = s.n * d, n = count * s.n;
  const float* g = s.gy + first * size;
  float* gx = s.gx + first * size;
  gate_back(g, from(s.mlp_gate, first), s.n, d, count, m.rows);
  multiply({m.rows, d, n}, s.back,
           StoreGeluBack{{m.hidden, n, 0, 4 * d}, s.tape.hidden + first * 4 * size});
  multiply({m.hidden, 4 * d, n}, s.in, Store{{m.rows, n, 0, d}});
  modulate_back(s.tape.middle + first * size, g, m.rows, from(s.mlp_scale, first), s.n, d, eps,
                count, gx);
  bf16* gout = s.gout + first * size;
  gate_back(gx, from(s.gate, first), s.n, d, count, gout);
  const NarrowRows rows{gout, d, n};
  multiply(rows, s.out, Store{{attended, n, 0, d}}, adapted(rows, s.out_adapter, m.u));
}

void joint_block_back(const StreamBack& image, const StreamBack& text, const BlockTape& tape,
                      bf16* gqkv, int64_t d, int64_t heads, float eps, int64_t begin, int64_t end) {
  const int64_t tokens = image.n + text.n, widest = std::max(image.n, text.n);
  const HeadSizes z(tokens, d / heads);
  int64_t rank = 0;
  for (const StreamBack* s : {&image, &text})
    rank = std::max({rank, s->qkv_adapter.down.n, s->out_adapter.down.n});
  const int64_t group = std::clamp<int64_t>(192 / widest, 1, std::max<int64_t>(1, end - begin));
  thread_local Scratch memory;
  memory.room(2 * group * (widest * (8 * d + rank) + tokens * d) + 8 * 64 + BackScratch::bytes(z));
  const auto rows_of = [&](int64_t rows, int64_t width) {
    return memory.take<bf16>(group * rows * width);
  };
  bf16 *rows = rows_of(widest, d), *hidden = rows_of(widest, 4 * d), *u = rows_of(widest, rank),
       *g_image = rows_of(image.n, d), *g_text = rows_of(text.n, d),
       *rows_of_qkv = rows_of(widest, 3 * d);
  const BlockBuffers buffers{rows, hidden, u};
  const BackScratch head(memory, z);
  for (int64_t first = begin; first < end; first += group) {
    const int64_t count = std::min(group, end - first);
    finish_back(image, d, eps, first, count, buffers, g_image);
    if (text.last) {
      std::fill_n(g_text, count * text.n * d, bf16{0});
      std::fill_n(text.gx + first * text.n * d, count * text.n * d, 0.0f);
    } else {
      finish_back(text, d, eps, first, count, buffers, g_text);
    }
    for (int64_t b = 0; b < count; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t at = (first + b) * tokens * 3 * d + h * z.dh;
        const auto split = [&](bf16* of_image, bf16* of_text, int64_t sample) {
          return HeadOutput{of_image + sample * image.n * d + h * z.dh,
                            of_text + sample * text.n * d + h * z.dh, image.n, d};
        };
        attend_back(
            z, head, tape.qkv + at, split(image.tape.attended, text.tape.attended, first + b),
            split(g_image, g_text, b), tape.lse + ((first + b) * heads + h) * tokens, d, gqkv + at);
      }
    }
    int64_t at = 0;
    for (const StreamBack* s : {&image, &text}) {
      const int64_t size = s->n * d;
      for (int64_t b = 0; b < count; ++b)
        std::memcpy(rows_of_qkv + b * s->n * 3 * d, gqkv + ((first + b) * tokens + at) * 3 * d,
                    static_cast<size_t>(s->n * 3 * d) * sizeof(bf16));
      const NarrowRows x{rows_of_qkv, 3 * d, count * s->n};
      multiply(x, s->qkv, Store{{rows, count * s->n, 0, d}}, adapted(x, s->qkv_adapter, u));
      float* gx = s->gx + first * size;
      modulate_back(s->x + first * size, gx, rows, from(s->scale, first), s->n, d, eps, count, gx);
      at += s->n;
    }
  }
}

// ---- pairs
// 2^t - 1.
inline __m512 exp2_less_1(__m512 t) {
  const __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(t, n), one = _mm512_set1_ps(1.0f);
  constexpr float c[] = {0.69314718f, 0.24022651f, 0.05550411f, 0.00961813f, 0.00133336f};
  __m512 p = _mm512_set1_ps(c[4]);
  for (int i = 3; i >= 0; --i) p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c[i]));
  return _mm512_add_ps(_mm512_scalef_ps(_mm512_mul_ps(p, f), n),
                       _mm512_sub_ps(_mm512_scalef_ps(one, n), one));
}

// Weights p of a row of scores s and, of s + ds, how they differ, both times the sum of p's own
// numerators, which is returned: p = e^s, and with E = e^ds - 1 and m = sum(p E) / sum(p)
//   dp = p (E - m) sum(p) / (sum(p) + sum(p E)),
// where nothing cancels. Where ds is large, and numerators would leave fp32's range, the two rows
// of weights are formed apart. s and ds are overwritten.
float softmax_pair_row(float* s, float* ds, int64_t n, int64_t np, float scale, bf16* p, bf16* dp) {
  constexpr float kLarge = 8;  // in powers of 2
  const __m512 none = _mm512_set1_ps(-INFINITY), c = _mm512_set1_ps(scale * 1.44269504f);
  const auto valid = [&](int64_t j) { return mask_of(n - j); };
  __m512 top = none, top_far = none, most = _mm512_setzero_ps();
  for (int64_t j = 0; j < np; j += 16) {
    const __m512 x = _mm512_mul_ps(c, _mm512_loadu_ps(s + j)),
                 d = _mm512_maskz_mul_ps(valid(j), c, _mm512_loadu_ps(ds + j));
    _mm512_storeu_ps(s + j, x);
    _mm512_storeu_ps(ds + j, d);
    top = _mm512_mask_max_ps(top, valid(j), top, x);
    top_far = _mm512_mask_max_ps(top_far, valid(j), top_far, _mm512_add_ps(x, d));
    most = _mm512_max_ps(most, _mm512_abs_ps(d));
  }
  const bool apart = !(_mm512_reduce_max_ps(most) < kLarge);
  const __m512 shift = _mm512_set1_ps(_mm512_reduce_max_ps(top)),
               shift_far = _mm512_set1_ps(_mm512_reduce_max_ps(top_far));
  __m512 sum = _mm512_setzero_ps(), more = _mm512_setzero_ps();
  for (int64_t j = 0; j < np; j += 16) {
    const __m512 x = _mm512_loadu_ps(s + j), d = _mm512_loadu_ps(ds + j);
    const __m512 w = _mm512_maskz_mov_ps(valid(j), exp2_of<5>(_mm512_sub_ps(x, shift)));
    const __m512 e = apart
                         ? _mm512_maskz_mov_ps(
                               valid(j), exp2_of<5>(_mm512_sub_ps(_mm512_add_ps(x, d), shift_far)))
                         : exp2_less_1(d);
    _mm512_storeu_ps(s + j, w);
    _mm512_storeu_ps(ds + j, e);
    sum = _mm512_add_ps(sum, w);
    more = apart ? _mm512_add_ps(more, e) : _mm512_fmadd_ps(w, e, more);
  }
  const float total = _mm512_reduce_add_ps(sum), extra = _mm512_reduce_add_ps(more);
  const __m512 ratio = _mm512_set1_ps(apart ? total / extra : total / (total + extra)),
               mean = _mm512_set1_ps(extra / total);
  for (int64_t j = 0; j < np; j += 16) {
    const __m512 w = _mm512_loadu_ps(s + j), e = _mm512_loadu_ps(ds + j);
    const __m512 d = apart ? _mm512_fmsub_ps(e, ratio, w)
                           : _mm512_mul_ps(_mm512_mul_ps(w, ratio), _mm512_sub_ps(e, mean));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + j), narrow(w));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dp + j), narrow(d));
  }
  return total;
}

struct PairScratch {
  static constexpr int64_t kRows = 8;
  PairScratch(Scratch& m, const HeadSizes& z)
      : even(up(z.dh, 2)),
        q(m.take<bf16>(z.n * 2 * even)),
        k(m.take<bf16>(z.n * 2 * even)),
        far(m.take<bf16>(z.n * z.dh)),
        kt(m.take<int32_t>(z.dp / 2 * z.np)),
        kdt(m.take<int32_t>(up(2 * even, 32) / 2 * z.np)),
        v(m.take<int32_t>(z.np / 2 * z.dp)),
        vd(m.take<int32_t>(z.np * z.dp)),
        s(m.take<float>(kRows * z.np)),
        ds(m.take<float>(kRows * z.np)),
        p(m.take<bf16>(kRows * 2 * z.np)) {}
  static int64_t bytes(const HeadSizes& z) {
    return 2 * z.n * 5 * (z.dh + 1) + 4 * z.np * (z.dp / 2 + z.dh + 18 + z.dp / 2 + z.dp) +
           kRows * z.np * 12 + 11 * 64;
  }
  int64_t even;
  bf16 *q, *k, *far;  // rows (dq, q) and (k + dk, dk); v + dv
  int32_t *kt, *kdt, *v, *vd;
  float *s, *ds;
  bf16* p;  // rows (dp, p)
};

// The sum of two rows of bf16, rounded.
void add_rows(const bf16* a, const bf16* b, int64_t n, bf16* out) {
  for (int64_t c = 0; c < n; c += 16) {
    const __mmask16 m = mask_of(n - c);
    _mm256_mask_storeu_epi16(out + c, m,
                             narrow(_mm512_add_ps(widen(_mm256_maskz_loadu_epi16(m, a + c)),
                                                  widen(_mm256_maskz_loadu_epi16(m, b + c)))));
  }
}

template <int MR>
inline void attend_pair_rows(const HeadSizes& z, const PairScratch& m, const bf16* q, int64_t ld,
                             float scale, int64_t row, const HeadOutput& out,
                             const HeadOutput& dout) {
  constexpr int kStep = MR < 4 ? MR : 4;
  for (int h = 0; h < MR; h += kStep) {
    wide_product<kStep>((z.dh + 1) / 2, q + (row + h) * ld, ld, m.kt, z.np, m.s + h * z.np, z.np);
    wide_product<kStep>(m.even, m.q + (row + h) * 2 * m.even, 2 * m.even, m.kdt, z.np,
                        m.ds + h * z.np, z.np);
  }
  float inverse[MR];
  for (int r = 0; r < MR; ++r) {
    bf16* p = m.p + r * 2 * z.np;
    inverse[r] =
        1.0f / softmax_pair_row(m.s + r * z.np, m.ds + r * z.np, z.n, z.np, scale, p + z.np, p);
  }
  const auto store = [&](const HeadOutput& to, int64_t c, const __m512(&acc)[MR][1]) {
    for (int r = 0; r < MR; ++r)
      _mm256_mask_storeu_epi16(to.row(row + r) + c, mask_of(z.dh - c),
                               narrow(_mm512_mul_ps(acc[r][0], _mm512_set1_ps(inverse[r]))));
  };
  for (int64_t c = 0; c < z.dp; c += 16) {
    __m512 acc[MR][1], dacc[MR][1];
    clear(acc);
    clear(dacc);
    tile<MR, 1>(z.np / 2, m.p + z.np, 2 * z.np, reinterpret_cast<const bf16*>(m.v + c), 2 * z.dp,
                acc);
    tile<MR, 1>(z.np, m.p, 2 * z.np, reinterpret_cast<const bf16*>(m.vd + c), 2 * z.dp, dacc);
    store(out, c, acc);
    store(dout, c, dacc);
  }
}

// ds = dq (k + dk) + q dk, and the difference of the output dp (v + dv) + p dv.
void attend_pair(const HeadSizes& z, const PairScratch& m, const bf16* q, const bf16* dq, int64_t d,
                 const HeadOutput& out, const HeadOutput& dout) {
  const int64_t ld = 3 * d;
  const float scale = 1.0f / std::sqrt(static_cast<float>(z.dh));
  const bf16 *k = q + d, *dk = dq + d, *v = q + 2 * d, *dv = dq + 2 * d;
  const auto bytes = static_cast<size_t>(z.dh) * sizeof(bf16);
  for (int64_t i = 0; i < z.n; ++i) {
    bf16 *row = m.q + i * 2 * m.even, *key = m.k + i * 2 * m.even;
    std::memcpy(row, dq + i * ld, bytes);
    std::memcpy(row + m.even, q + i * ld, bytes);
    add_rows(k + i * ld, dk + i * ld, z.dh, key);
    std::memcpy(key + m.even, dk + i * ld, bytes);
    add_rows(v + i * ld, dv + i * ld, z.dh, m.far + i * z.dh);
  }
  transpose_pairs(k, ld, z.n, z.dh, m.kt, z.np);
  transpose_pairs(m.k, 2 * m.even, z.n, 2 * m.even, m.kdt, z.np);
  interleave_tokens(v, ld, z, m.v);
  interleave_tokens(m.far, z.dh, z, m.vd);
  interleave_tokens(dv, ld, z, m.vd + z.np / 2 * z.dp);
  int64_t i = 0;
  for (; i + 8 <= z.n; i += 8) attend_pair_rows<8>(z, m, q, ld, scale, i, out, dout);
  if (z.n - i >= 4) attend_pair_rows<4>(z, m, q, ld, scale, i, out, dout), i += 4;
  for (; i < z.n; ++i) attend_pair_rows<1>(z, m, q, ld, scale, i, out, dout);
}

// Rows of a value and of its difference through one layer with its adapter.
struct PairRows {
  const bf16 *x, *dx;
  int64_t stride, rows;
};

// What the adapter adds to the difference: u = (x + dx) A^T.
More adapted(const PairRows& x, const PackedAdapter& a, bf16* u) {
  if (a.down.n == 0) return {};
  multiply(NarrowRows{x.x, x.stride, x.rows}, a.down, Store{{u, x.rows, 0, a.down.n}},
           More{x.dx, x.stride, a.down});
  return {u, a.down.n, a.up};
}

template <class S>
void multiply_pair(const PairRows& x, const PackedLinear& w, const PackedAdapter& a, bf16* u,
                   const S& base, const S& difference) {
  multiply(NarrowRows{x.x, x.stride, x.rows}, w, base);
  PackedLinear without_bias = w;
  without_bias.bias = nullptr;
  multiply(NarrowRows{x.dx, x.stride, x.rows}, without_bias, difference, adapted(x, a, u));
}

struct PairBuffers {
  bf16 *rows, *drows, *hidden, *dhidden, *active, *dactive, *u;
  const float* zeros;  // a row's
};

void modulate_pair(const PairStream& s, const float* x, const float* dx, Rows shift, Rows scale,
                   int64_t d, float eps, int64_t first, int64_t count, const PairBuffers& m) {
  const auto from = [&](Rows r) { return Rows{r.data + first * r.stride, r.stride}; };
  const Rows none{m.zeros, 0};
  avx512_table().b16.ln_modulate_pair(x, dx, from(shift), from(scale), none, none, s.base.n, d, eps,
                                      m.rows, m.drows, 0, count);
}

void finish_pair(const PairStream& s, const bf16* attended, const bf16* dattended, int64_t d,
                 float eps, int64_t first, int64_t count, const PairBuffers& m) {
  const int64_t size = s.base.n * d, n = count * s.base.n;
  float *y = s.base.y + first * size, *dy = s.dy + first * size;
  const auto gated = [&](Rows g, const float* from, float* to) {
    return StoreGated{
        {g.data + first * g.stride, g.stride}, {from, s.base.n, size, d}, {to, s.base.n, size, d}};
  };
  multiply_pair({attended, dattended, d, n}, s.base.out, s.out, m.u,
                gated(s.base.gate, s.base.x + first * size, y),
                gated(s.base.gate, s.dx + first * size, dy));
  modulate_pair(s, y, dy, s.base.mlp_shift, s.base.mlp_scale, d, eps, first, count, m);
  multiply_pair({m.rows, m.drows, d, n}, s.base.in, s.in, m.u, Store{{m.hidden, n, 0, 4 * d}},
                Store{{m.dhidden, n, 0, 4 * d}});
  avx512_table().b16.gelu_pair(m.hidden, m.dhidden, m.active, m.dactive, 0, n * 4 * d);
  multiply_pair({m.active, m.dactive, 4 * d, n}, s.base.back, s.back, m.u,
                gated(s.base.mlp_gate, y, y), gated(s.base.mlp_gate, dy, dy));
}

int64_t widest_rank(const PairStream& s) {
  return std::max({s.qkv.down.n, s.out.down.n, s.in.down.n, s.back.down.n});
}

void joint_block_pair(const PairStream& image, const PairStream& text, int64_t d, int64_t heads,
                      float eps, int64_t begin, int64_t end) {
  const int64_t n = image.base.n, m = text.base.n, tokens = n + m, widest = std::max(n, m);
  const HeadSizes z(tokens, d / heads);
  const int64_t group = std::clamp<int64_t>(96 / widest, 1, std::max<int64_t>(1, end - begin));
  const int64_t rank = std::max(widest_rank(image), widest_rank(text));
  thread_local Scratch memory;
  memory.room(2 * group * (2 * widest * d + 8 * tokens * d + 16 * widest * d + widest * rank) +
              4 * d + 16 * 64 + PairScratch::bytes(z));
  const auto rows_of = [&](int64_t rows, int64_t width) {
    return memory.take<bf16>(group * rows * width);
  };
  auto* zeros = memory.take<float>(d);
  std::fill_n(zeros, d, 0.0f);
  bf16 *rows = rows_of(widest, d), *drows = rows_of(widest, d), *hidden = rows_of(widest, 4 * d),
       *dhidden = rows_of(widest, 4 * d), *active = rows_of(widest, 4 * d),
       *dactive = rows_of(widest, 4 * d), *u = rows_of(widest, rank);
  const PairBuffers buffers{rows, drows, hidden, dhidden, active, dactive, u, zeros};
  bf16 *qkv = rows_of(tokens, 3 * d), *dqkv = rows_of(tokens, 3 * d), *o_image = rows_of(n, d),
       *do_image = rows_of(n, d), *o_text = rows_of(m, d), *do_text = rows_of(m, d);
  const PairScratch head(memory, z);
  for (int64_t first = begin; first < end; first += group) {
    const int64_t count = std::min(group, end - first);
    int64_t at = 0;
    for (const PairStream* s : {&image, &text}) {
      const int64_t size = s->base.n * d;
      modulate_pair(*s, s->base.x + first * size, s->dx + first * size, s->base.shift,
                    s->base.scale, d, eps, first, count, buffers);
      const auto joint = [&](bf16* to) {
        return Store{{to + at * 3 * d, s->base.n, tokens * 3 * d, 3 * d}};
      };
      multiply_pair({rows, drows, d, count * s->base.n}, s->base.qkv, s->qkv, u, joint(qkv),
                    joint(dqkv));
      at += s->base.n;
    }
    for (int64_t b = 0; b < count; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t from = b * tokens * 3 * d + h * z.dh, i = b * n * d + h * z.dh,
                      t = b * m * d + h * z.dh;
        attend_pair(z, head, qkv + from, dqkv + from, d, {o_image + i, o_text + t, n, d},
                    {do_image + i, do_text + t, n, d});
      }
    }
    finish_pair(image, o_image, do_image, d, eps, first, count, buffers);
    if (!text.base.last) finish_pair(text, o_text, do_text, d, eps, first, count, buffers);
  }
}

}  // namespace

const NarrowKernels& avx512_bf16_kernels() {
  static const NarrowKernels kernels{
      pack,        product,          product_wide, product_gelu,    product_gated,
      joint_block, joint_block_pair, run_block,    joint_block_back};
  return kernels;
}

}  // namespace vggflow::kernels
