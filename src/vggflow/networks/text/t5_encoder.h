#pragma once
// The encoder of T5 v1.1 (Raffel et al. 2020; Shazeer 2020 for the gated units), SD3's
// text_encoder_3. Parameter names and values are those of transformers' T5EncoderModel.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/nn/module.h"
#include "vggflow/weights/frozen_weights.h"

namespace vggflow {

struct T5Options {
  int64_t vocabulary = 32128;
  int64_t width = 4096;  ///< D
  int64_t head_dim = 64;
  int64_t heads = 64;  ///< heads * head_dim need not be D
  int64_t mlp_width = 10240;
  int64_t layers = 24;
  int64_t buckets = 32;  ///< of relative positions, half of them for each direction
  int64_t max_distance = 128;
  double eps = 1e-6;
  /// From folder/config.json; throws for what it lacks and for another feed-forward than
  /// "gated-gelu".
  static T5Options read(const std::filesystem::path& folder);
};

/// Bucket of each relative position j - i, (T, T) int64. Half of one direction's n buckets hold one
/// distance each; the distances d above go to n/2 + floor(log(d / (n/2)) / log(max_distance /
/// (n/2)) n/2), at most n - 1. Positions ahead (j > i) come n later.
Tensor t5_position_buckets(int64_t tokens, const T5Options& options);

/// x + attn(rms(x)), then x + mlp(rms(x)), mlp(h) = (gelu_tanh(h W0) * (h W1)) Wo. Attention is
/// softmax(q k^T + bias) v, not scaled.
class T5Block : public Module {
 public:
  T5Block(const T5Options& options, bool has_bias);
  /// bias (1, H, T, T).
  Tensor forward(const Tensor& x, const Tensor& bias) const;

  Tensor relative_attention_bias;  ///< (buckets, H), of the first block only

 private:
  Tensor attention(const Tensor& x, const Tensor& bias) const;
  int64_t heads_;
  RmsNorm attention_norm_, mlp_norm_;
  Linear q_, k_, v_, o_, wi_0_, wi_1_, wo_;
};

class T5Encoder : public Module {
 public:
  explicit T5Encoder(const T5Options& options);
  static std::unique_ptr<T5Encoder> load(const T5Options& options, const ComponentWeights& weights,
                                         at::ScalarType dtype);

  /// Tokens (B, T, D) of ids (B, T) int64. Padding is attended to, as SD3 does.
  Tensor forward(const Tensor& ids) const;

  T5Options options;

 private:
  Tensor shared_;  ///< (V, D)
  std::vector<std::unique_ptr<T5Block>> blocks_;
  RmsNorm final_layer_norm_;
};

}  // namespace vggflow
