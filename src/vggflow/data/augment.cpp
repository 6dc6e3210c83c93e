#include "vggflow/data/augment.h"

#include <ATen/ATen.h>

#include <vector>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

Tensor shift_image(const Tensor& image, int64_t dy, int64_t dx, int64_t most) {
  const int64_t s = image.size(-1);
  const Tensor padded = at::constant_pad_nd(image, {most, most, most, most}, 1.0);
  return padded.narrow(1, most + dy, s).narrow(2, most + dx, s);
}

Tensor augment_one(Tensor x, const AugmentOptions& o, RandomStream random) {
  if (o.shift > 0) {
    const int64_t dy = random.below(2 * o.shift + 1) - o.shift,
                  dx = random.below(2 * o.shift + 1) - o.shift;
    x = shift_image(x, dy, dx, o.shift);
  }
  if (random.chance(o.blur)) {
    x = at::avg_pool2d(at::replication_pad2d(x.unsqueeze(0), {1, 0, 1, 0}), {2, 2}, {1, 1})
            .squeeze(0);
  }
  if (o.color > 0) {
    const double contrast = 1 + o.color * (2 * random.uniform() - 1),
                 brightness = 0.5 * o.color * (2 * random.uniform() - 1);
    x = (x - 0.5) * contrast + 0.5 + brightness;
  }
  if (o.saturation > 0) {
    const Tensor grey = x.mean(0, /*keepdim=*/true);
    x = grey + (x - grey) * (1 + o.saturation * (2 * random.uniform() - 1));
  }
  if (o.noise > 0) {
    const double sd = o.noise * random.uniform();
    Tensor noise = at::empty(x.sizes(), at::kFloat);
    random.fill_normal({noise.mutable_data_ptr<float>(), static_cast<size_t>(noise.numel())});
    x = x + sd * noise;
  }
  return x.clamp(0, 1);
}

}  // namespace

Tensor augment(const Tensor& images, const AugmentOptions& options, uint64_t seed,
               uint64_t update) {
  std::vector<Tensor> out;
  for (int64_t i = 0; i < images.size(0); ++i) {
    out.push_back(
        augment_one(images[i], options,
                    RandomStream({seed, Purpose::kAugment, update, static_cast<uint64_t>(i)})));
  }
  return at::stack(out);
}

}  // namespace vggflow
