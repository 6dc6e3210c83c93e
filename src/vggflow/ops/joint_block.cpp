#include "vggflow/ops/joint_block.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "vggflow/kernels/narrow.h"
#include "vggflow/ops/cpu_kernels.h"
#include "vggflow/ops/functional.h"
#include "vggflow/ops/random_tensor.h"

namespace vggflow::ops {
namespace {

constexpr int64_t kWidest = 192;

template <class Layers>
auto layers_of(Layers& s) {
  return std::array{&s.q, &s.k, &s.v, &s.out, &s.in, &s.back};
}

std::vector<Tensor> tensors_of(const StreamLayers& image, const StreamLayers& text) {
  std::vector<Tensor> all;
  for (const StreamLayers* s : {&image, &text}) {
    for (const LayerWeights* layer : layers_of(*s)) {
      if (layer->weight.defined()) all.insert(all.end(), {layer->weight, layer->bias});
    }
  }
  return all;
}

std::array<const Tensor*, 6> parts_of(const StreamModulations& m) {
  return {&m.shift, &m.scale, &m.gate, &m.mlp_shift, &m.mlp_scale, &m.mlp_gate};
}

// Layers on the same input as one, in the kernel's layout.
struct PackedLayer {
  Tensor weight, bias;
  int64_t n = 0, k = 0;
  kernels::PackedLinear view() const {
    return {data<kernels::bf16>(weight), bias.defined() ? data<float>(bias) : nullptr, n, k};
  }
};

PackedLayer pack_plain(const Tensor& w) {
  PackedLayer p{at::empty({kernels::packed_size(w.size(0), w.size(1))}, w.options()),
                {},
                w.size(0),
                w.size(1)};
  kernels::narrow_kernels()->pack(data<kernels::bf16>(w), p.n, p.k, p.k,
                                  data<kernels::bf16>(p.weight));
  return p;
}

PackedLayer pack(const std::vector<LayerWeights>& layers) {
  if (!layers.front().weight.defined()) return {};
  std::vector<Tensor> weights, biases;
  for (const LayerWeights& layer : layers) {
    weights.push_back(layer.weight);
    biases.push_back(layer.bias.to(at::kFloat));
  }
  PackedLayer p = pack_plain(at::cat(weights).contiguous());
  p.bias = at::zeros({(p.n + 31) / 32 * 32}, at::kFloat);
  p.bias.narrow(0, 0, p.n).copy_(at::cat(biases));
  return p;
}

struct PackedStream {
  explicit PackedStream(const StreamLayers& s)
      : qkv(pack({s.q, s.k, s.v})), out(pack({s.out})), in(pack({s.in})), back(pack({s.back})) {}
  PackedLayer qkv, out, in, back;
};

// Modulations as rows that live while they are used.
struct Modulated {
  explicit Modulated(const StreamModulations& m) {
    for (const Tensor* part : parts_of(m))
      parts.push_back(part->defined() ? as_rows(*part) : Tensor());
  }
  kernels::Rows row(size_t i) const {
    return parts[i].defined() ? rows(parts[i]) : kernels::Rows{nullptr, 0};
  }
  std::vector<Tensor> parts;
};

kernels::Stream stream_of(const PackedStream& p, const Modulated& m, const Tensor& x,
                          const Tensor& y) {
  return {p.qkv.view(),
          p.out.n ? p.out.view() : kernels::PackedLinear{},
          p.in.n ? p.in.view() : kernels::PackedLinear{},
          p.back.n ? p.back.view() : kernels::PackedLinear{},
          data<float>(x),
          y.defined() ? data<float>(y) : nullptr,
          x.size(1),
          m.row(0),
          m.row(1),
          m.row(2),
          m.row(3),
          m.row(4),
          m.row(5),
          !y.defined()};
}

// A block's weights in the kernel's layout. The tensors that they were made of are held weakly:
// their addresses are not given to others, and they may go.
class PackedBlock {
 public:
  PackedBlock(const StreamLayers& image_layers, const StreamLayers& text_layers)
      : image(image_layers), text(text_layers) {
    for (const Tensor& t : tensors_of(image_layers, text_layers))
      sources_.push_back({WeakTensor(t.getIntrusivePtr()), t._version()});
  }
  bool is_of(const std::vector<Tensor>& now) const {
    return std::equal(now.begin(), now.end(), sources_.begin(), sources_.end(),
                      [](const Tensor& t, const Source& source) {
                        return t.unsafeGetTensorImpl() == source.tensor._unsafe_get_target() &&
                               t._version() == source.version;
                      });
  }
  bool outlives_its_source() const {
    return std::any_of(sources_.begin(), sources_.end(),
                       [](const Source& source) { return source.tensor.expired(); });
  }
  const PackedStream image, text;

