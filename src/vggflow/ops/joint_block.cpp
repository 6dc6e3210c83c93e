#include "vggflow/ops/joint_block.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
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
    if (n == 0) return {};
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

PackedLayer pack_transposed(const std::vector<LayerWeights>& layers) {
  if (!layers.front().weight.defined()) return {};
  std::vector<Tensor> weights;
  for (const LayerWeights& layer : layers) weights.push_back(layer.weight);
  return pack_plain(at::cat(weights).t().contiguous());
}

struct PackedStream {
  explicit PackedStream(const StreamLayers& s, bool transposed = false) {
    const auto f = transposed ? pack_transposed : pack;
    qkv = f({s.q, s.k, s.v});
    out = f({s.out});
    in = f({s.in});
    back = f({s.back});
  }
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
  return {p.qkv.view(),  p.out.view(),   p.in.view(),
          p.back.view(), data<float>(x), y.defined() ? data<float>(y) : nullptr,
          x.size(1),     m.row(0),       m.row(1),
          m.row(2),      m.row(3),       m.row(4),
          m.row(5),      !y.defined()};
}

// A block's weights in the kernel's layout. The tensors that they were made of are held weakly:
// their addresses are not given to others, and they may go.
class PackedBlock {
 public:
  struct Both {
    PackedStream image, text;
  };
  /// Transposed, for gradients: made when first asked for.
  const Both& transposed(const StreamLayers& image_layers, const StreamLayers& text_layers) const {
    std::call_once(once_, [&] {
      transposed_.reset(
          new Both{PackedStream(image_layers, true), PackedStream(text_layers, true)});
    });
    return *transposed_;
  }
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
  mutable std::once_flag once_;
  mutable std::unique_ptr<const Both> transposed_;
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

}  // namespace

bool joint_block_serves(int64_t width, int64_t head_dim) {
  return kernels::narrow_kernels() && width <= kWidest && head_dim % 2 == 0;
}

namespace {

bool has_adapter(const LayerWeights& layer) { return layer.a.defined(); }

bool asks_gradient(const Tensor& t) {
  return at::GradMode::is_enabled() && t.defined() && t.requires_grad();
}

bool takes_streams(const Tensor& image, const Tensor& text, const BlockStream& image_part,
                   const BlockStream& text_part, int64_t heads) {
  const int64_t d = image.size(2);
  if (!has_kernel(image) || !joint_block_serves(d, d / heads)) return false;
  if (image.scalar_type() != at::kFloat || text.scalar_type() != at::kFloat) return false;
  for (const BlockStream* part : {&image_part, &text_part}) {
    for (const Tensor* m : parts_of(part->modulations)) {
      if (asks_gradient(*m)) return false;
    }
  }
  const std::vector<Tensor> all = tensors_of(image_part.layers, text_part.layers);
  return std::all_of(all.begin(), all.end(), [&](const Tensor& t) {
    return t.defined() && t.is_cpu() && t.scalar_type() == at::kBFloat16 && !asks_gradient(t);
  });
}

}  // namespace

bool joint_block_takes(const Tensor& image, const Tensor& text, const BlockStream& image_part,
                       const BlockStream& text_part, int64_t heads) {
  for (const BlockStream* part : {&image_part, &text_part}) {
    if (has_adapter(part->layers.in) || has_adapter(part->layers.back)) return false;
  }
  return takes_streams(image, text, image_part, text_part, heads);
}

bool joint_block_takes(const Pair& image, const Pair& text, const BlockStream& image_part,
                       const BlockStream& text_part, int64_t heads) {
  return !at::GradMode::is_enabled() &&
         takes_streams(image.base, text.base, image_part, text_part, heads);
}

