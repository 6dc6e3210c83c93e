#include "vggflow/algorithms/renoised.h"

#include <ATen/ATen.h>

#include <cmath>
#include <vector>

#include "vggflow/algorithms/transitions.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/random_tensor.h"

namespace vggflow {

Renoised renoise(const UpdateInput& input, const Tensor& x1, const Tensor& rows, int64_t draws,
                 NoiseLevels levels) {
  const int64_t batch = x1.size(0);
  std::vector<int64_t> shape = x1.sizes().slice(1).vec();
  shape.insert(shape.begin(), draws);
  const Tensor noise =
      keyed_normal(input.seed, Purpose::kPathNoise, input.update, input.first_sample, batch, shape)
          .to(x1.options());
  std::vector<double> times;
  for (int64_t i = 0; i < batch; ++i) {
    RandomStream random = steps_stream(input, i);
    for (int64_t d = 0; d < draws; ++d) {
      const double u = (static_cast<double>(d) + random.uniform()) / static_cast<double>(draws);
      times.push_back(levels == NoiseLevels::kHigh ? 1 - std::sqrt(u) : u);
    }
  }
  const Tensor t = at::tensor(times, at::kDouble).to(x1.options()).view({batch, draws});
  Renoised out;
  out.noise = noise.index_select(0, rows).flatten(0, 1);
  out.end = x1.index_select(0, rows).repeat_interleave(draws, 0);
  out.states.t = t.index_select(0, rows).flatten();
  out.states.rows = rows.repeat_interleave(draws, 0);
  const Tensor time = expand_time(out.states.t, out.end);
  out.states.x = time * out.end + (1 - time) * out.noise;
  return out;
}

}  // namespace vggflow
