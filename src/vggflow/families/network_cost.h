#pragma once
// What one pass through a network costs, from its sizes alone: floating point operations (a
// multiply-add is 2) and bytes of tensors. The byte counts follow what the operations of ops/ save
// for the backward pass, in the order of the networks' own forward functions; network_cost_test
// holds them against an allocator's count of the real networks.

#include "vggflow/families/sd3/mmdit_options.h"
#include "vggflow/families/value_network.h"
#include "vggflow/networks/autoencoders/autoencoder_kl.h"
#include "vggflow/networks/autoencoders/taesd.h"
#include "vggflow/networks/clip/clip_text.h"
#include "vggflow/networks/text/t5_encoder.h"
#include "vggflow/nn/pass_cost.h"

namespace vggflow {

/// How an MMDiT is called.
struct MmditCall {
  int64_t image_tokens = 0, text_tokens = 0;
  int64_t bytes = 4;            ///< of a number in the matrix products
  int64_t rank = 0;             ///< of adapters on the image stream's projections, 0: off or merged
  bool input_gradient = false;  ///< x asks for a gradient
  bool trained = false;         ///< every weight asks for a gradient
  bool checkpointing = false;
  bool batched = true;  ///< several rows in one call: the attention's halves are no longer
                        ///< contiguous, and adapters keep copies of them
};

/// Parameters of the network, its position grid included.
double mmdit_parameters(const MmditOptions& options);
PassCost mmdit_cost(const MmditOptions& options, const MmditCall& call);
/// The same for a pass through pairs (value, tangent), whose attention keeps short sequences' whole
/// matrices and does long ones in tiles;
/// `graph` and `backward` are for `trained`.
PassCost mmdit_tangent_cost(const MmditOptions& options, const MmditCall& call);

/// Decoding one latent of h x w, fp32.
PassCost vae_decoder_cost(const AutoencoderKlOptions& options, int64_t h, int64_t w,
                          bool checkpointing);
PassCost taesd_decoder_cost(const TaesdOptions& options, int64_t h, int64_t w);

/// The value network's own U-Net on x (C, h, w), fp32, trained.
PassCost unet_value_cost(const ValueOptions& options, int64_t channels, int64_t h, int64_t w);

double vae_parameters(const AutoencoderKlOptions& options);
double taesd_decoder_parameters(const TaesdOptions& options);
double clip_text_parameters(const ClipTextOptions& options);
double t5_parameters(const T5Options& options);
double unet_value_parameters(const ValueOptions& options, int64_t channels, int64_t pooled_dim);

}  // namespace vggflow
