#include "vggflow/families/sd3/mmdit.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cmath>
#include <concepts>
#include <optional>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/nn/checkpoint.h"
#include "vggflow/ops/block_functions.h"
#include "vggflow/ops/cast_linear.h"
#include "vggflow/ops/joint_block.h"

namespace vggflow {
namespace {

constexpr double kNormEps = 1e-6;

// `count` equal slices of the last dimension.
template <NetworkValue T>
std::vector<T> chunks(const T& x, int64_t count) {
  std::vector<T> parts;
  const int64_t width = primal(x).size(-1) / count;
  for (int64_t i = 0; i < count; ++i) parts.push_back(ops::narrow(x, -1, i * width, width));
  return parts;
}

// Parts (n, ...) of one block: a view of it where they lie behind one another, else a copy.
Tensor joined(const Tensor& a, const Tensor& b, const Tensor& c) {
  const auto follows = [](const Tensor& x, const Tensor& y) {
    return !x.requires_grad() && !y.requires_grad() && lies_behind(x, y);
  };
  if (!follows(a, b) || !follows(b, c)) return at::cat({a, b, c}, 0);
  std::vector<int64_t> sizes = a.sizes().vec();
  sizes[0] *= 3;
  return a.as_strided(sizes, a.strides());
}

void join(Linear& q, Linear& k, Linear& v) {
  const auto lay_out = [](Tensor& a, Tensor& b, Tensor& c) {
    const Tensor all = at::cat({a, b, c}, 0);
    const int64_t n = a.size(0);
    a = all.narrow(0, 0, n);
    b = all.narrow(0, n, n);
    c = all.narrow(0, 2 * n, n);
  };
  lay_out(q.weight, k.weight, v.weight);
  lay_out(q.bias, k.bias, v.bias);
}

Tensor joint_weight(const Linear& q, const Linear& k, const Linear& v, at::ScalarType dtype) {
  return joined(q.weight.to(dtype), k.weight.to(dtype), v.weight.to(dtype));
}
Tensor joint_bias(const Linear& q, const Linear& k, const Linear& v, at::ScalarType dtype) {
  return joined(q.bias, k.bias, v.bias).to(dtype);
}

// Three projections as one product: (..., D) -> (..., 3 D). Adapters are added per projection.
template <TensorLike T>
T joint_projection(const T& x, const Linear& q, const Linear& k, const Linear& v) {
  const bool adapters = q.lora.a.defined() || k.lora.a.defined() || v.lora.a.defined();
  if (adapters) return ops::cat(std::vector<T>{q.forward(x), k.forward(x), v.forward(x)}, -1);
  const auto dtype = primal(x).scalar_type();
  return ops::linear(x, joint_weight(q, k, v, dtype), joint_bias(q, k, v, dtype));
}

// The base's products are one here too, whatever adapters there are.
Pair joint_projection(const Pair& x, const Linear& q, const Linear& k, const Linear& v) {
  const auto dtype = x.base.scalar_type();
  Pair y = ops::linear(x, joint_weight(q, k, v, dtype), joint_bias(q, k, v, dtype));
  std::vector<Tensor> parts;
  bool adapters = false;
  for (const Linear* layer : {&q, &k, &v}) {
    parts.push_back(adapters_part(*layer, x));
    adapters = adapters || parts.back().defined();
  }
  if (!adapters) return y;
  for (Tensor& part : parts) {
    if (!part.defined()) part = at::zeros_like(x.base);
  }
  y.difference = sum_of(y.difference, at::cat(parts, -1));
  return y;
}

ops::QkWeights weights_of(const RmsNorm& q, const RmsNorm& k) { return {q.weight, k.weight}; }

// One axis of diffusers' get_2d_sincos_pos_embed, (cells, D/2): sin(pos w_i), then cos(pos w_i),
// with w_i = 10000^(-i / (D/4)). The cells of the stored grid span the `base` patches of the
// training size: pos = cell / (cells / base), in fp32 as there.
Tensor sincos_axis(int64_t cells, int64_t base, int64_t width) {
  const int64_t quarter = width / 4;
  const auto cells_per_patch =
      static_cast<float>(static_cast<double>(cells) / static_cast<double>(base));
  Tensor out = at::empty({cells, 2 * quarter});
  auto a = out.accessor<float, 2>();
  for (int64_t cell = 0; cell < cells; ++cell) {
    const double pos = static_cast<float>(cell) / cells_per_patch;
    for (int64_t i = 0; i < quarter; ++i) {
      const double w = std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(quarter));
      a[cell][i] = static_cast<float>(std::sin(pos * w));
      a[cell][quarter + i] = static_cast<float>(std::cos(pos * w));
    }
  }
  return out;
}

// A layer's `count` equal parts of modulation. Where its weights must be widened to x's dtype, one
// part at a time is: all of them would be a third of a block once more, and in fp32.
template <NetworkValue T>
std::vector<T> modulations(const Linear& layer, const T& x, int64_t count) {
  const auto dtype = primal(x).scalar_type();
  if (layer.weight.scalar_type() == dtype || layer.lora.a.defined() ||
      ops::multiplies_as_it_lies(primal(x), layer.weight))
    return chunks(through(layer, x), count);
  const int64_t width = layer.out / count;
  std::vector<T> parts;
  for (int64_t i = 0; i < count; ++i) {
    const auto part = [&](const Tensor& y) { return y.narrow(0, i * width, width).to(dtype); };
    parts.push_back(ops::linear(x, part(layer.weight), part(layer.bias)));
  }
  return parts;
}

// The tensors of values, or of values and tangents in turn, and back: checkpoint() knows tensors
// alone.
std::vector<Tensor> flat(const std::vector<Tensor>& values) { return values; }
std::vector<Tensor> flat(const std::vector<Dual>& values) {
  std::vector<Tensor> all;
  for (const Dual& v : values) all.insert(all.end(), {v.value, v.tangent});
  return all;
}
template <TensorLike T>
std::vector<T> unflat(const std::vector<Tensor>& all) {
  if constexpr (std::same_as<T, Tensor>) {
    return all;
  } else {
    std::vector<Dual> values;
    for (size_t i = 0; i < all.size(); i += 2) values.push_back({all[i], all[i + 1]});
    return values;
  }
}

template <TensorLike T>
void forward_checkpointed(const JointBlock& block, T& image, T& text, const T& silu_embedding,
                          at::ScalarType dtype) {
  const auto f = [&block, dtype](const std::vector<Tensor>& inputs) {
    auto v = unflat<T>(inputs);
    block.forward(v[0], v[1], v[2], dtype);
    v.resize(block.context_pre_only ? 1 : 2);  // an input must not be returned as a result
    return flat(v);
  };
  const auto out =
      unflat<T>(checkpoint(block, f, flat(std::vector<T>{image, text, silu_embedding})));
  image = out[0];
  if (!block.context_pre_only) text = out[1];
}

// Pairs have no graph that would hold on to anything.
void forward_checkpointed(const JointBlock& block, Pair& image, Pair& text,
                          const Pair& silu_embedding, at::ScalarType dtype) {
  block.forward(image, text, silu_embedding, dtype);
}

void init_xavier(Linear& layer, RandomStream& random) {
  const double bound = std::sqrt(6.0 / static_cast<double>(layer.in + layer.out));
  fill_on_host(layer.weight, [&](std::span<float> values) {
    for (float& v : values) v = static_cast<float>((2 * random.uniform() - 1) * bound);
  });
  layer.bias.zero_();
}

}  // namespace

