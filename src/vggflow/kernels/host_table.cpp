// The device kernels on the host, one lane for each row: the instantiation of rows.h that the tests
// measure, and a back end for accelerators that exist in tests alone.
#include "vggflow/kernels/device_table.h"
#include "vggflow/kernels/rows.h"

namespace vggflow::kernels {
namespace {

using rows::kChunk;
using rows::OneLane;

// Calls f with a value of the type that `type` names.
template <class F>
void with_type(Type type, F f) {
  type == Type::kFloat ? f(float{}) : f(bf16{});
}
template <class F>
void with_types(Type x, Type y, F f) {
  with_type(x, [&](auto tx) { with_type(y, [&](auto ty) { f(tx, ty); }); });
}

void* no_stream() { return nullptr; }

const char* ln_modulate(const LnModulate& a, void*) {
  with_types(a.x_type, a.y_type, [&](auto x, auto y) {
    using X = decltype(x);
    using T = decltype(y);
    for (int64_t r = 0; r < a.batch * a.rows; ++r) {
      a.dx ? rows::ln_modulate<true, X, T>(OneLane{}, a, r)
           : rows::ln_modulate<false, X, T>(OneLane{}, a, r);
    }
  });
  return nullptr;
}

const char* ln_modulate_backward(const LnModulateBackward& a, void*) {
  const int64_t parts = partials(a.rows), stride = 2 * a.width;
  with_types(a.x_type, a.y_type, [&](auto x, auto y) {
    using X = decltype(x);
    using T = decltype(y);
    for (int64_t r = 0; r < a.batch * a.rows; ++r)
      rows::ln_modulate_backward<X, T>(OneLane{}, a, r);
    for (int64_t b = 0; b < a.batch; ++b) {
      for (int64_t part = 0; part < parts; ++part) {
        for (int64_t i = 0; i < a.width; i += kChunk)
          rows::ln_modulate_partial<X, T>(a, b, part, i);
      }
    }
  });
  for (int64_t b = 0; b < a.batch; ++b) {
    const float* p = a.partial + b * parts * stride;
    for (int64_t i = 0; i < a.width; ++i) {
      a.gshift[b * a.width + i] = rows::sum_partials(p, parts, stride, i);
      a.gscale[b * a.width + i] = rows::sum_partials(p + a.width, parts, stride, i);
    }
  }
  return nullptr;
}

const char* gate(const Gate& a, void*) {
  with_types(a.x_type, a.y_type, [&](auto x, auto y) {
    using X = decltype(x);
    using T = decltype(y);
    for (int64_t r = 0; r < a.batch * a.rows; ++r) {
      if (a.next) {
        a.dx ? rows::gate<true, true, X, T>(OneLane{}, a, r)
             : rows::gate<false, true, X, T>(OneLane{}, a, r);
      } else {
        a.dx ? rows::gate<true, false, X, T>(OneLane{}, a, r)
             : rows::gate<false, false, X, T>(OneLane{}, a, r);
      }
    }
  });
  return nullptr;
}

const char* gate_backward(const GateBackward& a, void*) {
  const int64_t parts = partials(a.rows);
  with_types(a.x_type, a.y_type, [&](auto x, auto y) {
    using X = decltype(x);
    using T = decltype(y);
    for (int64_t r = 0; r < a.batch * a.rows; ++r) rows::gate_backward<X, T>(OneLane{}, a, r);
    for (int64_t b = 0; b < a.batch; ++b) {
      for (int64_t part = 0; part < parts; ++part) {
        for (int64_t i = 0; i < a.width; i += kChunk) rows::gate_partial<X, T>(a, b, part, i);
      }
    }
  });
  for (int64_t b = 0; b < a.batch; ++b) {
    for (int64_t i = 0; i < a.width; ++i)
      a.ggate[b * a.width + i] =
          rows::sum_partials(a.partial + b * parts * a.width, parts, a.width, i);
  }
  return nullptr;
}

const char* gelu(const Gelu& a, void*) {
  with_type(a.type, [&](auto t) {
    using T = decltype(t);
    for (int64_t i = 0; i < a.count; i += kChunk)
      a.dx ? rows::gelu<true, T>(a, i) : rows::gelu<false, T>(a, i);
  });
  return nullptr;
}

const char* gelu_backward(const GeluBackward& a, void*) {
  with_type(a.type, [&](auto t) {
    for (int64_t i = 0; i < a.count; i += kChunk) rows::gelu_backward<decltype(t)>(a, i);
  });
  return nullptr;
}

template <class A>
int64_t heads_of(const A& a) {
  return a.batch * (a.first.rows + a.second.rows) * 3 * a.heads;
}

const char* qk_norm(const QkNorm& a, void*) {
  with_type(a.type, [&](auto t) {
    using T = decltype(t);
    for (int64_t item = 0; item < heads_of(a); ++item) {
      a.first.dqkv ? rows::qk_norm<true, T>(OneLane{}, a, item)
                   : rows::qk_norm<false, T>(OneLane{}, a, item);
    }
  });
  return nullptr;
}

const char* qk_norm_backward(const QkNormBackward& a, void*) {
  with_type(a.type, [&](auto t) {
    for (int64_t item = 0; item < heads_of(a); ++item)
      rows::qk_norm_backward<decltype(t)>(OneLane{}, a, item);
  });
  return nullptr;
}

const char* lora_up(const LoraUp& a, void*) {
  with_type(a.type, [&](auto t) {
    using T = decltype(t);
    for (int64_t i = 0; i < a.width; i += kChunk) {
      const int n = rows::chunk_size(a.width - i);
      rows::lora_up<T>(a, a.y, a.u, a.out, i, n, 0, a.rows);
      if (a.dy) rows::lora_up<T>(a, a.dy, a.du, a.dout, i, n, 0, a.rows);
    }
  });
  return nullptr;
}

const char* lora_up_backward(const LoraUpBackward& a, void*) {
  with_type(a.type, [&](auto t) {
    using T = decltype(t);
    for (int64_t r = 0; r < a.rows; ++r) rows::lora_down<T>(OneLane{}, a, r);
    for (int64_t part = 0; part < partials(a.rows); ++part) {
      for (int64_t i = 0; i < a.width; i += kChunk) {
        for (int64_t k = 0; k < a.rank; k += rows::kRanks) rows::lora_partial<T>(a, part, i, k);
      }
    }
  });
  const int64_t count = a.width * a.rank;
  for (int64_t i = 0; i < count; ++i)
    a.gb[i] = a.scale * rows::sum_partials(a.partial, partials(a.rows), count, i);
  return nullptr;
}

const char* adamw(const AdamWStep& step, const AdamWArrays& a, void*) {
  for (int64_t i = 0; i < a.count; ++i) rows::adamw(step, a, i);
  return nullptr;
}

}  // namespace

const DeviceTable& host_table() {
  static const DeviceTable table{no_stream,        ln_modulate, ln_modulate_backward, gate,
                                 gate_backward,    gelu,        gelu_backward,        qk_norm,
                                 qk_norm_backward, lora_up,     lora_up_backward,     adamw};
  return table;
}

}  // namespace vggflow::kernels
