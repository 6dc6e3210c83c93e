#include "vggflow/models/nano.h"

#include <torch/csrc/autograd/grad_mode.h>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/models/model_folder.h"

namespace vggflow {

NanoModel::NanoModel(const NanoOptions& o, Vocabulary v)
    : options(o), vocabulary(std::move(v)), text(vocabulary.size(), vocabulary.max_tokens(), o.text_width), transformer(o.network) {
  VGGFLOW_CHECK(o.network.context_dim == o.text_width && o.network.pooled_dim == o.text_width,
                "[nano] expected context_dim and pooled_dim to equal text_width {}, got {} and {}", o.text_width, o.network.context_dim,
                o.network.pooled_dim);
  add("text_encoder", text);
  add("transformer", transformer);
}

void NanoModel::init(uint64_t seed) {
  transformer.init(seed);
  text.init(seed);
}

std::unique_ptr<NanoModel> NanoModel::load(const std::filesystem::path& folder, at::ScalarType dtype) {
  NanoOptions options;
  load_yaml(fields_of(options), folder / "config.yaml");
  auto model = std::make_unique<NanoModel>(options, Vocabulary::load(folder / "vocabulary.txt"));
  load_weights(*model, folder);
  model->to(dtype);
  model->transformer.compute = dtype;
  return model;
}

void NanoModel::save(const std::filesystem::path& folder, const std::map<std::string, std::string>& metadata, at::ScalarType dtype) {
  save_model(*this, fields_of(options), vocabulary, folder, metadata, dtype);
}

Conditioning NanoModel::encode(const std::vector<std::string>& captions) const {
  Tensor ids = at::empty({static_cast<int64_t>(captions.size()), vocabulary.max_tokens()}, at::kLong);
  auto* p = ids.mutable_data_ptr<int64_t>();
  for (const std::string& caption : captions) {
    const auto row = vocabulary.tokenize(caption);
    p = std::copy(row.begin(), row.end(), p);
  }
  return text.forward(ids);
}

Conditioning NanoModel::unconditional(int64_t count) const {
  return text.forward(at::zeros({count, vocabulary.max_tokens()}, at::kLong));
}

at::ScalarType fast_dtype() { return __builtin_cpu_supports("avx512bf16") ? at::kBFloat16 : at::kFloat; }

at::ScalarType precision_dtype(const std::string& precision) {
  return precision == "bf16" ? at::kBFloat16 : precision == "fp32" ? at::kFloat : fast_dtype();
}

GuidedVelocity::GuidedVelocity(const Mmdit& network, Conditioning conditioning, Conditioning unconditional, double guidance,
                               bool detach_unconditional)
    : network_(network), conditioning_(std::move(conditioning)), unconditional_(std::move(unconditional)), guidance_(guidance),
      detach_unconditional_(detach_unconditional) {}

GuidedVelocity GuidedVelocity::rows(const Tensor& indices) const {
  const auto pick = [&](const Conditioning& c) -> Conditioning {
    return {c.context.index_select(0, indices), c.pooled.index_select(0, indices)};
  };
  return {network_, pick(conditioning_), pick(unconditional_), guidance_, detach_unconditional_};
}

namespace {

Tensor timestep_of(const Tensor& t) { return (1 - t) * 1000; }
Dual timestep_of(const Dual& t) { return {(1 - t.value) * 1000, t.tangent * -1000}; }
Tensor negate(const Tensor& u) { return -u; }
Dual negate(const Dual& u) { return {-u.value, -u.tangent}; }

}  // namespace

Tensor GuidedVelocity::conditional(const Tensor& x, const Tensor& t) const { return -network_.forward(x, timestep_of(t), conditioning_); }

template <TensorLike T>
T GuidedVelocity::operator()(const T& x, const T& t) const {
  const T timestep = timestep_of(t);
  if (guidance_ == 1.0) return negate(network_.forward(x, timestep, conditioning_));
  const int64_t b = primal(x).size(0);
  if (detach_unconditional_ && torch::autograd::GradMode::is_enabled()) {
    const auto without_gradient = [&] {
      torch::autograd::AutoGradMode off(false);
      return network_.forward(x, timestep, unconditional_);
    };
    return negate(without_gradient() * (1 - guidance_) + network_.forward(x, timestep, conditioning_) * guidance_);
  }
  const T both = network_.forward(ops::cat(std::vector<T>{x, x}, 0), ops::cat(std::vector<T>{timestep, timestep}, 0),
                                  Conditioning::concat(unconditional_, conditioning_));
  return negate(ops::narrow(both, 0, 0, b) * (1 - guidance_) + ops::narrow(both, 0, b, b) * guidance_);
}
template Tensor GuidedVelocity::operator()(const Tensor&, const Tensor&) const;
template Dual GuidedVelocity::operator()(const Dual&, const Dual&) const;

}  // namespace vggflow
