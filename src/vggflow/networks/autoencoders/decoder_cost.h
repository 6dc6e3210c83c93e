#pragma once
// What decoding costs, from the autoencoder's sizes alone. The byte counts follow what the
// operations of ops/ save for the backward pass, in the order of the decoders' own forward
// functions.

#include "vggflow/networks/autoencoders/autoencoder_kl.h"
#include "vggflow/networks/autoencoders/taesd.h"
#include "vggflow/nn/pass_cost.h"

namespace vggflow {

/// Decoding one latent of h x w, fp32.
PassCost vae_decoder_cost(const AutoencoderKlOptions& options, int64_t h, int64_t w,
                          bool checkpointing);
PassCost taesd_decoder_cost(const TaesdOptions& options, int64_t h, int64_t w, bool checkpointing);

double vae_parameters(const AutoencoderKlOptions& options);
double taesd_decoder_parameters(const TaesdOptions& options);

}  // namespace vggflow
