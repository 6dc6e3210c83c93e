#include "vggflow/families/value_cost.h"

#include <algorithm>

#include "vggflow/networks/convolution_walk.h"

namespace vggflow {
namespace {

double real(int64_t x) { return static_cast<double>(x); }

}  // namespace

PassCost unet_value_cost(const ValueOptions& o, int64_t channels, int64_t h, int64_t w) {
  ConvolutionWalk walk{};
  const double c = real(channels);
  double pixels = real(h * w);
  const auto block = [&](double in, double out) {
    walk.work(convolution_work(in, out, pixels) + convolution_work(out, out, pixels) +
              convolution_work(in, out, pixels, 1));
    walk.keep(3 * (in + out) * pixels);
    walk.live((in + 4 * out) * pixels + 2 * std::max(in, out) * pixels);
  };
  const double in = real(value_states(o)) * c;
  walk.work(convolution_work(in, real(o.width), pixels));
  walk.keep(in * pixels);
  for (int64_t i = 0; i < o.layers; ++i) {
    if (i > 0) {
      pixels /= 4;
      walk.keep(real(o.width << (i - 1)) * pixels);
    }
    block(real(i == 0 ? o.width : o.width << (i - 1)), real(o.width << i));
  }
  block(real(o.width << (o.layers - 1)), real(o.width << (o.layers - 1)));
  for (int64_t i = o.layers; i-- > 0;) {
    block(real(2 * (o.width << i)), real(i == 0 ? o.width : o.width << (i - 1)));
    if (i > 0) pixels *= 4;
  }
  walk.work(convolution_work(real(o.width), c, pixels));
  walk.keep(3 * real(o.width) * pixels);
  walk.cost.backward *= 2;  // to inputs and to weights
  return walk.finish(6 * real(o.width) * pixels);
}

double unet_value_parameters(const ValueOptions& o, int64_t channels, int64_t pooled_dim) {
  const double width = real(o.width), e = 2 * width;
  const auto block = [&](double in, double out) {
    return 2 * in + 2 * out + 9 * in * out + 9 * out * out + in * out + 3 * out + e * out + out;
  };
  double sum = 256 * e + real(pooled_dim) * e + 2 * e * e + 4 * e +
               9 * real(channels) * width * real(value_states(o) + 1) + width + real(channels) +
               2 * width;
  for (int64_t i = 0; i < o.layers; ++i) {
    const double here = real(o.width << i), above = real(i == 0 ? o.width : o.width << (i - 1));
    sum += block(above, here) + block(2 * here, above);
  }
  const double deepest = real(o.width << (o.layers - 1));
  return sum + block(deepest, deepest);
}

}  // namespace vggflow
