#pragma once
// MMDiT, the network of Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206): image tokens and
// text tokens keep separate weights and attend jointly. The releases differ in options alone: SD3
// is plain, SD3.5-large normalizes queries and keys, and SD3.5-medium does both that and a second
// attention among the image tokens of its first blocks ("dual", MMDiT-X). Parameter names are those
// of diffusers' SD3Transformer2DModel, and so are the conventions: it takes the timestep 1000 *
// sigma, sigma = 1 - t, and predicts u = noise - data = -v.

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/families/sd3/mmdit_options.h"
#include "vggflow/flow/conditioning.h"
#include "vggflow/nn/block_ring.h"
#include "vggflow/nn/embedder_mlp.h"
#include "vggflow/nn/module.h"
#include "vggflow/nn/pair_layers.h"
#include "vggflow/nn/pass_counter.h"

namespace vggflow {

/// net.2(gelu_tanh(net.0.proj(x))), hidden width 4 D.
class FeedForward : public Module {
 public:
  explicit FeedForward(int64_t width);
  template <NetworkValue T>
  T forward(const T& x) const {
    return through(project_out, ops::gelu_tanh(through(project_in, x)));
  }
  Linear project_in, project_out;
};

/// The joint attention of one block: image and text tokens, in this order, attend to each other.
class JointAttention : public Module {
 public:
  JointAttention(const MmditOptions& options, bool context_pre_only);
  /// Results for both streams; the text result is unset in a context_pre_only block.
  template <NetworkValue T>
  struct Streams {
    T image, text;
  };
  template <NetworkValue T>
  Streams<T> forward(const T& image, const T& text) const;

  int64_t heads, head_dim;
  bool context_pre_only;
  Linear to_q, to_k, to_v, add_q_proj, add_k_proj, add_v_proj, to_out;
  std::unique_ptr<Linear> to_add_out;
  std::unique_ptr<RmsNorm> norm_q, norm_k, norm_added_q, norm_added_k;
};

/// The second attention of a dual block (`attn2`): image tokens attend to each other.
class SelfAttention : public Module {
 public:
  explicit SelfAttention(const MmditOptions& options);
  template <NetworkValue T>
  T forward(const T& x) const;

  int64_t heads, head_dim;
  Linear to_q, to_k, to_v, to_out;
  std::unique_ptr<RmsNorm> norm_q, norm_k;
};

/// One joint block with adaLN-Zero modulation of both streams by the embedding of time and pooled
/// text.
class JointBlock : public Module, public Visitor {
 public:
  JointBlock(const MmditOptions& options, bool context_pre_only, bool dual);
  /// silu_embedding is silu(emb) (B, D), of the streams' type: modulations act on all tokens alike,
  /// so their rounding does not average out. Updates image (B, N, D) and text (B, T, D), fp32
  /// streams, by matrix products in `compute`; the last block leaves the text.
  template <NetworkValue T>
  void forward(T& image, T& text, const T& silu_embedding, at::ScalarType compute) const;
  void bring_weights() const override { place.acquire(); }

  RingPlace place;  ///< where the weights lie on the host
  bool context_pre_only;
  Linear norm1;  ///< modulation, D -> 6 D: shift, scale, gate of attn, the same of ff; 9 D in a
                 ///< dual block: and of attn2
  Linear norm1_context;  ///< modulation, D -> 6 D; 2 D in the last block
  JointAttention attn;
  std::unique_ptr<SelfAttention> attn2;
  FeedForward ff;
  std::unique_ptr<FeedForward> ff_context;
};

class Mmdit : public Module {
 public:
  explicit Mmdit(const MmditOptions& options);
  /// u (B, C, H, W) fp32 from x (B, C, H, W) fp32 and timestep (B) in [0, 1000]. H and W are
  /// multiples of patch_size, at most pos_embed_max patches. `compute` is the dtype of the matrix
  /// products of tokens; what is made of time and pooled text, one row a sample, stays in x's. Of
  /// pairs: u without this network's adapters, and what they change of it, without
  /// gradient; x and timestep have no difference.
  template <NetworkValue T>
  T forward(const T& x, const T& timestep, const Conditioning& conditioning) const;
  /// What a diffusers checkpoint holds: the parameters and the position grid, here made to receive
  /// it. A checkpoint's grid is used in place of the computed one, as in diffusers, where it is a
  /// buffer and not derived from the config; its shape must fit.
  std::vector<std::pair<std::string, Tensor>> checkpoint_tensors();
  /// The position of each token (1, rows * columns, D), row by row: the centre of the grid.
  Tensor positions(int64_t rows, int64_t columns) const;
  /// Lays the frozen weights of queries, keys and values behind one another, so that their joint
  /// product takes them as they lie. Else it joins copies at every call.
  void join_projections();
  /// Gives the blocks' weights, which are on the host, to `source`: each block's visit `device`
  /// while it computes, two at a time. Blocks then run again in backward passes, whatever
  /// `checkpointing` says, since a graph would hold on to weights that have left.
  void bring_blocks_from(std::unique_ptr<BlockSource> source, at::Device device);
  /// Xavier-uniform linear layers; modulations and the output projection start at zero (DiT).
  void init(uint64_t seed);
  /// A second network that shares this one's tensors: held once, and a tensor that is set on a
  /// layer of one leaves the other as it is. Adapters stay with their own network; it computes,
  /// recomputes and counts as this one does.
  std::unique_ptr<Mmdit> view() const;
  /// "Mmdit(6 joint blocks, width 160, ...)".
  std::string description() const;

  MmditOptions options;
  at::ScalarType compute = at::kFloat;
  bool checkpointing = false;  ///< blocks keep their inputs alone and run again in the backward
                               ///< pass (nn/checkpoint.h)
  std::shared_ptr<PassCounter> passes;  ///< counts forward's calls where set
  Conv2d pos_embed;                     ///< patches to tokens
  EmbedderMlp timestep_embedder, text_embedder;
  Linear context_embedder;
  std::vector<std::unique_ptr<JointBlock>> blocks;
  Linear norm_out;       ///< D -> 2 D: scale, shift
  Linear proj_out;       ///< D -> p p C
  Tensor position_grid;  ///< (1, pos_embed_max^2, D) of a checkpoint, no parameter; undefined: the
                         ///< sin-cos grid, from its axis

 private:
  /// positions() like x, made once for a size.
  Tensor positions_like(int64_t rows, int64_t columns, const Tensor& x) const;
  struct Positions {
    int64_t rows, columns;
    Tensor grid;  ///< position_grid when they were made
    Tensor made;
  };
  mutable std::mutex positions_mutex_;
  mutable std::vector<Positions> positions_;
  Tensor
      axis_;  // (pos_embed_max, D/2): the grid is separable, and 384^2 positions would take 0.9 GB
};

}  // namespace vggflow
