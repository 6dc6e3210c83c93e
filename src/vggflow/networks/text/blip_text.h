#pragma once
// BLIP's text encoder that looks at an image (Li et al. 2022, arXiv 2201.12086): BERT (post-norm
// blocks) with an attention to the image's tokens in every layer. Parameter names are those of
// BLIP's med.py, which has no token types and no pooler.

#include <memory>
#include <vector>

#include "vggflow/nn/module.h"

namespace vggflow {

/// The defaults are ImageReward's: BERT-base beside a ViT-L.
struct BlipTextOptions {
  int64_t vocabulary = 30524;  ///< bert-base-uncased, [DEC] and [ENC]
  int64_t width = 768;         ///< D
  int64_t mlp_width = 3072;
  int64_t layers = 12;
  int64_t heads = 12;
  int64_t positions = 512;
  int64_t image_width = 1024;  ///< W
  double eps = 1e-12;
};

/// Tokens of a batch of texts, padded to one length.
struct TextBatch {
  Tensor ids;   ///< (B, T) int64
  Tensor mask;  ///< (B, T), 1 where there is a token and 0 at padding
};

/// LayerNorm(x + dense(attention(query(x), key(c), value(c)))).
class BertAttention : public Module {
 public:
  BertAttention(const BlipTextOptions& options, int64_t context_width);
  /// x (B, T, D), context (B, N, context_width), bias as in ops::cross_attention.
  template <TensorLike T>
  T forward(const T& x, const T& context, const Tensor& bias) const;

  int64_t heads;
  Linear query, key, value, dense;
  LayerNorm norm;
};

/// Attention among the tokens, attention to the image, then LayerNorm(x + dense(gelu(dense(x)))).
class BlipTextLayer : public Module {
 public:
  explicit BlipTextLayer(const BlipTextOptions& options);
  template <TensorLike T>
  T forward(const T& x, const T& image, const Tensor& padding) const;

  BertAttention attention, cross_attention;
  Linear intermediate, output;
  LayerNorm norm;
};

class BlipTextEncoder : public Module {
 public:
  explicit BlipTextEncoder(const BlipTextOptions& options);
  /// (B, T, D) of texts and the tokens (B, N, W) of their images.
  template <TensorLike T>
  T forward(const TextBatch& text, const T& image) const;

  BlipTextOptions options;
  Tensor word_embeddings, position_embeddings;
  LayerNorm norm;
  std::vector<std::unique_ptr<BlipTextLayer>> layers;
};

}  // namespace vggflow