FeedForward::FeedForward(int64_t width)
    : project_in(width, 4 * width), project_out(4 * width, width) {
  add("net.0.proj", project_in);
  add("net.2", project_out);
}

JointAttention::JointAttention(const MmditOptions& o, bool pre_only)
    : heads(o.heads),
      head_dim(o.head_dim),
      context_pre_only(pre_only),
      to_q(o.width(), o.width()),
      to_k(o.width(), o.width()),
      to_v(o.width(), o.width()),
      add_q_proj(o.width(), o.width()),
      add_k_proj(o.width(), o.width()),
      add_v_proj(o.width(), o.width()),
      to_out(o.width(), o.width()) {
  add("to_q", to_q);
  add("to_k", to_k);
  add("to_v", to_v);
  add("add_q_proj", add_q_proj);
  add("add_k_proj", add_k_proj);
  add("add_v_proj", add_v_proj);
  add("to_out.0", to_out);
  if (!context_pre_only) {
    to_add_out = std::make_unique<Linear>(o.width(), o.width());
    add("to_add_out", *to_add_out);
  }
  if (o.qk_norm) {
    for (auto [norm, name] : {std::pair{&norm_q, "norm_q"},
                              {&norm_k, "norm_k"},
                              {&norm_added_q, "norm_added_q"},
                              {&norm_added_k, "norm_added_k"}}) {
      *norm = std::make_unique<RmsNorm>(o.head_dim);
      add(name, **norm);
    }
  }
}