 private:
  using WeakTensor = c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;
  struct Source {
    WeakTensor tensor;
    int64_t version;
  };
  std::vector<Source> sources_;
};

std::shared_ptr<const PackedBlock> packed(const StreamLayers& image, const StreamLayers& text) {
  static std::mutex mutex;
  static std::map<const void*, std::shared_ptr<const PackedBlock>> all;  // by the first weight
  const std::lock_guard lock(mutex);
  const void* place = image.q.weight.unsafeGetTensorImpl();
  const auto found = all.find(place);
  if (found != all.end() && found->second->is_of(tensors_of(image, text))) return found->second;
  std::erase_if(all, [](const auto& entry) { return entry.second->outlives_its_source(); });
  const at::NoGradGuard no_graph;
  return all[place] = std::make_shared<const PackedBlock>(image, text);
}

bool has_adapters(const BlockStream& part) {
  for (const LayerWeights* layer : layers_of(part.layers)) {
    if (layer->a.defined()) return true;
  }
  return false;
}

bool takes_streams(const Tensor& image, const Tensor& text, const BlockStream& image_part,
                   const BlockStream& text_part, int64_t heads) {
  const int64_t d = image.size(2);
  if (!kernels::narrow_kernels() || !has_kernel(image) || d > kWidest || d / heads % 2 != 0)
    return false;
  const auto constant = [](const Tensor& t) {
    return !at::GradMode::is_enabled() || !t.requires_grad();
  };
  const auto stream = [&](const Tensor& x) { return x.scalar_type() == at::kFloat && constant(x); };
  if (!stream(image) || !stream(text)) return false;
  for (const BlockStream* part : {&image_part, &text_part}) {
    for (const Tensor* m : parts_of(part->modulations)) {
      if (m->defined() && !constant(*m)) return false;
    }
  }
  const std::vector<Tensor> all = tensors_of(image_part.layers, text_part.layers);
  return std::all_of(all.begin(), all.end(), [&](const Tensor& t) {
    return t.defined() && t.is_cpu() && t.scalar_type() == at::kBFloat16 && constant(t);
  });
}

}  // namespace

bool joint_block_takes(const Tensor& image, const Tensor& text, const BlockStream& image_part,
                       const BlockStream& text_part, int64_t heads) {
  return !has_adapters(image_part) && !has_adapters(text_part) &&
         takes_streams(image, text, image_part, text_part, heads);
}

bool joint_block_takes(const Pair& image, const Pair& text, const BlockStream& image_part,
                       const BlockStream& text_part, int64_t heads) {
  return !at::GradMode::is_enabled() &&
         takes_streams(image.base, text.base, image_part, text_part, heads);
}

void joint_block(Tensor& image, Tensor& text, const BlockStream& image_part,
                 const BlockStream& text_part, int64_t heads, double eps) {
  const auto weights = packed(image_part.layers, text_part.layers);
  const Tensor x = image.contiguous(), c = text.contiguous();
  const bool text_ends = !text_part.layers.out.weight.defined();
  const Tensor y = at::empty_like(x), yc = text_ends ? Tensor() : at::empty_like(c);
  const Modulated image_rows(image_part.modulations), text_rows(text_part.modulations);
  const kernels::Stream image_stream = stream_of(weights->image, image_rows, x, y),
                        text_stream = stream_of(weights->text, text_rows, c, yc);
  const int64_t d = x.size(2);
  at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
    kernels::narrow_kernels()->joint_block(image_stream, text_stream, d, heads,
                                           static_cast<float>(eps), begin, end);
  });
  image = y;
  if (!text_ends) text = yc;
}

