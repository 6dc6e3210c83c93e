#include "vggflow/ops/random_tensor.h"

#include <ATen/ops/empty.h>

#include <vector>

namespace vggflow {

Tensor keyed_normal(uint64_t seed, Purpose purpose, uint64_t update, uint64_t first_sample,
                    int64_t count, at::IntArrayRef shape) {
  std::vector<int64_t> full{count};
  full.insert(full.end(), shape.begin(), shape.end());
  Tensor out = at::empty(full, at::kFloat);
  const int64_t each = count > 0 ? out.numel() / count : 0;
  float* p = out.mutable_data_ptr<float>();
  for (int64_t i = 0; i < count; ++i) {
    RandomStream({seed, purpose, update, first_sample + static_cast<uint64_t>(i)})
        .fill_normal({p + i * each, static_cast<size_t>(each)});
  }
  return out;
}

}  // namespace vggflow
