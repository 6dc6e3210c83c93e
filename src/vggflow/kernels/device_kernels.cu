// The device kernels on CUDA: rows.h with a block, or a part of a warp, for a team. Memory-bound
// all of them: each value is read from memory once (a row's second and third pass hit the cache),
// 16 bytes at a time. No atomics: lanes meet in a fixed order, and column sums go through ordered
// partial sums. No torch header here; the plug-in (device/cuda_plugin.cpp) brings the stream.
#include <cuda_runtime.h>

#include "vggflow/kernels/device_table.h"
#include "vggflow/kernels/rows.h"

namespace vggflow::kernels {
namespace {

using rows::kChunk;

constexpr int kMaxThreads = 256;
constexpr int kColumnThreads = 64;  // of a column sum, 8 columns each
constexpr int kMaxSums = rows::kRanks;

// A block as a team.
struct Block {
  float* shared;  // kMaxSums * 32
  __device__ int lane() const { return static_cast<int>(threadIdx.x); }
  __device__ int lanes() const { return static_cast<int>(blockDim.x); }
  template <int N>
  __device__ void sum(float (&v)[N]) const {
    static_assert(N <= kMaxSums);
    const int warp = lane() / 32, warps = lanes() / 32;
#pragma unroll
    for (int k = 0; k < N; ++k) {
#pragma unroll
      for (int o = 16; o > 0; o /= 2) v[k] += __shfl_xor_sync(0xffffffffu, v[k], o);
      if (lane() % 32 == 0) shared[k * 32 + warp] = v[k];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < N; ++k) {
      float s = 0;
      for (int w = 0; w < warps; ++w) s += shared[k * 32 + w];
      v[k] = s;
    }
    __syncthreads();
  }
};

// kLanes neighbours of a warp as a team; all lanes of the warp take part in every sum.
template <int kLanes>
struct WarpPart {
  __device__ int lane() const { return static_cast<int>(threadIdx.x) % kLanes; }
  __device__ int lanes() const { return kLanes; }
  template <int N>
  __device__ void sum(float (&v)[N]) const {
#pragma unroll
    for (int k = 0; k < N; ++k) {
#pragma unroll
      for (int o = kLanes / 2; o > 0; o /= 2) v[k] += __shfl_xor_sync(0xffffffffu, v[k], o);
    }
  }
};

template <bool kDual, class X, class T>
__global__ void ln_modulate_kernel(LnModulate a) {
  __shared__ float shared[2 * 32];
  rows::ln_modulate<kDual, X, T>(Block{shared}, a, blockIdx.x);
}
template <class X, class T>
__global__ void ln_modulate_backward_kernel(LnModulateBackward a) {
  __shared__ float shared[2 * 32];
  rows::ln_modulate_backward<X, T>(Block{shared}, a, blockIdx.x);
}
template <class X, class T>
__global__ void ln_modulate_partial_kernel(LnModulateBackward a) {
  const int64_t i = int64_t{kChunk} * (int64_t{blockIdx.x} * blockDim.x + threadIdx.x);
  if (i < a.width) rows::ln_modulate_partial<X, T>(a, blockIdx.z, blockIdx.y, i);
}
__global__ void ln_modulate_sum_kernel(LnModulateBackward a) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, b = blockIdx.y;
  if (i >= a.width) return;
  const int64_t parts = partials(a.rows), stride = 2 * a.width;
  const float* p = a.partial + b * parts * stride;
  a.gshift[b * a.width + i] = rows::sum_partials(p, parts, stride, i);
  a.gscale[b * a.width + i] = rows::sum_partials(p + a.width, parts, stride, i);
}

template <bool kDual, bool kNext, class X, class T>
__global__ void gate_kernel(Gate a) {
  __shared__ float shared[2 * 32];
  rows::gate<kDual, kNext, X, T>(Block{shared}, a, blockIdx.x);
}
template <class X, class T>
__global__ void gate_backward_kernel(GateBackward a) {
  rows::gate_backward<X, T>(Block{nullptr}, a, blockIdx.x);
}
template <class X, class T>
__global__ void gate_partial_kernel(GateBackward a) {
  const int64_t i = int64_t{kChunk} * (int64_t{blockIdx.x} * blockDim.x + threadIdx.x);
  if (i < a.width) rows::gate_partial<X, T>(a, blockIdx.z, blockIdx.y, i);
}
__global__ void gate_sum_kernel(GateBackward a) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, b = blockIdx.y;
  if (i >= a.width) return;
  const int64_t parts = partials(a.rows);
  a.ggate[b * a.width + i] = rows::sum_partials(a.partial + b * parts * a.width, parts, a.width, i);
}

