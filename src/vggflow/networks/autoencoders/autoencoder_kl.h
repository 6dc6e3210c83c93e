#pragma once
// AutoencoderKL as Stable Diffusion 3 uses it (Rombach et al. 2022, arXiv 2112.10752, with 16
// latent channels and no quantisation convolutions). Parameter names are diffusers'. The decoder is
// written for Tensor and Dual, because rewards of images are differentiated twice through it; the
// encoder for Tensor.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/nn/module.h"

namespace vggflow {

struct AutoencoderKlOptions {
  int64_t image_channels = 3;
  int64_t latent_channels = 16;
  std::vector<int64_t> widths{
      128, 256, 512,
      512};            ///< of the levels, from the image down; each but the last halves the side
  int64_t layers = 2;  ///< residual blocks a level of the encoder; the decoder has one more
  int64_t groups = 32;
  double scaling_factor = 1.5305;  ///< the flow model sees (latent - shift_factor) * scaling_factor
  double shift_factor = 0.0609;
  int64_t sample_size = 1024;  ///< side of a training image, and of a tile

  /// Pixels a latent pixel, 8 for four levels.
  int64_t downscale() const { return int64_t{1} << (widths.size() - 1); }
  /// From a diffusers config.json. Everything in it that this network does not have is listed in
  /// one error.
  static AutoencoderKlOptions read(const std::filesystem::path& config_json);
};

/// y = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x)))))).  x (B, C, H, W).
class VaeResnet : public Module {
 public:
  VaeResnet(int64_t in, int64_t out, int64_t groups);
  template <TensorLike T>
  T forward(const T& x) const;
  GroupNorm norm1, norm2;
  Conv2d conv1, conv2;
  std::unique_ptr<Conv2d> conv_shortcut;  ///< 1x1, where the channels change
};

/// y = x + to_out(attention(group_norm(x))) with one head over all positions.  x (B, C, H, W).
class VaeAttention : public Module {
 public:
  VaeAttention(int64_t width, int64_t groups);
  template <TensorLike T>
  T forward(const T& x) const;
  GroupNorm group_norm;
  Linear to_q, to_k, to_v, to_out;
};

/// resnets.0, attentions.0, resnets.1 at the lowest resolution.
class VaeMidBlock : public Module {
 public:
  VaeMidBlock(int64_t width, int64_t groups);
  VaeResnet first;
  VaeAttention attention;
  VaeResnet second;
};

/// The residual blocks of one level and the convolution of its sampler, where it has one.
class VaeLevel : public Module {
 public:
  enum class Sampler { kNone, kDown, kUp };
  VaeLevel(int64_t in, int64_t out, int64_t layers, int64_t groups, Sampler sampler);
  std::vector<std::unique_ptr<VaeResnet>> resnets;
  std::unique_ptr<Conv2d> sampler;
};

class VaeEncoder : public Module {
 public:
  explicit VaeEncoder(const AutoencoderKlOptions& options);
  /// (B, 2 Z, h, w): mean and log-variance of the posterior, from images (B, 3, H, W) in [-1, 1].
  Tensor forward(const Tensor& images) const;
  Conv2d conv_in;
  std::vector<std::unique_ptr<VaeLevel>> down_blocks;
  VaeMidBlock mid_block;
  GroupNorm conv_norm_out;
  Conv2d conv_out;
};

class VaeDecoder : public Module {
 public:
  explicit VaeDecoder(const AutoencoderKlOptions& options);
  /// Images (B, 3, 8 h, 8 w) from unscaled latents (B, Z, h, w). `checkpointing`: blocks keep their
  /// inputs only and run again for the gradient.
  template <TensorLike T>
  T forward(const T& z, bool checkpointing) const;
  Conv2d conv_in;
  VaeMidBlock mid_block;
  std::vector<std::unique_ptr<VaeLevel>> up_blocks;
  GroupNorm conv_norm_out;
  Conv2d conv_out;
};

/// The posterior of the encoder, N(mean, exp(logvar)), of unscaled latents.
struct VaePosterior {
  Tensor mean, logvar;  ///< (B, Z, h, w); logvar in [-30, 20]
};

class AutoencoderKl : public Module {
 public:
  explicit AutoencoderKl(const AutoencoderKlOptions& options);
  /// From a `vae` folder of diffusers (config.json and weights); frozen, fp32. In fp16 the
  /// activations overflow: use fp32 or bf16.
  static std::unique_ptr<AutoencoderKl> load(const std::filesystem::path& folder,
                                             const std::string& variant = "");

  /// Images (B, 3, 8 h, 8 w), about [-1, 1], of the flow model's latents (B, Z, h, w).
  template <TensorLike T>
  T decode(const T& latents) const;
  /// The same in overlapping tiles of sample_size pixels whose seams are blended linearly over a
  /// quarter of a tile, as diffusers does: the memory is that of one tile. Group norm and attention
  /// see one tile, so the result differs a little from decode(). Latents of one tile: decode().
  template <TensorLike T>
  T decode_tiled(const T& latents) const;
  VaePosterior posterior(const Tensor& images) const;
  /// The flow model's latents: (mean - shift_factor) * scaling_factor.
  Tensor encode(const Tensor& images) const;

  AutoencoderKlOptions options;
  bool checkpointing = false;  ///< of the decoder
  VaeEncoder encoder;
  VaeDecoder decoder;
};

}  // namespace vggflow