template <NetworkValue T>
JointAttention::Streams<T> JointAttention::forward(const T& image, const T& text) const {
  const int64_t n = primal(image).size(1), m = primal(text).size(1);
  const T qkv_image = joint_projection(image, to_q, to_k, to_v);
  const T qkv_text = joint_projection(text, add_q_proj, add_k_proj, add_v_proj);
  const T qkv =
      norm_q ? ops::normalize_qk(qkv_image, weights_of(*norm_q, *norm_k), qkv_text,
                                 weights_of(*norm_added_q, *norm_added_k), heads, norm_q->eps)
             : ops::cat(std::vector<T>{qkv_image, qkv_text}, 1);
  const T out = ops::attention(qkv, heads);  // (B, N + M, D)
  Streams<T> result{through(to_out, ops::narrow(out, 1, 0, n)), T{}};
  if (to_add_out) result.text = through(*to_add_out, ops::narrow(out, 1, n, m));
  return result;
}
template JointAttention::Streams<Tensor> JointAttention::forward(const Tensor&,
                                                                 const Tensor&) const;
template JointAttention::Streams<Dual> JointAttention::forward(const Dual&, const Dual&) const;
template JointAttention::Streams<Pair> JointAttention::forward(const Pair&, const Pair&) const;

SelfAttention::SelfAttention(const MmditOptions& o)
    : heads(o.heads),
      head_dim(o.head_dim),
      to_q(o.width(), o.width()),
      to_k(o.width(), o.width()),
      to_v(o.width(), o.width()),
      to_out(o.width(), o.width()) {
  add("to_q", to_q);
  add("to_k", to_k);
  add("to_v", to_v);
  add("to_out.0", to_out);
  if (o.qk_norm) {
    norm_q = std::make_unique<RmsNorm>(o.head_dim);
    norm_k = std::make_unique<RmsNorm>(o.head_dim);
    add("norm_q", *norm_q);
    add("norm_k", *norm_k);
  }
}

template <NetworkValue T>
T SelfAttention::forward(const T& x) const {
  T qkv = joint_projection(x, to_q, to_k, to_v);
  if (norm_q) qkv = ops::normalize_qk(qkv, weights_of(*norm_q, *norm_k), heads, norm_q->eps);
  return through(to_out, ops::attention(qkv, heads));
}
template Tensor SelfAttention::forward(const Tensor&) const;
template Dual SelfAttention::forward(const Dual&) const;
template Pair SelfAttention::forward(const Pair&) const;

JointBlock::JointBlock(const MmditOptions& o, bool pre_only, bool dual)
    : context_pre_only(pre_only),
      norm1(o.width(), (dual ? 9 : 6) * o.width()),
      norm1_context(o.width(), (pre_only ? 2 : 6) * o.width()),
      attn(o, pre_only),
      ff(o.width()) {
  add("norm1.linear", norm1);
  add("norm1_context.linear", norm1_context);
  add("attn", attn);
  if (dual) {
    attn2 = std::make_unique<SelfAttention>(o);
    add("attn2", *attn2);
  }
  add("ff", ff);
  if (!context_pre_only) {
    ff_context = std::make_unique<FeedForward>(o.width());
    add("ff_context", *ff_context);
  }
}