template <bool kDual, class T>
__global__ void gelu_kernel(Gelu a) {
  const int64_t i = int64_t{kChunk} * (int64_t{blockIdx.x} * blockDim.x + threadIdx.x);
  if (i < a.count) rows::gelu<kDual, T>(a, i);
}
template <class T>
__global__ void gelu_backward_kernel(GeluBackward a) {
  const int64_t i = int64_t{kChunk} * (int64_t{blockIdx.x} * blockDim.x + threadIdx.x);
  if (i < a.count) rows::gelu_backward<T>(a, i);
}

// Heads of up to 64 channels take 8 lanes, wider ones loop over the 8. Lanes past the last head do
// it once more, so that sums find all of them, with the same result in the same place.
constexpr int kHeadLanes = 8;
template <class A>
__device__ int64_t head_item(int64_t items) {
  const int64_t item = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kHeadLanes;
  return item < items ? item : items - 1;
}
template <bool kDual, class T>
__global__ void qk_norm_kernel(QkNorm a, int64_t items) {
  rows::qk_norm<kDual, T>(WarpPart<kHeadLanes>{}, a, head_item<QkNorm>(items));
}
template <class T>
__global__ void qk_norm_backward_kernel(QkNormBackward a, int64_t items) {
  rows::qk_norm_backward<T>(WarpPart<kHeadLanes>{}, a, head_item<QkNormBackward>(items));
}

template <class T>
__global__ void lora_up_kernel(LoraUp a, const void* y, const void* u, void* out) {
  const int64_t i = int64_t{kChunk} * (int64_t{blockIdx.x} * blockDim.x + threadIdx.x);
  const rows::RowRange range = rows::rows_of_partial(a.rows, 0, blockIdx.y);
  if (i < a.width)
    rows::lora_up<T>(a, y, u, out, i, rows::chunk_size(a.width - i), range.begin, range.end);
}
template <class T>
__global__ void lora_down_kernel(LoraUpBackward a) {
  __shared__ float shared[kMaxSums * 32];
  rows::lora_down<T>(Block{shared}, a, blockIdx.x);
}
template <class T>
__global__ void lora_partial_kernel(LoraUpBackward a) {
  const int64_t i = int64_t{kChunk} * (int64_t{blockIdx.x} * blockDim.x + threadIdx.x);
  if (i < a.width) rows::lora_partial<T>(a, blockIdx.y, i, int64_t{rows::kRanks} * blockIdx.z);
}
__global__ void lora_sum_kernel(LoraUpBackward a) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, count = a.width * a.rank;
  if (i < count) a.gb[i] = a.scale * rows::sum_partials(a.partial, partials(a.rows), count, i);
}

__global__ void adamw_kernel(AdamWStep step, AdamWArrays a) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < a.count) rows::adamw(step, a, i);
}

// ---- launches

const char* status() {
  const cudaError_t e = cudaGetLastError();
  return e == cudaSuccess ? nullptr : cudaGetErrorString(e);
}

unsigned blocks(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}
// Whole warps, one chunk for each lane where the row is short enough.
int row_threads(int64_t width) {
  const int64_t lanes = (width + kChunk - 1) / kChunk;
  return static_cast<int>(lanes >= kMaxThreads ? kMaxThreads : (lanes + 31) / 32 * 32);
}
dim3 column_grid(int64_t width, int64_t rows, int64_t batch) {
  return dim3(blocks(width, kColumnThreads * kChunk), static_cast<unsigned>(partials(rows)),
              static_cast<unsigned>(batch));
}

// f.template operator()<X, T>() for the two types.
template <class F>
void with_types(Type x, Type t, F f) {
  if (x == Type::kFloat) {
    t == Type::kFloat ? f.template operator()<float, float>()
                      : f.template operator()<float, bf16>();
  } else {
    t == Type::kFloat ? f.template operator()<bf16, float>() : f.template operator()<bf16, bf16>();
  }
}
template <class F>
void with_type(Type t, F f) {
  t == Type::kFloat ? f.template operator()<float>() : f.template operator()<bf16>();
}

const char* ln_modulate(const LnModulate& a, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const unsigned grid = blocks(a.batch * a.rows, 1);
  const int threads = row_threads(a.width);
  with_types(a.x_type, a.y_type, [&]<class X, class T>() {
    if (a.dx) {
      ln_modulate_kernel<true, X, T><<<grid, threads, 0, s>>>(a);
    } else {
      ln_modulate_kernel<false, X, T><<<grid, threads, 0, s>>>(a);
    }
  });
  return status();
}

const char* ln_modulate_backward(const LnModulateBackward& a, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  with_types(a.x_type, a.y_type, [&]<class X, class T>() {
    ln_modulate_backward_kernel<X, T>
        <<<blocks(a.batch * a.rows, 1), row_threads(a.width), 0, s>>>(a);
    ln_modulate_partial_kernel<X, T>
        <<<column_grid(a.width, a.rows, a.batch), kColumnThreads, 0, s>>>(a);
  });
  ln_modulate_sum_kernel<<<dim3(blocks(a.width, 128), static_cast<unsigned>(a.batch)), 128, 0, s>>>(
      a);
  return status();
}