namespace {

// Adapters of layers on the same input as one: A's rows behind one another, and B's as blocks.
struct PackedAdapterWeights {
  PackedLayer down, up, down_back, up_back;  // the last two: of gradients
  Tensor a, b;                               // A and scale B, bf16
  kernels::PackedAdapter view() const { return {down.view(), up.view()}; }
  kernels::PackedAdapter back() const { return {down_back.view(), up_back.view()}; }
};

PackedAdapterWeights pack_adapters(const std::vector<LayerWeights>& layers, bool with_transposed) {
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
  PackedAdapterWeights p{pack_plain(down), pack_plain(up), {}, {}, down, up};
  if (with_transposed) {
    p.down_back = pack_plain(up.t().contiguous());
    p.up_back = pack_plain(down.t().contiguous());
  }
  return p;
}

struct StreamAdapters {
  StreamAdapters(const StreamLayers& s, bool with_transposed)
      : qkv(pack_adapters({s.q, s.k, s.v}, with_transposed)),
        out(pack_adapters({s.out}, with_transposed)),
        in(pack_adapters({s.in}, with_transposed)),
        back(pack_adapters({s.back}, with_transposed)) {}
  PackedAdapterWeights qkv, out, in, back;
};

// A block's call: what its two streams are made of, and, for a backward pass, what it has to keep.
struct Call : torch::CustomClassHolder {
  Call(const BlockStream& image, const BlockStream& text, int64_t heads_, double eps_, bool taped_)
      : image_part(image),
        text_part(text),
        heads(heads_),
        eps(eps_),
        taped(taped_),
        weights(packed(image.layers, text.layers)),
        image_adapters(image.layers, taped_),
        text_adapters(text.layers, taped_),
        image_rows(image.modulations),
        text_rows(text.modulations) {}
  bool text_ends() const { return !text_part.layers.out.weight.defined(); }
  kernels::BlockTape tape() const {
    return {data_or_null<kernels::bf16>(qkv), data_or_null<float>(lse)};
  }
  template <class T>
  static T* data_or_null(const Tensor& t) {
    return t.defined() ? data<T>(t) : nullptr;
  }

  // What of a stream is kept.
  struct Kept {
    Tensor attended, middle, hidden;
    kernels::StreamTape view(const StreamAdapters& a) const {
      return {a.qkv.view(), a.out.view(), data_or_null<kernels::bf16>(attended),
              data_or_null<float>(middle), data_or_null<kernels::bf16>(hidden)};
    }
  };

  void make_room(const Tensor& x, const Tensor& c) {
    const int64_t b = x.size(0), d = x.size(2), tokens = x.size(1) + c.size(1);
    const auto narrow = x.options().dtype(at::kBFloat16).requires_grad(false);
    qkv = at::empty({b, tokens, 3 * d}, narrow);
    lse = at::empty({b, heads, tokens}, narrow.dtype(at::kFloat));
    const auto keep = [&](Kept& kept, const Tensor& stream, bool ends) {
      const int64_t n = stream.size(1);
      kept.attended = at::empty({b, n, d}, narrow);
      if (ends) return;
      kept.middle = at::empty({b, n, d}, narrow.dtype(at::kFloat));
      kept.hidden = at::empty({b, n, 4 * d}, narrow);
    };
    keep(image_kept, x, false);
    keep(text_kept, c, text_ends());
  }

  BlockStream image_part, text_part;
  int64_t heads;
  double eps;
  bool taped;
  std::shared_ptr<const PackedBlock> weights;
  StreamAdapters image_adapters, text_adapters;
  Modulated image_rows, text_rows;
  Tensor qkv, lse;
  Kept image_kept, text_kept;
};

// (image, text), the latter undefined where it ends.
std::pair<Tensor, Tensor> run(Call& call, const Tensor& x, const Tensor& c) {
  const Tensor y = at::empty_like(x), yc = call.text_ends() ? Tensor() : at::empty_like(c);
  if (call.taped) call.make_room(x, c);
  const kernels::Stream image = stream_of(call.weights->image, call.image_rows, x, y),
                        text = stream_of(call.weights->text, call.text_rows, c, yc);
  const kernels::StreamTape image_tape = call.image_kept.view(call.image_adapters),
                            text_tape = call.text_kept.view(call.text_adapters);
  const int64_t d = x.size(2);
  at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
    kernels::narrow_kernels()->joint_block_taped(image, image_tape, text, text_tape, call.tape(), d,
                                                 call.heads, static_cast<float>(call.eps), begin,
                                                 end);
  });
  return {y, yc};
}

// Gradients of A and B of layers on the same input x (rows, D), from that of their results g.
std::vector<Tensor> adapter_gradients(const std::vector<LayerWeights>& layers,
                                      const PackedAdapterWeights& adapters, const Tensor& x,
                                      const Tensor& g) {
  std::vector<Tensor> all(2 * layers.size());
  if (!adapters.a.defined()) return all;
  const Tensor gb = at::mm(g.t(), at::linear(x, adapters.a)),
               ga = at::mm(at::mm(g, adapters.b).t(), x);
  int64_t r = 0, n = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    const int64_t out = layers[i].weight.size(0);
    if (layers[i].a.defined()) {
      const int64_t own = layers[i].a.size(0);
      all[2 * i] = ga.narrow(0, r, own).to(layers[i].a.scalar_type());
      all[2 * i + 1] =
          gb.narrow(0, n, out).narrow(1, r, own).to(layers[i].b.scalar_type()) * layers[i].scale;
      r += own;
    }
    n += out;
  }
  return all;
}

