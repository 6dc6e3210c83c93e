#include "vggflow/networks/autoencoders/decoder_cost.h"

#include "vggflow/networks/convolution_walk.h"

namespace vggflow {
namespace {

double real(int64_t x) { return static_cast<double>(x); }

}  // namespace

PassCost vae_decoder_cost(const AutoencoderKlOptions& o, int64_t h, int64_t w, bool checkpointing) {
  ConvolutionWalk walk{.checkpointing = checkpointing};
  double pixels = real(h * w), width = real(o.widths.back());
  walk.work(convolution_work(real(o.latent_channels), width, pixels));
  walk.keep(real(o.latent_channels) * pixels);
  walk.resnet(width, width, pixels);
  const double attention = 4 * pixels * pixels * width;
  walk.work(4 * 2 * pixels * width * width);
  walk.cost.forward += attention;
  walk.cost.backward += 2.5 * attention;
  walk.cost.attention += attention;
  walk.block(width * pixels, (1 + 3 + 1) * width * pixels + pixels, width * pixels);
  walk.resnet(width, width, pixels);
  for (size_t i = 0; i < o.widths.size(); ++i) {
    const double out = real(o.widths[o.widths.size() - 1 - i]);
    for (int64_t j = 0; j <= o.layers; ++j) {
      walk.resnet(width, out, pixels);
      width = out;
    }
    if (i + 1 == o.widths.size()) break;
    pixels *= 4;
    walk.work(convolution_work(width, width, pixels));
    walk.keep(width * pixels);
    walk.live(3 * width * pixels + 2 * width * pixels);
  }
  walk.work(convolution_work(width, real(o.image_channels), pixels));
  walk.keep(3 * width * pixels);
  return walk.finish(5 * width * pixels);
}

PassCost taesd_decoder_cost(const TaesdOptions& o, int64_t h, int64_t w, bool checkpointing) {
  constexpr int kStages = 3, kBlocks = 3;
  ConvolutionWalk walk{.checkpointing = checkpointing};
  double pixels = real(h * w);
  const double width = real(o.width);
  // It keeps the results of its relus, or, where it runs again, none but the last, if that is an
  // input of what follows.
  const auto block = [&](bool result_is_kept) {
    const double flops = 3 * convolution_work(width, width, pixels);
    walk.work(flops);
    if (checkpointing) walk.cost.backward += flops;
    walk.block(result_is_kept ? width * pixels : 0, 3 * width * pixels, width * pixels);
    walk.live(8 * width * pixels);  // the steps of one expression
  };
  walk.work(convolution_work(real(o.latent_channels), width, pixels));
  walk.keep((width + 2 * real(o.latent_channels)) * pixels);
  for (int stage = 0; stage < kStages; ++stage) {
    for (int i = 1; i <= kBlocks; ++i) block(/*result_is_kept=*/i < kBlocks);
    pixels *= 4;
    walk.work(convolution_work(width, width, pixels));
    walk.keep(2 * width * pixels);  // the doubled image and its convolution
  }
  block(/*result_is_kept=*/true);
  walk.work(convolution_work(width, 3, pixels));
  return walk.finish(5 * width * pixels);
}

double vae_parameters(const AutoencoderKlOptions& o) { return count_parameters<AutoencoderKl>(o); }
double taesd_decoder_parameters(const TaesdOptions& o) { return count_parameters<TaesdDecoder>(o); }

}  // namespace vggflow