namespace {

// Adapters of layers on the same input as one: A's rows behind one another, and B's as blocks.
struct PackedAdapterWeights {
  PackedLayer down, up;
  kernels::PackedAdapter view() const {
    return down.n ? kernels::PackedAdapter{down.view(), up.view()} : kernels::PackedAdapter{};
  }
};

PackedAdapterWeights pack_adapters(const std::vector<LayerWeights>& layers) {
  int64_t rank = 0, out = 0, in = 0;
  for (const LayerWeights& layer : layers) {
    if (layer.weight.defined()) out += layer.weight.size(0);
    if (!layer.a.defined()) continue;
    rank += layer.a.size(0);
    in = layer.a.size(1);
  }
  if (rank == 0) return {};
  const auto options = at::TensorOptions(at::kBFloat16);
  const Tensor down = at::zeros({(rank + 1) / 2 * 2, in}, options),
               up = at::zeros({out, down.size(0)}, options);
  int64_t r = 0, n = 0;
  for (const LayerWeights& layer : layers) {
    if (layer.a.defined()) {
      const int64_t own = layer.a.size(0);
      down.narrow(0, r, own).copy_(layer.a);
      up.narrow(0, n, layer.weight.size(0))
          .narrow(1, r, own)
          .copy_(layer.scale == 1 ? layer.b : layer.b * layer.scale);
      r += own;
    }
    n += layer.weight.size(0);
  }
  return {pack_plain(down), pack_plain(up)};
}

struct StreamAdapters {
  explicit StreamAdapters(const StreamLayers& s)
      : qkv(pack_adapters({s.q, s.k, s.v})),
        out(pack_adapters({s.out})),
        in(pack_adapters({s.in})),
        back(pack_adapters({s.back})) {}
  PackedAdapterWeights qkv, out, in, back;
};

kernels::PairStream pair_stream(const kernels::Stream& base, const StreamAdapters& a,
                                const Tensor& dx, const Tensor& dy) {
  return {base,         data<float>(dx), dy.defined() ? data<float>(dy) : nullptr,
          a.qkv.view(), a.out.view(),    a.in.view(),
          a.back.view()};
}

Tensor difference_of(const Pair& x) {
  return x.difference.defined() ? x.difference.contiguous() : at::zeros(x.base.sizes());
}

}  // namespace

void joint_block(Pair& image, Pair& text, const BlockStream& image_part,
                 const BlockStream& text_part, int64_t heads, double eps) {
  const auto weights = packed(image_part.layers, text_part.layers);
  const Tensor x = image.base.contiguous(), c = text.base.contiguous(), dx = difference_of(image),
               dc = difference_of(text);
  const bool text_ends = !text_part.layers.out.weight.defined();
  const Pair y{at::empty_like(x), at::empty_like(x)},
      yc = text_ends ? Pair{} : Pair{at::empty_like(c), at::empty_like(c)};
  const Modulated image_rows(image_part.modulations), text_rows(text_part.modulations);
  const StreamAdapters image_adapters(image_part.layers), text_adapters(text_part.layers);
  const kernels::PairStream image_stream =
                                pair_stream(stream_of(weights->image, image_rows, x, y.base),
                                            image_adapters, dx, y.difference),
                            text_stream =
                                pair_stream(stream_of(weights->text, text_rows, c, yc.base),
                                            text_adapters, dc, yc.difference);
  const int64_t d = x.size(2);
  at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
    kernels::narrow_kernels()->joint_block_pair(image_stream, text_stream, d, heads,
                                                static_cast<float>(eps), begin, end);
  });
  image = y;
  if (!text_ends) text = yc;
}

namespace {

Tensor apply(const LayerWeights& layer, const Tensor& x) {
  const auto type = x.scalar_type();
  const Tensor y = at::linear(x, layer.weight.to(type), layer.bias.to(type));
  return layer.a.defined()
             ? lora_up(y, at::linear(x, layer.a.to(type)), layer.b.to(type), layer.scale)
             : y;
}

Tensor modulated(const Tensor& x, const Tensor& shift, const Tensor& scale, double eps) {
  const auto type = x.scalar_type();
  return layer_norm_modulate(x, shift.to(type), scale.to(type), eps, type);
}

Tensor queries_keys_values(const BlockStream& p, const Tensor& x, double eps) {
  const Tensor y = modulated(x, p.modulations.shift, p.modulations.scale, eps);
  return at::cat({apply(p.layers.q, y), apply(p.layers.k, y), apply(p.layers.v, y)}, -1);
}

Tensor finished(const BlockStream& p, const Tensor& x, const Tensor& attended, double eps) {
  const StreamModulations& m = p.modulations;
  const auto type = x.scalar_type();
  const Tensor y = gated_add(x, m.gate.to(type), apply(p.layers.out, attended));
  const Tensor hidden = gelu_tanh(apply(p.layers.in, modulated(y, m.mlp_shift, m.mlp_scale, eps)));
  return gated_add(y, m.mlp_gate.to(type), apply(p.layers.back, hidden));
}

}  // namespace

void joint_block_plain(Tensor& image, Tensor& text, const BlockStream& image_part,
                       const BlockStream& text_part, int64_t heads, double eps) {
  const int64_t n = image.size(1), m = text.size(1);
  const Tensor out = attention(at::cat({queries_keys_values(image_part, image, eps),
                                        queries_keys_values(text_part, text, eps)},
                                       1),
                               heads);
  image = finished(image_part, image, out.narrow(1, 0, n), eps);
  if (text_part.layers.out.weight.defined())
    text = finished(text_part, text, out.narrow(1, n, m), eps);
}

