#pragma once
// Derivatives against central differences in float64: one line an op.

#include <functional>
#include <vector>

#include "vggflow/ops/dual.h"

namespace vggflow::testing {

/// Random fp64 tensor, keyed by `id`, scaled.
Tensor random_double(at::IntArrayRef shape, uint64_t id, double scale = 1.0);

/// Largest |got - want| / max(1, max |want|).
double relative_error(const Tensor& got, const Tensor& want);

/// Largest |got - want| / max |want|; where that is 0, the difference. Shapes must be equal.
double scaled_error(const Tensor& got, const Tensor& want);

/// |got - want| / |want|, 2-norms over all elements.
double norm_error(const Tensor& got, const Tensor& want);

/// Largest relative error between reverse mode and central differences of f's sum against random
/// weights, over all inputs.
double gradient_error(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                      const std::vector<Tensor>& inputs, double h = 1e-5);

/// Largest relative error between the tangent of f at (x, dx) and the central difference along dx;
/// also of the primal.
double tangent_error(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                     const std::function<Dual(const std::vector<Dual>&)>& f_dual,
                     const std::vector<Tensor>& inputs, double h = 1e-5);

}  // namespace vggflow::testing
