#include "vggflow/weights/merged_model.h"

#include <ATen/ATen.h>

#include "vggflow/core/error.h"
#include "vggflow/weights/lora_formats.h"

namespace vggflow {

void check_merged_layer(const std::string& name, const Tensor& before, const Tensor& exact,
                        const Tensor& written, at::ScalarType dtype, WrittenModel& seen) {
  const double change = (exact - before.to(at::kFloat)).norm().item<double>();
  if (change == 0) return;
  VGGFLOW_CHECK(!at::equal(written.to(dtype), before.to(dtype)),
                "[export] the change of '{}' is lost by rounding to {}: write fp32", name,
                name_of(dtype));
  const double error = (written.to(at::kFloat) - exact).norm().item<double>() / change;
  if (error < seen.worst_rounding) return;
  seen.worst_rounding = error;
  seen.worst_name = name;
}

double check_merged_output(const Tensor& base, const Tensor& adapted, const Tensor& merged,
                           at::ScalarType dtype) {
  const double bound = denoiser_tolerance(dtype), error = largest_relative_error(merged, adapted),
               change = largest_relative_error(base, adapted);
  const char* advice =
      "nothing is written: pass --dtype fp32 (of fp16 and bf16, fp16 rounds less), or keep the "
      "adapter a file of its own";
  VGGFLOW_CHECK(error <= bound,
                "[export] rounding every weight to {} moves the network's output by {:.1e} of its "
                "largest value, allowed are {:.0e}; {}",
                name_of(dtype), error, bound, advice);
  VGGFLOW_CHECK(change == 0 || error < change,
                "[export] rounding every weight to {} moves the network's output by {:.1e} of its "
                "largest value, the adapter by {:.1e} only: it "
                "would drown; {}",
                name_of(dtype), error, change, advice);
  return error;
}

}  // namespace vggflow