namespace {

constexpr double kCheckedEps = 1e-6;

Tensor draw(uint64_t id, at::IntArrayRef shape, double scale) {
  return keyed_normal(31, Purpose::kTest, 0, id, 1, shape).squeeze(0) * scale;
}

LayerWeights random_layer(uint64_t id, int64_t out, int64_t in) {
  const double scale = 0.7 / std::sqrt(static_cast<double>(in));
  return {draw(id, {out, in}, scale).to(at::kBFloat16), draw(id + 1, {out}, 0.2).to(at::kBFloat16)};
}

BlockStream random_part(uint64_t id, int64_t batch, int64_t d, bool ends) {
  BlockStream p{
      {random_layer(id, d, d), random_layer(id + 2, d, d), random_layer(id + 4, d, d), {}, {}, {}},
      {}};
  // A slice of wider rows, as modulations may be.
  const auto rows = [&](uint64_t i) { return draw(id + i, {batch, d + 3}, 0.5).narrow(1, 1, d); };
  p.modulations.shift = rows(20);
  p.modulations.scale = rows(21);
  if (ends) return p;
  p.layers.out = random_layer(id + 6, d, d);
  p.layers.in = random_layer(id + 8, 4 * d, d);
  p.layers.back = random_layer(id + 10, d, 4 * d);
  p.modulations.gate = rows(22);
  p.modulations.mlp_shift = rows(23);
  p.modulations.mlp_scale = rows(24);
  p.modulations.mlp_gate = rows(25);
  return p;
}

double change_error(const Tensor& from, const Tensor& got, const Tensor& want) {
  const Tensor change = want - from.to(at::kDouble), found = got.to(at::kDouble) - from;
  return ((found - change).norm() / change.norm()).item<double>();
}

}  // namespace

RandomBlock::RandomBlock(int64_t batch, int64_t image_tokens, int64_t text_tokens, int64_t heads_,
                         int64_t head_dim, bool text_ends)
    : image(draw(1, {batch, image_tokens, heads_ * head_dim}, 1)),
      text(draw(2, {batch, text_tokens, heads_ * head_dim}, 1)),
      image_part(random_part(100, batch, heads_ * head_dim, false)),
      text_part(random_part(200, batch, heads_ * head_dim, text_ends)),
      heads(heads_) {}

double RandomBlock::error() const {
  const at::NoGradGuard no_graph;
  Tensor x = image, c = text, exact_x = image.to(at::kDouble), exact_c = text.to(at::kDouble);
  joint_block(x, c, image_part, text_part, heads, kCheckedEps);
  joint_block_plain(exact_x, exact_c, image_part, text_part, heads, kCheckedEps);
  const double worst = change_error(image, x, exact_x);
  return c.is_same(text) ? worst : std::max(worst, change_error(text, c, exact_c));
}

double RandomBlock::difference_error(double size) const {
  const at::NoGradGuard no_graph;
  BlockStream adapted = image_part;
  uint64_t id = 300;
  for (LayerWeights* layer : layers_of(adapted.layers)) {
    layer->a = draw(id++, {3, layer->weight.size(1)}, 0.3).to(at::kBFloat16).to(at::kFloat);
    layer->b = draw(id++, {layer->weight.size(0), 3}, 0.3 * size).to(at::kBFloat16).to(at::kFloat);
    layer->scale = 0.5;
  }
  const auto shaken = [&](const Tensor& x, uint64_t place) { return draw(place, x.sizes(), size); };
  Pair x{image, shaken(image, 401)}, c{text, shaken(text, 402)};
  const auto exactly = [&](const BlockStream& part, bool far) {
    const auto start = [&](const Pair& p) {
      const Tensor base = p.base.to(at::kDouble);
      return far ? base + p.difference : base;
    };
    Pair streams{start(x), start(c)};
    joint_block_plain(streams.base, streams.difference, part, text_part, heads, kCheckedEps);
    return streams;
  };
  const Pair near = exactly(image_part, false), far = exactly(adapted, true);
  joint_block(x, c, adapted, text_part, heads, kCheckedEps);
  const auto error = [](const Tensor& got, const Tensor& want) {
    return ((got - want).norm() / want.norm()).item<double>();
  };
  const double worst =
      std::max(change_error(image, x.base, near.base), error(x.difference, far.base - near.base));
  return c.base.is_same(text) ? worst
                              : std::max({worst, change_error(text, c.base, near.difference),
                                          error(c.difference, far.difference - near.difference)});
}

}  // namespace vggflow::ops