// One stream of a backward pass: what the kernel writes, and the adapters' gradients of it.
struct StreamGradient {
  StreamGradient(const BlockStream& part_, const StreamAdapters& adapters_, const Call::Kept& kept_,
                 const Tensor& x_, const Tensor& gy_)
      : part(part_),
        adapters(adapters_),
        kept(kept_),
        x(x_),
        gy(gy_),
        gx(at::empty_like(x_)),
        gout(gy_.defined() ? at::empty_like(kept_.attended) : Tensor()) {}
  kernels::StreamBack view(const PackedStream& weights, const Modulated& rows) const {
    return {weights.qkv.view(),  weights.out.view(),
            weights.in.view(),   weights.back.view(),
            adapters.qkv.back(), adapters.out.back(),
            data<float>(x),      Call::data_or_null<float>(gy),
            data<float>(gx),     rows.row(1),
            rows.row(2),         rows.row(4),
            rows.row(5),         x.size(1),
            kept.view(adapters), Call::data_or_null<kernels::bf16>(gout),
            !gy.defined()};
  }
  // Of q, k, v and out, in turn: A's and B's.
  std::vector<Tensor> of_adapters(const Tensor& gqkv, double eps) const {
    const int64_t d = x.size(2);
    const StreamLayers& l = part.layers;
    std::vector<Tensor> all(8);
    if (adapters.qkv.a.defined()) {
      const Tensor y = layer_norm_modulate(x, part.modulations.shift, part.modulations.scale, eps,
                                           at::kBFloat16);
      const auto found = adapter_gradients({l.q, l.k, l.v}, adapters.qkv, y.reshape({-1, d}),
                                           gqkv.reshape({-1, 3 * d}));
      std::copy(found.begin(), found.end(), all.begin());
    }
    if (gout.defined()) {
      const auto found = adapter_gradients({l.out}, adapters.out, kept.attended.reshape({-1, d}),
                                           gout.reshape({-1, d}));
      std::copy(found.begin(), found.end(), all.begin() + 6);
    }
    return all;
  }
  const BlockStream& part;
  const StreamAdapters& adapters;
  const Call::Kept& kept;
  Tensor x, gy, gx, gout;
};

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Adapters are inputs beside the call that holds them, so that they get gradients: A and B of q, k,
// v, out of the image, then of the text.
struct JointBlockFunction : torch::autograd::Function<JointBlockFunction> {
  static variable_list forward(AutogradContext* ctx, const Variable& image, const Variable& text,
                               const Variable&, const Variable&, const Variable&, const Variable&,
                               const Variable&, const Variable&, const Variable&, const Variable&,
                               const Variable&, const Variable&, const Variable&, const Variable&,
                               const Variable&, const Variable&, const Variable&, const Variable&,
                               const c10::intrusive_ptr<Call>& call) {
    const Tensor x = image.contiguous(), c = text.contiguous();
    const auto [y, yc] = run(*call, x, c);
    ctx->save_for_backward({x, c});
    ctx->saved_data["call"] =
        c10::IValue::make_capsule(c10::intrusive_ptr<torch::CustomClassHolder>(call));
    return yc.defined() ? variable_list{y, yc} : variable_list{y};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto holder = ctx->saved_data["call"].toCapsule();
    const Call& call = static_cast<const Call&>(*holder);
    const auto saved = ctx->get_saved_variables();
    const at::NoGradGuard no_graph;
    const StreamGradient image(call.image_part, call.image_adapters, call.image_kept, saved[0],
                               grads[0].contiguous()),
        text(call.text_part, call.text_adapters, call.text_kept, saved[1],
             call.text_ends() ? Tensor() : grads[1].contiguous());
    const auto& weights = call.weights->transposed(call.image_part.layers, call.text_part.layers);
    const kernels::StreamBack image_back = image.view(weights.image, call.image_rows),
                              text_back = text.view(weights.text, call.text_rows);
    const Tensor gqkv = at::empty_like(call.qkv);
    const int64_t d = image.x.size(2), n = image.x.size(1);
    at::parallel_for(0, image.x.size(0), 1, [&](int64_t begin, int64_t end) {
      kernels::narrow_kernels()->joint_block_back(image_back, text_back, call.tape(),
                                                  data<kernels::bf16>(gqkv), d, call.heads,
                                                  static_cast<float>(call.eps), begin, end);
    });
    variable_list all{image.gx, text.gx};
    for (const Tensor& g : image.of_adapters(gqkv.narrow(1, 0, n), call.eps)) all.push_back(g);
    for (const Tensor& g : text.of_adapters(gqkv.narrow(1, n, gqkv.size(1) - n), call.eps))
      all.push_back(g);
    all.emplace_back();
    return all;
  }
};

