#include "vggflow/io/finite.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

// IEEE numbers whose exponent is all ones are infinite or NaN. The inner loop has no branch, so
// that the compiler makes vectors of it.
template <class Bits>
bool none_has(const Bits* bits, int64_t count, Bits exponent) {
  constexpr int64_t kGrain = 1 << 16, kBlock = 1024;
  std::atomic<bool> found = false;
  at::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end && !found.load(std::memory_order_relaxed); i += kBlock) {
      const int64_t stop = std::min(end, i + kBlock);
      bool bad = false;
      for (int64_t k = i; k < stop; ++k) bad |= (bits[k] & exponent) == exponent;
      if (bad) found.store(true, std::memory_order_relaxed);
    }
  });
  return !found.load();
}

}  // namespace

bool all_finite(const at::Tensor& x) {
  if (!x.is_floating_point() && !x.is_complex()) return true;
  if (x.is_meta() || x.numel() == 0) return true;
  if (!x.is_cpu()) return x.isfinite().all().item<bool>();
  const at::Tensor dense = x.detach().contiguous();
  const auto* data = dense.const_data_ptr();
  switch (x.scalar_type()) {
    case at::kBFloat16:
      return none_has(static_cast<const uint16_t*>(data), x.numel(), uint16_t{0x7F80});
    case at::kHalf:
      return none_has(static_cast<const uint16_t*>(data), x.numel(), uint16_t{0x7C00});
    case at::kFloat:
      return none_has(static_cast<const uint32_t*>(data), x.numel(), uint32_t{0x7F800000});
    case at::kDouble:
      return none_has(static_cast<const uint64_t*>(data), x.numel(), uint64_t{0x7FF0000000000000});
    default:
      return (x.is_complex() ? dense : dense.to(at::kFloat)).isfinite().all().item<bool>();
  }
}

std::string weight_fault(const at::Tensor& x) {
  if (!x.is_floating_point())
    return fmt::format("has dtype {}, expected floating point", c10::toString(x.scalar_type()));
  return all_finite(x) ? "" : "holds numbers that are not finite";
}

void require_finite_image(const at::Tensor& pixels) {
  VGGFLOW_CHECK(all_finite(pixels),
                "[image] the image holds numbers that are not finite: it is none. Look for weights "
                "or a LoRA that diverged, or for a range that is too small (precision fp16)");
}

}  // namespace vggflow
