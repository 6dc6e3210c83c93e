#include "vggflow/flow/conditioning.h"

#include <ATen/ops/cat.h>

#include <vector>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

// `f` of every tensor that is there.
template <class F>
Conditioning mapped(const Conditioning& c, const F& f) {
  const auto of = [&](const Tensor& x) { return x.defined() ? f(x) : x; };
  Conditioning out{of(c.context), of(c.pooled)};
  for (const auto& [name, tensor] : c.more) out.more[name] = of(tensor);
  return out;
}

Tensor joined(const Tensor& a, const Tensor& b, const std::string& name) {
  VGGFLOW_CHECK(a.defined() == b.defined(),
                "[conditioning] expected '{}' in both parts or in neither, got it in one", name);
  return a.defined() ? at::cat({a, b}) : a;
}

}  // namespace

Conditioning Conditioning::rows(int64_t start, int64_t length) const {
  return mapped(*this, [&](const Tensor& x) { return x.narrow(0, start, length); });
}

Conditioning Conditioning::rows(const Tensor& index) const {
  return mapped(*this, [&](const Tensor& x) { return x.index_select(0, index); });
}

Conditioning Conditioning::expand(int64_t count) const {
  return mapped(*this, [&](const Tensor& x) {
    std::vector<int64_t> shape = x.sizes().vec();
    shape[0] = count;
    return x.expand(shape);
  });
}

Conditioning Conditioning::to(at::ScalarType dtype) const {
  return mapped(*this, [&](const Tensor& x) { return x.is_floating_point() ? x.to(dtype) : x; });
}

Conditioning Conditioning::concat(const Conditioning& a, const Conditioning& b) {
  VGGFLOW_CHECK(a.more.size() == b.more.size(),
                "[conditioning] expected the same tensors in both parts, got {} and {} besides "
                "context and pooled",
                a.more.size(), b.more.size());
  Conditioning out{joined(a.context, b.context, "context"), joined(a.pooled, b.pooled, "pooled")};
  for (const auto& [name, tensor] : a.more) {
    const auto other = b.more.find(name);
    out.more[name] = joined(tensor, other == b.more.end() ? Tensor() : other->second, name);
  }
  return out;
}

}  // namespace vggflow