bool asks_gradients(const StreamLayers& s) {
  for (const LayerWeights* layer : {&s.q, &s.k, &s.v, &s.out}) {
    if (asks_gradient(layer->a) || asks_gradient(layer->b)) return true;
  }
  return false;
}

}  // namespace

void joint_block(Tensor& image, Tensor& text, const BlockStream& image_part,
                 const BlockStream& text_part, int64_t heads, double eps) {
  const StreamLayers &i = image_part.layers, &t = text_part.layers;
  const bool taped =
      asks_gradient(image) || asks_gradient(text) || asks_gradients(i) || asks_gradients(t);
  const auto call = [&] {
    const at::NoGradGuard no_graph;
    return c10::make_intrusive<Call>(image_part, text_part, heads, eps, taped);
  }();
  if (!taped) {
    const auto [y, yc] = run(*call, image.contiguous(), text.contiguous());
    image = y;
    if (yc.defined()) text = yc;
    return;
  }
  const Tensor none = at::empty({0});  // an input of a graph is defined
  const auto given = [&](const Tensor& adapter) { return adapter.defined() ? adapter : none; };
  const variable_list out = JointBlockFunction::apply(
      image, text, given(i.q.a), given(i.q.b), given(i.k.a), given(i.k.b), given(i.v.a),
      given(i.v.b), given(i.out.a), given(i.out.b), given(t.q.a), given(t.q.b), given(t.k.a),
      given(t.k.b), given(t.v.a), given(t.v.b), given(t.out.a), given(t.out.b), call);
  image = out[0];
  if (out.size() > 1) text = out[1];
}

namespace {

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
  const StreamAdapters image_adapters(image_part.layers, false),
      text_adapters(text_part.layers, false);
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

namespace {

struct AdaptedBlock {
  AdaptedBlock(const RandomBlock& b, at::ScalarType type)
      : image(leaf(b.image, type)),
        text(leaf(b.text, type)),
        image_part(b.image_part),
        text_part(b.text_part) {
    uint64_t id = 500;
    for (BlockStream* part : {&image_part, &text_part}) {
      StreamLayers& l = part->layers;
      for (LayerWeights* layer : {&l.q, &l.k, &l.v, &l.out}) {
        if (!layer->weight.defined() || id++ % 4 == 2) continue;  // one in four has none
        const auto rounded = [&](uint64_t place, at::IntArrayRef shape) {
          return leaf(draw(place, shape, 0.3).to(at::kBFloat16), type);
        };
        layer->a = rounded(2 * id, {3, layer->weight.size(1)});
        layer->b = rounded(2 * id + 1, {layer->weight.size(0), 3});
        layer->scale = 0.5;
      }
    }
  }
  static Tensor leaf(const Tensor& x, at::ScalarType type) {
    return x.to(type, /*non_blocking=*/false, /*copy=*/true).requires_grad_(true);
  }
  std::vector<Tensor> leaves() const {
    std::vector<Tensor> all{image, text};
    for (const BlockStream* part : {&image_part, &text_part}) {
      const StreamLayers& l = part->layers;
      for (const LayerWeights* layer : {&l.q, &l.k, &l.v, &l.out}) {
        if (layer->a.defined()) all.insert(all.end(), {layer->a, layer->b});
      }
    }
    return all;
  }
  // The changes of the streams, and the gradients of all leaves.
  std::vector<Tensor> results(bool fused, int64_t heads) {
    Tensor x = image, c = text;
    (fused ? static_cast<void (*)(Tensor&, Tensor&, const BlockStream&, const BlockStream&, int64_t,
                                  double)>(joint_block)
           : joint_block_plain)(x, c, image_part, text_part, heads, kCheckedEps);
    std::vector<Tensor> out{x}, seeds{draw(601, x.sizes(), 1).to(x.scalar_type())};
    if (!c.is_same(text)) {
      out.push_back(c);
      seeds.push_back(draw(602, c.sizes(), 1).to(c.scalar_type()));
    }
    std::vector<Tensor> all = torch::autograd::grad(out, leaves(), seeds);
    all.push_back((x - image).detach());
    return all;
  }
  Tensor image, text;
  BlockStream image_part, text_part;
};

}  // namespace

double RandomBlock::gradient_error() const {
  const at::AutoGradMode graph(true);
  AdaptedBlock fast(*this, at::kFloat), exact(*this, at::kDouble);
  const auto got = fast.results(true, heads), want = exact.results(false, heads);
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i)
    worst = std::max(worst,
                     ((got[i].to(at::kDouble) - want[i]).norm() / want[i].norm()).item<double>());
  return worst;
}

}  // namespace vggflow::ops
