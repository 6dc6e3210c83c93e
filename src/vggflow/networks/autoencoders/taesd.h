#pragma once
// TAESD3, the tiny autoencoder of SD3's latent space by Ollin Boer Bohan
// (github.com/madebyollin/taesd, MIT): 1.2 M parameters a side instead of the VAE's 42 M. Its
// latents are the flow model's, without scale or shift; images are in [0, 1]. Parameter names are
// those of its two files, taesd3_encoder.safetensors and taesd3_decoder.safetensors: places in a
// list of layers.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/nn/module.h"

namespace vggflow {

/// Where the two files are: `given`, or, where that is empty, taesd3 in the folder that
/// VGGFLOW_ASSETS names. Throws, saying how to give it, without either.
std::filesystem::path taesd_folder(const std::string& given);

struct TaesdOptions {
  int64_t latent_channels = 16;
  int64_t width = 64;
};

/// y = relu(x + conv.4(relu(conv.2(relu(conv.0(x)))))).
class TaesdBlock : public Module {
 public:
  explicit TaesdBlock(int64_t width);
  template <TensorLike T>
  T forward(const T& x) const;
  Conv2d conv_0, conv_2, conv_4;
};

class TaesdDecoder : public Module {
 public:
  explicit TaesdDecoder(const TaesdOptions& options = {});
  /// From folder/taesd3_decoder.safetensors; frozen, fp32.
  static std::unique_ptr<TaesdDecoder> load(const std::filesystem::path& folder);
  /// Images (B, 3, 8 h, 8 w), about [0, 1], of the flow model's latents (B, 16, h, w), which go
  /// through 3 tanh(z / 3) first.
  template <TensorLike T>
  T decode(const T& latents) const;

  TaesdOptions options;
  bool checkpointing = false;  ///< blocks keep their inputs alone and run again in the backward
                               ///< pass (nn/checkpoint.h)
  Conv2d conv_in;
  std::vector<std::unique_ptr<TaesdBlock>>
      blocks;  ///< three before each up-sampling and one after the last
  std::vector<std::unique_ptr<Conv2d>>
      upsamplers;  ///< after nearest-neighbour doubling, without bias
  Conv2d conv_out;
};

class TaesdEncoder : public Module {
 public:
  explicit TaesdEncoder(const TaesdOptions& options = {});
  /// From folder/taesd3_encoder.safetensors; frozen, fp32.
  static std::unique_ptr<TaesdEncoder> load(const std::filesystem::path& folder);
  /// Latents (B, 16, H/8, W/8) of images (B, 3, H, W) in [0, 1].
  Tensor encode(const Tensor& images) const;

  TaesdOptions options;
  Conv2d conv_in;
  std::vector<std::unique_ptr<TaesdBlock>>
      blocks;  ///< one before the first down-sampling and three after each
  std::vector<std::unique_ptr<Conv2d>> downsamplers;  ///< stride 2, without bias
  Conv2d conv_out;
};

}  // namespace vggflow
