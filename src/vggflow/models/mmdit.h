#pragma once
// MMDiT, the network of Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206): image tokens and text tokens keep separate
// weights and attend jointly. Parameter names are those of diffusers' SD3Transformer2DModel, and so are the conventions: it
// takes the timestep 1000 * sigma, sigma = 1 - t, and predicts u = noise - data = -v.

#include <memory>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/models/pass_counter.h"
#include "vggflow/nn/module.h"

namespace vggflow {

/// What a prompt becomes for the network.
struct Conditioning {
  Tensor context;  ///< (B, T, context_dim), token embeddings
  Tensor pooled;   ///< (B, pooled_dim)
  Conditioning rows(int64_t start, int64_t length) const {
    return {context.narrow(0, start, length), pooled.narrow(0, start, length)};
  }
  static Conditioning concat(const Conditioning& a, const Conditioning& b);
};

struct MmditOptions {
  int64_t sample_size = 32;     ///< height and width of x
  int64_t channels = 3;         ///< of x and of the prediction
  int64_t patch_size = 4;
  int64_t layers = 6;           ///< joint blocks; the last one updates the image stream only
  int64_t heads = 5;
  int64_t head_dim = 32;        ///< width D = heads * head_dim
  int64_t context_dim = 96;     ///< of the text tokens
  int64_t pooled_dim = 96;
  int64_t pos_embed_max = 8;    ///< side of the stored sin-cos grid, cropped to the centre
  bool qk_norm = false;         ///< RMSNorm of queries and keys per head (SD3.5)
  int64_t width() const { return heads * head_dim; }

  template <class V>
  void fields(V& v) {
    v("sample_size", sample_size, "height and width of x, in latent pixels");
    v("channels", channels, "channels of x");
    v("patch_size", patch_size, "side of a patch");
    v("layers", layers, "joint blocks");
    v("heads", heads, "attention heads");
    v("head_dim", head_dim, "channels of a head; the width is heads * head_dim");
    v("context_dim", context_dim, "channels of a text token");
    v("pooled_dim", pooled_dim, "channels of the pooled text");
    v("pos_embed_max", pos_embed_max, "side of the stored sin-cos position grid");
    v("qk_norm", qk_norm, "RMSNorm of queries and keys per head, as in SD3.5");
  }
};

/// linear_2(silu(linear_1(x))).
class EmbedderMlp : public Module {
 public:
  EmbedderMlp(int64_t in, int64_t width);
  template <TensorLike T>
  T forward(const T& x) const {
    return linear_2.forward(ops::silu(linear_1.forward(x)));
  }
  Linear linear_1, linear_2;
};

/// net.2(gelu_tanh(net.0.proj(x))), hidden width 4 D.
class FeedForward : public Module {
 public:
  explicit FeedForward(int64_t width);
  template <TensorLike T>
  T forward(const T& x) const {
    return project_out.forward(ops::gelu_tanh(project_in.forward(x)));
  }
  Linear project_in, project_out;
};

/// The joint attention of one block: image and text tokens, in this order, attend to each other.
class JointAttention : public Module {
 public:
  JointAttention(const MmditOptions& options, bool context_pre_only);
  /// Results for both streams; the text result is unset in a context_pre_only block.
  template <TensorLike T>
  struct Streams {
    T image, text;
  };
  template <TensorLike T>
  Streams<T> forward(const T& image, const T& text) const;

  int64_t heads, head_dim;
  bool context_pre_only;
  Linear to_q, to_k, to_v, add_q_proj, add_k_proj, add_v_proj, to_out;
  std::unique_ptr<Linear> to_add_out;
  std::unique_ptr<RmsNorm> norm_q, norm_k, norm_added_q, norm_added_k;
};

/// One joint block with adaLN-Zero modulation of both streams by the embedding of time and pooled text.
class JointBlock : public Module {
 public:
  JointBlock(const MmditOptions& options, bool context_pre_only);
  /// silu_embedding is silu(emb) (B, D). Updates image (B, N, D) and text (B, T, D), fp32 streams.
  template <TensorLike T>
  void forward(T& image, T& text, const T& silu_embedding) const;

  bool context_pre_only;
  Linear norm1, norm1_context;  ///< modulations, D -> 6 D (2 D for the text of the last block)
  JointAttention attn;
  FeedForward ff;
  std::unique_ptr<FeedForward> ff_context;
};

class Mmdit : public Module {
 public:
  explicit Mmdit(const MmditOptions& options);
  /// u (B, C, S, S) fp32 from x (B, C, S, S) fp32 and timestep (B) in [0, 1000]. `compute` is the dtype of the matrix products.
  template <TensorLike T>
  T forward(const T& x, const T& timestep, const Conditioning& conditioning) const;
  /// Xavier-uniform linear layers; modulations and the output projection start at zero (DiT).
  void init(uint64_t seed);
  /// "Mmdit(6 joint blocks, width 160, ...)".
  std::string description() const;

  MmditOptions options;
  at::ScalarType compute = at::kFloat;
  std::shared_ptr<PassCounter> passes;  ///< counts forward's calls where set
  Conv2d pos_embed;        ///< patches to tokens
  EmbedderMlp timestep_embedder, text_embedder;
  Linear context_embedder;
  std::vector<std::unique_ptr<JointBlock>> blocks;
  Linear norm_out;         ///< D -> 2 D: scale, shift
  Linear proj_out;         ///< D -> p p C
  Tensor position_grid;    ///< (1, N, D), sin-cos, not a parameter
};

}  // namespace vggflow
