#include "vggflow/rewards/jpeg_reward.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include "vggflow/io/image_file.h"

namespace vggflow {

Tensor JpegReward::score(const Tensor& images, const std::vector<std::string>&) const {
  if (images.requires_grad() && at::GradMode::is_enabled()) fail_without_gradient("jpeg");
  std::vector<double> sizes;
  for (int64_t i = 0; i < images.size(0); ++i)
    sizes.push_back(static_cast<double>(encode_jpeg(to_image(images[i]), quality_).size()));
  return at::tensor(sizes).to(images.options());
}

Dual JpegReward::score(const Dual&, const std::vector<std::string>&) const {
  fail_without_gradient("jpeg");
}

std::unique_ptr<Reward> make_jpeg(const RewardResources& r) {
  return std::make_unique<JpegReward>(r.jpeg_quality);
}

RewardCost jpeg_cost(const RewardResources&) { return {}; }

}  // namespace vggflow
