#include "vggflow/ops/attention.h"

#include <ATen/ops/scaled_dot_product_attention.h>

#include <string_view>

#include "vggflow/core/error.h"
#include "vggflow/ops/dual.h"

namespace vggflow::ops {
namespace {

// What LibTorch throws where math is switched off and no other kernel takes the inputs.
bool is_no_kernel(const c10::Error& e) {
  const std::string_view text = e.what_without_backtrace();
  return text.find("No available kernel") != std::string_view::npos ||
         text.find("No viable backend") != std::string_view::npos ||
         text.find("Invalid backend") != std::string_view::npos;
}

double gib_of_scores(const Tensor& q, const Tensor& k) {
  return static_cast<double>(q.size(0) * q.size(1) * q.size(2) * k.size(2)) *
         static_cast<double>(q.element_size()) / (1024.0 * 1024.0 * 1024.0);
}

}  // namespace

Tensor fused_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                       const std::optional<Tensor>& mask) {
  try {
    return at::scaled_dot_product_attention(q, k, v, mask);
  } catch (const c10::Error& e) {
    if (!is_no_kernel(e)) throw;
    fail(
        "[attention] no fused kernel of this GPU takes q {}, k {} of {}, and the plain "
        "formula, with scores of {:.2f} GiB, is not taken in silence: use "
        "precision=bf16 or fp32 and heads of a multiple of 8 channels",
        shape_string(q), shape_string(k), c10::toString(q.scalar_type()), gib_of_scores(q, k));
  }
}

}  // namespace vggflow::ops
