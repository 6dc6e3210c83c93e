#pragma once
// The text tower of CLIP with its projection (Radford et al. 2021), SD3's text_encoder (L) and
// text_encoder_2 (G). Parameter names and values are those of transformers'
// CLIPTextModelWithProjection.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/networks/clip/clip_layer.h"
#include "vggflow/nn/module.h"
#include "vggflow/weights/frozen_weights.h"

namespace vggflow {

struct ClipTextOptions {
  int64_t vocabulary = 49408;
  int64_t width = 768;  ///< D
  int64_t mlp_width = 3072;
  int64_t layers = 12;
  int64_t heads = 12;
  int64_t positions = 77;
  int64_t projection = 768;  ///< P
  double eps = 1e-5;
  ClipActivation activation = ClipActivation::kQuickGelu;
  int64_t eos_id =
      2;  ///< 2 is what the first configurations said wrongly: see ClipTextModel::pool_positions
  /// From folder/config.json; throws for what it lacks or what does not fit.
  static ClipTextOptions read(const std::filesystem::path& folder);
};

/// What SD3 takes of a prompt.
struct ClipTextOutput {
  Tensor penultimate;  ///< (B, T, D), tokens after the last but one layer, without the final norm
  Tensor
      pooled;  ///< (B, P), the projected token at the end mark after all layers and the final norm
};

/// x + attn(norm1(x)), then x + mlp(norm2(x)); a token sees itself and those before it.
class ClipTextLayer : public ClipLayer {
 public:
  explicit ClipTextLayer(const ClipTextOptions& options) : ClipLayer(options) {}
  Tensor forward(const Tensor& x) const;

 private:
  Tensor attention(const Tensor& x) const;
};

class ClipTextModel : public Module {
 public:
  explicit ClipTextModel(const ClipTextOptions& options);
  static std::unique_ptr<ClipTextModel> load(const ClipTextOptions& options,
                                             const ComponentWeights& weights, at::ScalarType dtype);

  /// ids (B, T) int64, T at most options.positions.
  ClipTextOutput forward(const Tensor& ids) const;
  /// Where the end mark stands, (B): for eos_id 2 the place of the highest id, else the first place
  /// of eos_id (0 if there is none).
  Tensor pool_positions(const Tensor& ids) const;

  ClipTextOptions options;

 private:
  Tensor token_embedding_, position_embedding_;
  std::vector<std::unique_ptr<ClipTextLayer>> layers_;
  LayerNorm final_layer_norm_;
  Linear text_projection_;
};

}  // namespace vggflow