namespace {

ops::LayerWeights weights_of(const Linear& layer) {
  return {layer.weight, layer.bias, layer.lora.a, layer.lora.b, layer.lora.scale};
}

// Modulations in the order of StreamModulations; the stream that ends with the last block has two.
// Of pairs: none where one has a difference.
std::optional<ops::StreamModulations> modulations_of(const std::vector<Tensor>& m) {
  if (m.size() == 2) return ops::StreamModulations{m[1], m[0], {}, {}, {}, {}};
  return ops::StreamModulations{m[0], m[1], m[2], m[3], m[4], m[5]};
}
std::optional<ops::StreamModulations> modulations_of(const std::vector<Pair>& m) {
  std::vector<Tensor> bases;
  for (const Pair& part : m) {
    if (part.difference.defined()) return std::nullopt;
    bases.push_back(part.base);
  }
  return modulations_of(bases);
}

// A block in one call (ops/joint_block.h), where that takes it: false, and nothing done, where it
// does not.
template <class T>
bool forward_at_once(const JointBlock& block, T& image, T& text, const std::vector<T>& mod,
                     const std::vector<T>& mod_text, at::ScalarType dtype) {
  const JointAttention& attn = block.attn;
  if (dtype != at::kBFloat16 || block.attn2 || attn.norm_q) return false;
  const auto rows = modulations_of(mod), text_rows = modulations_of(mod_text);
  if (!rows || !text_rows) return false;
  const ops::BlockStream image_part{
      {weights_of(attn.to_q), weights_of(attn.to_k), weights_of(attn.to_v), weights_of(attn.to_out),
       weights_of(block.ff.project_in), weights_of(block.ff.project_out)},
      *rows};
  ops::BlockStream text_part{{weights_of(attn.add_q_proj),
                              weights_of(attn.add_k_proj),
                              weights_of(attn.add_v_proj),
                              {},
                              {},
                              {}},
                             *text_rows};
  if (!block.context_pre_only) {
    text_part.layers.out = weights_of(*attn.to_add_out);
    text_part.layers.in = weights_of(block.ff_context->project_in);
    text_part.layers.back = weights_of(block.ff_context->project_out);
  }
  if (!ops::joint_block_takes(image, text, image_part, text_part, attn.heads)) return false;
  ops::joint_block(image, text, image_part, text_part, attn.heads, kNormEps);
  return true;
}

}  // namespace

template <NetworkValue T>
void JointBlock::forward(T& image, T& text, const T& silu_embedding, at::ScalarType dtype) const {
  bring_weights();
  const auto mod = modulations(norm1, silu_embedding, attn2 ? 9 : 6);
  const auto mod_text = modulations(norm1_context, silu_embedding, context_pre_only ? 2 : 6);
  if constexpr (!std::same_as<T, Dual>) {
    if (forward_at_once(*this, image, text, mod, mod_text, dtype)) return;
  }
  // The last block's text modulation has diffusers' AdaLayerNormContinuous order: scale, shift.
  const T& text_shift = mod_text[context_pre_only ? 1 : 0];
  const T& text_scale = mod_text[context_pre_only ? 0 : 1];
  const auto out =
      attn.forward(ops::layer_norm_modulate(image, mod[0], mod[1], kNormEps, dtype),
                   ops::layer_norm_modulate(text, text_shift, text_scale, kNormEps, dtype));
  T update = out.image, gate = mod[2];
  if (attn2) {
    const T before = image;  // both attentions of a dual block see the same image
    image = ops::gated_add(image, gate, update);
    update = attn2->forward(ops::layer_norm_modulate(before, mod[6], mod[7], kNormEps, dtype));
    gate = mod[8];
  }
  const auto next = ops::gated_add_modulate(image, gate, update, mod[3], mod[4], kNormEps);
  image = ops::gated_add(next.stream, mod[5], ff.forward(next.modulated));
  if (context_pre_only) return;
  const auto next_text =
      ops::gated_add_modulate(text, mod_text[2], out.text, mod_text[3], mod_text[4], kNormEps);
  text = ops::gated_add(next_text.stream, mod_text[5], ff_context->forward(next_text.modulated));
}
template void JointBlock::forward(Tensor&, Tensor&, const Tensor&, at::ScalarType) const;
template void JointBlock::forward(Dual&, Dual&, const Dual&, at::ScalarType) const;
template void JointBlock::forward(Pair&, Pair&, const Pair&, at::ScalarType) const;

