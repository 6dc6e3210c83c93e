#include "vggflow/ops/joint_block.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>

#include "vggflow/kernels/narrow.h"
#include "vggflow/ops/cpu_kernels.h"

namespace vggflow::ops {
namespace {

constexpr int64_t kWidest = 512;

std::vector<Tensor> tensors_of(const StreamLayers& image, const StreamLayers& text) {
  std::vector<Tensor> all;
  for (const StreamLayers* s : {&image, &text}) {
    for (const LayerWeights* layer : {&s->q, &s->k, &s->v, &s->out, &s->in, &s->back}) {
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
    return {data<kernels::bf16>(weight), data<float>(bias), n, k};
  }
};

PackedLayer pack(const std::vector<LayerWeights>& layers) {
  PackedLayer p;
  if (!layers.front().weight.defined()) return p;
  std::vector<Tensor> weights, biases;
  for (const LayerWeights& layer : layers) {
    weights.push_back(layer.weight);
    biases.push_back(layer.bias.to(at::kFloat));
  }
  const Tensor w = at::cat(weights).contiguous();
  p.n = w.size(0);
  p.k = w.size(1);
  p.weight = at::empty({kernels::packed_size(p.n, p.k)}, w.options());
  p.bias = at::zeros({(p.n + 31) / 32 * 32}, at::kFloat);
  p.bias.narrow(0, 0, p.n).copy_(at::cat(biases));
  kernels::narrow_kernels()->pack(data<kernels::bf16>(w), p.n, p.k, p.k,
                                  data<kernels::bf16>(p.weight));
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

}  // namespace

struct JointBlockKernel::Packed {
  Packed(const StreamLayers& image_layers, const StreamLayers& text_layers)
      : sources(tensors_of(image_layers, text_layers)), image(image_layers), text(text_layers) {
    for (const Tensor& t : sources) versions.push_back(t._version());
  }
  bool is_of(const std::vector<Tensor>& now) const {
    if (now.size() != sources.size()) return false;
    for (size_t i = 0; i < now.size(); ++i) {
      if (!now[i].is_same(sources[i]) || now[i]._version() != versions[i]) return false;
    }
    return true;
  }
  std::vector<Tensor> sources;
  std::vector<int64_t> versions;
  PackedStream image, text;
};

JointBlockKernel::JointBlockKernel() = default;
JointBlockKernel::~JointBlockKernel() = default;

bool JointBlockKernel::takes(const Tensor& image, const Tensor& text, const BlockStream& image_part,
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

std::shared_ptr<const JointBlockKernel::Packed> JointBlockKernel::packed(
    const StreamLayers& image, const StreamLayers& text) const {
  const std::lock_guard lock(mutex_);
  if (!packed_ || !packed_->is_of(tensors_of(image, text))) {
    const at::NoGradGuard no_graph;
    packed_ = std::make_shared<const Packed>(image, text);
  }
  return packed_;
}

void JointBlockKernel::run(Tensor& image, Tensor& text, const BlockStream& image_part,
                           const BlockStream& text_part, int64_t heads, double eps) const {
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

}  // namespace vggflow::ops