template <bool kDual, bool kNext>
void launch_gate(const Gate& a, cudaStream_t s) {
  with_types(a.x_type, a.y_type, [&]<class X, class T>() {
    gate_kernel<kDual, kNext, X, T><<<blocks(a.batch * a.rows, 1), row_threads(a.width), 0, s>>>(a);
  });
}
const char* gate(const Gate& a, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  if (a.next) {
    a.dx ? launch_gate<true, true>(a, s) : launch_gate<false, true>(a, s);
  } else {
    a.dx ? launch_gate<true, false>(a, s) : launch_gate<false, false>(a, s);
  }
  return status();
}

const char* gate_backward(const GateBackward& a, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  with_types(a.x_type, a.y_type, [&]<class X, class T>() {
    gate_backward_kernel<X, T><<<blocks(a.batch * a.rows, 1), row_threads(a.width), 0, s>>>(a);
    gate_partial_kernel<X, T><<<column_grid(a.width, a.rows, a.batch), kColumnThreads, 0, s>>>(a);
  });
  gate_sum_kernel<<<dim3(blocks(a.width, 128), static_cast<unsigned>(a.batch)), 128, 0, s>>>(a);
  return status();
}

const char* gelu(const Gelu& a, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const unsigned grid = blocks(a.count, kMaxThreads * kChunk);
  with_type(a.type, [&]<class T>() {
    if (a.dx) {
      gelu_kernel<true, T><<<grid, kMaxThreads, 0, s>>>(a);
    } else {
      gelu_kernel<false, T><<<grid, kMaxThreads, 0, s>>>(a);
    }
  });
  return status();
}

const char* gelu_backward(const GeluBackward& a, void* stream) {
  with_type(a.type, [&]<class T>() {
    gelu_backward_kernel<T><<<blocks(a.count, kMaxThreads * kChunk), kMaxThreads, 0,
                              static_cast<cudaStream_t>(stream)>>>(a);
  });
  return status();
}

template <class A>
int64_t heads_of(const A& a) {
  return a.batch * (a.first.rows + a.second.rows) * 3 * a.heads;
}

const char* qk_norm(const QkNorm& a, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const int64_t items = heads_of(a);
  const unsigned grid = blocks(items * kHeadLanes, kMaxThreads);
  with_type(a.type, [&]<class T>() {
    if (a.first.dqkv) {
      qk_norm_kernel<true, T><<<grid, kMaxThreads, 0, s>>>(a, items);
    } else {
      qk_norm_kernel<false, T><<<grid, kMaxThreads, 0, s>>>(a, items);
    }
  });
  return status();
}

const char* qk_norm_backward(const QkNormBackward& a, void* stream) {
  const int64_t items = heads_of(a);
  with_type(a.type, [&]<class T>() {
    qk_norm_backward_kernel<T><<<blocks(items * kHeadLanes, kMaxThreads), kMaxThreads, 0,
                                 static_cast<cudaStream_t>(stream)>>>(a, items);
  });
  return status();
}

const char* lora_up(const LoraUp& a, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const dim3 grid = column_grid(a.width, a.rows, 1);
  with_type(a.type, [&]<class T>() {
    lora_up_kernel<T><<<grid, kColumnThreads, 0, s>>>(a, a.y, a.u, a.out);
    if (a.dy) lora_up_kernel<T><<<grid, kColumnThreads, 0, s>>>(a, a.dy, a.du, a.dout);
  });
  return status();
}

const char* lora_up_backward(const LoraUpBackward& a, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  with_type(a.type, [&]<class T>() {
    lora_down_kernel<T><<<blocks(a.rows, 1), row_threads(a.width), 0, s>>>(a);
    lora_partial_kernel<T>
        <<<column_grid(a.width, a.rows, (a.rank + rows::kRanks - 1) / rows::kRanks), kColumnThreads,
           0, s>>>(a);
  });
  lora_sum_kernel<<<blocks(a.width * a.rank, 128), 128, 0, s>>>(a);
  return status();
}

const char* adamw(const AdamWStep& step, const AdamWArrays& a, void* stream) {
  adamw_kernel<<<blocks(a.count, kMaxThreads), kMaxThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      step, a);
  return status();
}

}  // namespace

/// The table; `stream` gives the one that work on tensors goes to.
const DeviceTable* cuda_table(void* (*stream)()) {
  static const DeviceTable table{stream,           ln_modulate, ln_modulate_backward, gate,
                                 gate_backward,    gelu,        gelu_backward,        qk_norm,
                                 qk_norm_backward, lora_up,     lora_up_backward,     adamw};
  return &table;
}

}  // namespace vggflow::kernels