Mmdit::Mmdit(const MmditOptions& o)
    : options(o),
      pos_embed(o.channels, o.width(), o.patch_size, o.patch_size),
      timestep_embedder(256, o.width()),
      text_embedder(o.pooled_dim, o.width()),
      context_embedder(o.context_dim, o.width()),
      norm_out(o.width(), 2 * o.width()),
      proj_out(o.width(), o.patch_size * o.patch_size * o.channels) {
  check_mmdit_options(o);
  add("pos_embed.proj", pos_embed);
  add("time_text_embed.timestep_embedder", timestep_embedder);
  add("time_text_embed.text_embedder", text_embedder);
  add("context_embedder", context_embedder);
  for (int64_t i = 0; i < o.layers; ++i) {
    blocks.push_back(
        std::make_unique<JointBlock>(o, /*context_pre_only=*/i + 1 == o.layers, o.is_dual(i)));
    add(fmt::format("transformer_blocks.{}", i), *blocks.back());
  }
  add("norm_out.linear", norm_out);
  add("proj_out", proj_out);
  axis_ = sincos_axis(o.pos_embed_max, o.sample_size / o.patch_size, o.width());
}

std::vector<std::pair<std::string, Tensor>> Mmdit::checkpoint_tensors() {
  const int64_t side = options.pos_embed_max;
  if (!position_grid.defined())
    position_grid = at::zeros({1, side * side, options.width()}, pos_embed.weight.options());
  std::vector<std::pair<std::string, Tensor>> all{{"pos_embed.pos_embed", position_grid}};
  for (const NamedTensor& p : parameters()) all.emplace_back(p.name, *p.tensor);
  return all;
}

// The first half of the channels encodes the column, the second half the row.
Tensor Mmdit::positions(int64_t rows, int64_t columns) const {
  const int64_t side = options.pos_embed_max, d = options.width(), top = (side - rows) / 2,
                left = (side - columns) / 2;
  if (position_grid.defined()) {
    return position_grid.view({side, side, d})
        .narrow(0, top, rows)
        .narrow(1, left, columns)
        .reshape({1, rows * columns, d});
  }
  const Tensor across = axis_.narrow(0, left, columns).unsqueeze(0).expand({rows, columns, d / 2});
  const Tensor down = axis_.narrow(0, top, rows).unsqueeze(1).expand({rows, columns, d / 2});
  return at::cat({across, down}, -1).view({1, rows * columns, d});
}

Tensor Mmdit::positions_like(int64_t rows, int64_t columns, const Tensor& x) const {
  constexpr size_t kMostKept = 8;
  const std::lock_guard lock(positions_mutex_);
  for (const Positions& p : positions_) {
    if (p.rows == rows && p.columns == columns && p.grid.is_same(position_grid) &&
        p.made.device() == x.device() && p.made.scalar_type() == x.scalar_type())
      return p.made;
  }
  const at::NoGradGuard no_graph;
  if (positions_.size() == kMostKept) positions_.erase(positions_.begin());
  positions_.push_back({rows, columns, position_grid, positions(rows, columns).to(x.options())});
  return positions_.back().made;
}

void Mmdit::join_projections() {
  for (auto& block : blocks) {
    JointAttention& a = block->attn;
    join(a.to_q, a.to_k, a.to_v);
    join(a.add_q_proj, a.add_k_proj, a.add_v_proj);
    if (block->attn2) join(block->attn2->to_q, block->attn2->to_k, block->attn2->to_v);
  }
}

void Mmdit::bring_blocks_from(std::unique_ptr<BlockSource> source, at::Device device) {
  std::vector<Module*> all;
  for (const auto& block : blocks) all.push_back(block.get());
  const auto ring = std::make_shared<BlockRing>(all, device, std::move(source));
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i]->place = {ring, i};
}

void Mmdit::init(uint64_t seed) {
  uint64_t index = 0;
  for (auto& [path, module] : modules()) {
    RandomStream random({seed, Purpose::kInit, 0, index++});
    if (auto* layer = dynamic_cast<Linear*>(module)) init_xavier(*layer, random);
    if (auto* layer = dynamic_cast<Conv2d*>(module)) layer->init(random);
  }
  for (auto& block : blocks) {
    block->norm1.init_zero();
    block->norm1_context.init_zero();
  }
  norm_out.init_zero();
  proj_out.init_zero();
}

