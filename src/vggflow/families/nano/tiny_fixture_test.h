#pragma once
// Tiny nano models, for tests.

#include "vggflow/families/nano/model.h"

namespace vggflow::testing {

/// On 3x16x16 pixels: 16 tokens, two blocks of two heads.
inline NanoOptions tiny_options() {
  NanoOptions options;
  options.text_width = 8;
  options.network = {.sample_size = 16,
                     .patch_size = 4,
                     .layers = 2,
                     .heads = 2,
                     .head_dim = 8,
                     .context_dim = 8,
                     .pooled_dim = 8,
                     .pos_embed_max = 4};
  return options;
}

/// The same on 16x2x2 latents of TAESD3: a token per latent pixel.
inline NanoOptions tiny_latent_options() {
  NanoOptions options = tiny_options();
  options.decoder = NanoDecoder::kTaesd3;
  options.network.sample_size = options.network.pos_embed_max = 2;
  options.network.channels = 16;
  options.network.patch_size = 1;
  return options;
}

}  // namespace vggflow::testing
