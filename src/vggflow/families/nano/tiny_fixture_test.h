#pragma once
// A tiny nano model of latents, for tests.

#include "vggflow/families/nano/model.h"

namespace vggflow::testing {

/// On 16x2x2 latents of TAESD3: a token per latent pixel, two blocks of two heads.
inline NanoOptions tiny_latent_options() {
  NanoOptions options;
  options.text_width = 8;
  options.decoder = NanoDecoder::kTaesd3;
  options.network = {.sample_size = 2,
                     .channels = 16,
                     .patch_size = 1,
                     .layers = 2,
                     .heads = 2,
                     .head_dim = 8,
                     .context_dim = 8,
                     .pooled_dim = 8,
                     .pos_embed_max = 2};
  return options;
}

}  // namespace vggflow::testing