std::unique_ptr<Mmdit> Mmdit::view() const {
  auto other = [&] {
    const ShapesOnly guard;
    return std::make_unique<Mmdit>(options);
  }();
  const auto own = other->parameters(), shared = parameters();
  for (size_t i = 0; i < own.size(); ++i) *own[i].tensor = *shared[i].tensor;
  for (size_t i = 0; i < blocks.size(); ++i) other->blocks[i]->place = blocks[i]->place;
  other->position_grid = position_grid;
  other->axis_ = axis_;
  other->compute = compute;
  other->checkpointing = checkpointing;
  other->passes = passes;
  return other;
}

template <NetworkValue T>
T Mmdit::forward(const T& x, const T& timestep, const Conditioning& conditioning) const {
  const Tensor& xv = primal(x);
  const int64_t p = options.patch_size, d = options.width(), c = options.channels;
  const auto fits = [&](int64_t side) {
    return side >= p && side % p == 0 && side <= options.pos_embed_max * p;
  };
  VGGFLOW_CHECK(xv.dim() == 4 && xv.size(1) == c && fits(xv.size(2)) && fits(xv.size(3)),
                "[mmdit] expected x (B, {}, H, W) with H and W multiples of {} up to {}, got {}", c,
                p, options.pos_embed_max * p, shape_string(xv));
  VGGFLOW_CHECK(conditioning.context.dim() == 3 && conditioning.context.size(0) == xv.size(0) &&
                    conditioning.context.size(2) == options.context_dim &&
                    conditioning.pooled.size(1) == options.pooled_dim,
                "[mmdit] expected text tokens ({}, T, {}) and pooled text ({}, {}), got {} and {}",
                xv.size(0), options.context_dim, xv.size(0), options.pooled_dim,
                shape_string(conditioning.context), shape_string(conditioning.pooled));
  const auto stream = xv.scalar_type();  // of the residual streams
  const auto dtype = stream == at::kFloat ? compute : stream;
  const int64_t b = xv.size(0), rows = xv.size(2) / p, columns = xv.size(3) / p;

  T image = ops::to_dtype(through(pos_embed, x), stream);  // (B, D, rows, columns)
  image = ops::permute(ops::reshape(image, {b, d, rows * columns}), {0, 2, 1}) +
          positions_like(rows, columns, xv);  // (B, N, D)
  T text =
      ops::to_dtype(through(context_embedder, constant<T>(conditioning.context.to(dtype))), stream);
  const T time =
      through(timestep_embedder, ops::to_dtype(ops::timestep_embedding(timestep, 256), stream));
  const T embedding =
      ops::silu(time + through(text_embedder, constant<T>(conditioning.pooled.to(stream))));
  for (const auto& block : blocks) {
    if (checkpointing || block->place.ring) {
      forward_checkpointed(*block, image, text, embedding, dtype);
    } else {
      block->forward(image, text, embedding, dtype);
    }
  }

  const auto mod = modulations(norm_out, embedding, 2);  // scale, shift
  const T out = ops::to_dtype(
      through(proj_out, ops::layer_norm_modulate(image, mod[1], mod[0], kNormEps, dtype)), stream);
  return counted(
      ops::reshape(ops::permute(ops::reshape(out, {b, rows, columns, p, p, c}), {0, 5, 1, 3, 2, 4}),
                   xv.sizes()),
      passes);
}
template Tensor Mmdit::forward(const Tensor&, const Tensor&, const Conditioning&) const;
template Dual Mmdit::forward(const Dual&, const Dual&, const Conditioning&) const;
template Pair Mmdit::forward(const Pair&, const Pair&, const Conditioning&) const;

std::string Mmdit::description() const {
  const int64_t patches = options.sample_size / options.patch_size;
  const std::string dual =
      options.dual_attention_layers.empty()
          ? ""
          : fmt::format(", {} of them dual", options.dual_attention_layers.size());
  return fmt::format(
      "Mmdit({} joint blocks{}, width {}, {} heads of {}{}, {}x{}x{} in patches of {}, {} image "
      "tokens, text tokens of {}, "
      "{:.2f} M parameters)",
      options.layers, dual, options.width(), options.heads, options.head_dim,
      options.qk_norm ? " with QK norm" : "", options.channels, options.sample_size,
      options.sample_size, options.patch_size, patches * patches, options.context_dim,
      static_cast<double>(parameter_count()) * 1e-6);
}

}  // namespace vggflow
