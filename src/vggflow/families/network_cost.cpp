#include "vggflow/families/network_cost.h"

#include <algorithm>

#include "vggflow/families/sd3/mmdit.h"
#include "vggflow/ops/attention_tangent.h"

namespace vggflow {
namespace {

constexpr double kFloat = 4;  // bytes of the residual streams and of the autoencoders

double real(int64_t x) { return static_cast<double>(x); }

}  // namespace

// ---- MMDiT
// -----------------------------------------------------------------------------------------------------------

double mmdit_parameters(const MmditOptions& o) {
  return count_parameters<Mmdit>(o) + real(o.pos_embed_max * o.pos_embed_max * o.width());
}

namespace {

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

template <class F>
void over_blocks(const MmditOptions& o, F f) {
  for (int64_t i = 0; i < o.layers; ++i) f(BlockPlace{i == 0, i + 1 == o.layers, o.is_dual(i)});
}

}  // namespace

PassCost mmdit_cost(const MmditOptions& o, const MmditCall& c) {
  const double n = real(c.image_tokens), m = real(c.text_tokens), d = real(o.width()),
               e = real(c.bytes), pixels = real(o.patch_size * o.patch_size * o.channels);
  PassCost cost;
  double block_graph = 0, linear = 0, modulation = 0, joined = 0;
  over_blocks(o, [&](const BlockPlace& at) {
    const BlockCost b = block_cost(o, c, at);
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

// ---- decoders
// --------------------------------------------------------------------------------------------------------

namespace {

double convolution(double in, double out, double pixels, double side = 3) {
  return 2 * side * side * in * out * pixels;
}

// A walk over layers that adds up work and what is kept, in fp32.
struct Walk {
  bool checkpointing = false;
  PassCost cost = {};
  double backward_peak =
      0;  // while a block is run again: what is kept up to it, all that it keeps, and cotangents

  void keep(double numbers) { cost.graph += kFloat * numbers; }
  void work(double flops) {
    cost.forward += flops;
    cost.backward += flops;
  }
  void live(double numbers) { cost.idle = std::max(cost.idle, kFloat * numbers); }
  // A block's inputs, and all that it keeps, these included.
  void block(double input, double graph, double widest) {
    keep(checkpointing ? input : graph);
    if (checkpointing)
      backward_peak = std::max(backward_peak, cost.graph + kFloat * (graph - input + 4 * widest));
  }
  // The backward pass starts with everything kept and the last layers' cotangents.
  PassCost finish(double last_cotangents) {
    cost.unwind = std::max(kFloat * last_cotangents, backward_peak - cost.graph);
    return cost;
  }
  void resnet(double in, double out, double pixels) {
    const double flops = convolution(in, out, pixels) + convolution(out, out, pixels) +
                         (in == out ? 0 : convolution(in, out, pixels, 1));
    work(flops);
    if (checkpointing) cost.backward += flops;
    block(in * pixels, 3 * (in + out) * pixels,
          std::max(in, out) * pixels);  // before and after each norm, and after each silu
    live((in + 3 * out) * pixels + 2 * std::max(in, out) * pixels);
  }
};

}  // namespace

PassCost vae_decoder_cost(const AutoencoderKlOptions& o, int64_t h, int64_t w, bool checkpointing) {
  Walk walk{.checkpointing = checkpointing};
  double pixels = real(h * w), width = real(o.widths.back());
  walk.work(convolution(real(o.latent_channels), width, pixels));
  walk.keep(real(o.latent_channels) * pixels);
  walk.resnet(width, width, pixels);
  const double attention = 4 * pixels * pixels * width;
  walk.work(4 * 2 * pixels * width * width);
  walk.cost.forward += attention;
  walk.cost.backward += 2.5 * attention;
  walk.cost.attention += attention;
  walk.block(width * pixels, (1 + 3 + 1) * width * pixels + pixels, width * pixels);
  walk.resnet(width, width, pixels);
  for (size_t i = 0; i < o.widths.size(); ++i) {
    const double out = real(o.widths[o.widths.size() - 1 - i]);
    for (int64_t j = 0; j <= o.layers; ++j) {
      walk.resnet(width, out, pixels);
      width = out;
    }
    if (i + 1 == o.widths.size()) break;
    pixels *= 4;
    walk.work(convolution(width, width, pixels));
    walk.keep(width * pixels);
    walk.live(3 * width * pixels + 2 * width * pixels);
  }
  walk.work(convolution(width, real(o.image_channels), pixels));
  walk.keep(3 * width * pixels);
  return walk.finish(5 * width * pixels);
}

PassCost taesd_decoder_cost(const TaesdOptions& o, int64_t h, int64_t w) {
  constexpr int kStages = 3, kBlocks = 3;
  Walk walk{};
  double pixels = real(h * w);
  const double width = real(o.width);
  const auto block = [&] {
    walk.work(3 * convolution(width, width, pixels));
    walk.keep(3 * width * pixels);  // the results of its relus
    walk.live(8 * width * pixels);  // the steps of one expression
  };
  walk.work(convolution(real(o.latent_channels), width, pixels));
  walk.keep((width + 2 * real(o.latent_channels)) * pixels);
  for (int stage = 0; stage < kStages; ++stage) {
    for (int i = 0; i < kBlocks; ++i) block();
    pixels *= 4;
    walk.work(convolution(width, width, pixels));
    walk.keep(2 * width * pixels);  // the doubled image and its convolution
  }
  block();
  walk.work(convolution(width, 3, pixels));
  return walk.finish(5 * width * pixels);
}

// ---- value network, text encoders
// ---------------------------------------------------------------------------

PassCost unet_value_cost(const ValueOptions& o, int64_t channels, int64_t h, int64_t w) {
  Walk walk{};
  const double c = real(channels);
  double pixels = real(h * w);
  const auto block = [&](double in, double out) {
    walk.work(convolution(in, out, pixels) + convolution(out, out, pixels) +
              convolution(in, out, pixels, 1));
    walk.keep(3 * (in + out) * pixels);
    walk.live((in + 4 * out) * pixels + 2 * std::max(in, out) * pixels);
  };
  walk.work(convolution(c, real(o.width), pixels));
  walk.keep(c * pixels);
  for (int64_t i = 0; i < o.layers; ++i) {
    if (i > 0) {
      pixels /= 4;
      walk.keep(real(o.width << (i - 1)) * pixels);
    }
    block(real(i == 0 ? o.width : o.width << (i - 1)), real(o.width << i));
  }
  block(real(o.width << (o.layers - 1)), real(o.width << (o.layers - 1)));
  for (int64_t i = o.layers; i-- > 0;) {
    block(real(2 * (o.width << i)), real(i == 0 ? o.width : o.width << (i - 1)));
    if (i > 0) pixels *= 4;
  }
  walk.work(convolution(real(o.width), c, pixels));
  walk.keep(3 * real(o.width) * pixels);
  walk.cost.backward *= 2;  // to inputs and to weights
  return walk.finish(6 * real(o.width) * pixels);
}

double vae_parameters(const AutoencoderKlOptions& o) { return count_parameters<AutoencoderKl>(o); }
double taesd_decoder_parameters(const TaesdOptions& o) { return count_parameters<TaesdDecoder>(o); }
double clip_text_parameters(const ClipTextOptions& o) { return count_parameters<ClipTextModel>(o); }
double t5_parameters(const T5Options& o) { return count_parameters<T5Encoder>(o); }

double unet_value_parameters(const ValueOptions& o, int64_t channels, int64_t pooled_dim) {
  const double width = real(o.width), e = 2 * width;
  const auto block = [&](double in, double out) {
    return 2 * in + 2 * out + 9 * in * out + 9 * out * out + in * out + 3 * out + e * out + out;
  };
  double sum = 256 * e + real(pooled_dim) * e + 2 * e * e + 4 * e + 9 * real(channels) * width * 2 +
               width + real(channels) + 2 * width;
  for (int64_t i = 0; i < o.layers; ++i) {
    const double here = real(o.width << i), above = real(i == 0 ? o.width : o.width << (i - 1));
    sum += block(above, here) + block(2 * here, above);
  }
  const double deepest = real(o.width << (o.layers - 1));
  return sum + block(deepest, deepest);
}

}  // namespace vggflow
