#include "vggflow/families/sd3/mmdit_cost.h"

#include <algorithm>

#include "vggflow/families/sd3/mmdit.h"
#include "vggflow/ops/attention_tangent.h"
#include "vggflow/ops/joint_block.h"

namespace vggflow {
namespace {

constexpr double kFloat = 4;  // bytes of the residual streams

double real(int64_t x) { return static_cast<double>(x); }

// One joint block's share. Letters: N image tokens, M text tokens, D width, e bytes in the
// products.
struct BlockCost {
  double linear = 0, modulation = 0, attention = 0;  // FLOPs of a forward pass
  double graph = 0, joined = 0;  // bytes kept: a sample, and a call (weights joined to one product)
  double input = 0;              // bytes of its inputs, which a checkpointed block keeps instead
};

struct BlockPlace {
  bool first, last, dual;
};

BlockCost block_cost(const MmditOptions& o, const MmditCall& c, const BlockPlace& at) {
  const double n = real(c.image_tokens), m = real(c.text_tokens), d = real(o.width()),
               e = real(c.bytes), r = real(c.rank), heads = real(o.heads);
  const double all = n + m, squared = d * d;
  const bool image_flows = !at.first || c.input_gradient ||
                           c.trained;  // a gradient runs through the image that comes in
  const bool text_flows = !at.first || c.trained;
  BlockCost b;
  b.linear = 2 * squared * (n * (3 + 1 + 8) + m * (3 + (at.last ? 0 : 1 + 8))) +
             (at.dual ? 2 * squared * n * 4 : 0) + 4 * 4 * r * d * n;
  b.modulation = 2 * squared * ((at.dual ? 9 : 6) + (at.last ? 2 : 6));
  b.attention = 4 * all * all * d + (at.dual ? 4 * n * n * d : 0);
  b.input = kFloat * d * all;

  const auto norm = [&](double tokens) {
    return tokens * (kFloat * d + 2 * kFloat);
  };  // x, mean and 1/sd
  const auto joint = [&](double tokens) {
    return tokens * (3 * e * d + e * d + kFloat * heads);
  };  // qkv, its result, log-sum-exp
  const auto head_norm = [&](double tokens) {
    return tokens * 2 * (e == kFloat ? kFloat * d * 1.5 : kFloat * d);
  };  // q and k in fp32, or their view of qkv
  const auto feed_forward = [&](double tokens) {
    return norm(tokens) + tokens * (4 * e * d + e * d);
  };  // before gelu; the gated result
  if (image_flows) b.graph += norm(n);
  if (text_flows) b.graph += norm(m);
  if (r > 0)
    b.graph +=
        n * e * d + 4 * n * e * r + (c.batched ? n * e * d : 0);  // what the adapters multiply
  b.graph += joint(all) + n * e * d + feed_forward(n);
  if (o.qk_norm) b.graph += head_norm(all);
  if (!at.last) b.graph += m * e * d + feed_forward(m);
  if (at.dual) b.graph += joint(n) + n * e * d + (o.qk_norm ? head_norm(n) : 0);
  // Trained: every linear layer keeps its input, too.
  if (c.trained)
    b.graph += e * d *
               (n * (1 + (c.batched ? 1 : 0) + 1 + 4) +
                m * (1 + (at.last ? 0 : (c.batched ? 1 : 0) + 1 + 4)));
  if (c.trained && at.dual) b.graph += 2 * e * d * n;
  b.joined = 3 * e * squared * ((r > 0 ? 0 : 1) + 1 + (at.dual ? 1 : 0));
  return b;
}

// What is kept then: the streams before the block, queries, keys and values with attention's result
// and log-sum-exp, and of each stream that goes on what lies between attention and MLP, and before
// GELU. Weights are laid out twice, also transposed.
void keep_at_once(const MmditOptions& o, const MmditCall& c, bool last, BlockCost& b) {
  const double n = real(c.image_tokens), m = real(c.text_tokens), d = real(o.width()),
               e = real(c.bytes);
  b.graph = (n + m) * (kFloat * d + 4 * e * d + kFloat * real(o.heads)) +
            (n + (last ? 0 : m)) * (kFloat * d + 4 * e * d);
  b.joined = 2 * 24 * e * d * d;
}

template <class F>
void over_blocks(const MmditOptions& o, F f) {
  for (int64_t i = 0; i < o.layers; ++i) f(BlockPlace{i == 0, i + 1 == o.layers, o.is_dual(i)});
}

}  // namespace

bool runs_at_once(const MmditOptions& o, const MmditCall& c) {
  return c.bytes == 2 && !c.trained && !o.qk_norm && o.dual_attention_layers.empty() &&
         ops::joint_block_serves(o.width(), o.head_dim);
}

double mmdit_grid(const MmditOptions& o) {
  return real(o.pos_embed_max * o.pos_embed_max * o.width());
}

PassCost mmdit_cost(const MmditOptions& o, const MmditCall& c) {
  const double n = real(c.image_tokens), m = real(c.text_tokens), d = real(o.width()),
               e = real(c.bytes), pixels = real(o.patch_size * o.patch_size * o.channels);
  PassCost cost;
  const bool at_once = runs_at_once(o, c);
  double block_graph = 0, linear = 0, modulation = 0, joined = 0;
  over_blocks(o, [&](const BlockPlace& at) {
    BlockCost b = block_cost(o, c, at);
    if (at_once) keep_at_once(o, c, at.last, b);
    linear += b.linear;
    modulation += b.modulation;
    cost.attention += b.attention;
    cost.graph += c.checkpointing ? b.input : b.graph;
    joined = c.checkpointing ? std::max(joined, b.joined) : joined + b.joined;
    block_graph = std::max(block_graph, b.graph - b.input);
  });
  const double ends = 2 * n * d * pixels * 2;
  cost.forward = linear + modulation + cost.attention + ends + 2 * m * real(o.context_dim) * d +
                 2 * d * (256 + 2 * d + real(o.pooled_dim)) + 4 * d * d;
  // Backward: linear layers to their inputs, and again to their weights where those are trained;
  // attention computes its matrix again.
  cost.backward = linear * (c.trained ? 2 : 1) + 2.5 * cost.attention +
                  ends * (c.input_gradient ? 1 : 0.5) + (c.trained ? 2 * modulation + ends : 0);
  if (c.checkpointing) cost.backward += linear + modulation + cost.attention;
  cost.graph += n * (kFloat * d + 2 * kFloat) +
                (c.trained ? n * e * d + m * e * real(o.context_dim) + n * kFloat * pixels : 0);
  cost.graph_once = c.checkpointing ? 0 : joined;
  // Without gradient the feed-forward layer is the fullest moment (two fp32 images and the text,
  // and the normed, hidden and activated tokens), or the attention: qkv by stream and joined, its
  // result, and the copies of k and v that bf16 products are packed into.
  const double streams = kFloat * d * (2 * n + m),
               qkv = e * d * (n + m) * (3 * 2 + 1 + (e < kFloat ? 2 : 0));
  cost.idle = streams + std::max(9 * e * d * n, qkv);
  cost.unwind = kFloat * d * (2 * n + m) + 9 * e * d * n + (c.checkpointing ? block_graph : 0);
  if (at_once) {
    // Both streams twice; backwards also the gradients of q, k, v and of attention, and the
    // adapters' copies of an image's.
    cost.idle = 2 * kFloat * d * (n + m) + 2 * e * d * n;
    cost.unwind = 2 * kFloat * d * (n + m) + e * d * (4 * (n + m) + 5 * n) +
                  (c.checkpointing ? block_graph : 0);
  }
  return cost;
}

// Counted on the plain operations that a pair runs through (ops/functional.cpp): tokens times
// width, and the attention's matrices.
PassCost mmdit_tangent_cost(const MmditOptions& o, const MmditCall& c) {
  const double n = real(c.image_tokens), m = real(c.text_tokens), all = n + m, d = real(o.width()),
               e = real(c.bytes), heads = real(o.heads);
  const PassCost plain = mmdit_cost(o, c);
  PassCost cost;
  cost.forward =
      2 * plain.forward +
      2 * plain.attention / 2;  // three products with the tangents of q, k and v instead of one
  cost.attention = 2.5 * plain.attention;
  cost.backward = 2 * plain.backward;
  // Long sequences go in tiles (ops/attention_tangent.h), which no batch multiplies and no graph
  // keeps; counted a sample, as the larger ones of an accelerator.
  const bool whole = all * all <= real(ops::kWholeScores);
  const double matrix = whole ? heads * all * all * e : 0,
               tiles = whole
                           ? 0
                           : 5 * std::min(heads * all * all * kFloat, real(ops::kDeviceTileBytes)),
               unwind_tiles = whole ? 0 : 2 * tiles;
  // The fullest moments: the attention's matrices beside two copies of qkv, or the hidden layer
  // with all that its GELU's derivative is made of.
  cost.idle = 2 * kFloat * d * (2 * n + m) +
              std::max(5.5 * matrix + tiles + 16 * e * d * all, 54 * e * d * n);
  constexpr double kStreamWidths = 24, kProductWidths = 52,
                   kMatrices =
                       4;  // a token's widths in fp32 and in the products' numbers; matrices a head
  const double block = all * d * (kStreamWidths * kFloat + kProductWidths * e) + kMatrices * matrix;
  cost.graph = c.checkpointing ? real(o.layers) * 2 * kFloat * d * all : real(o.layers) * block;
  cost.unwind = 2 * plain.unwind + 2 * matrix + unwind_tiles + (c.checkpointing ? block : 0);
  return cost;
}

}  // namespace vggflow
