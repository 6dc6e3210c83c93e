#include "vggflow/families/value_network.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/networks/model_folder.h"
#include "vggflow/nn/embedder_mlp.h"
#include "vggflow/nn/lora.h"

namespace vggflow {
namespace {

// nu is the negative of a velocity: files of runs hold networks that predict noise minus data.
Tensor negated(const Tensor& v) { return -v; }
Dual negated(const Dual& v) { return {-v.value, -v.tangent}; }

constexpr double kClock = 1000;  // networks count from data to noise, as SD3 does
constexpr double kSlowClock = 5;

double clock_of(const ValueOptions& o) {
  return o.clock == ValueClock::kSlow ? kSlowClock : kClock;
}

// The t at which a network of 1000 units from data to noise counts `units` of them.
Tensor slowed(const Tensor& t, double units) {
  return units == kClock ? t : 1 - (1 - t) * (units / kClock);
}
Dual slowed(const Dual& t, double units) {
  return units == kClock ? t : Dual{slowed(t.value, units), t.tangent * (units / kClock)};
}

// A small network of the policy's family, trained whole. Where it sees the guess it predicts as
// many channels as it takes, of which the first are nu.
class SmallValue : public ValueNetwork {
 public:
  SmallValue(const ValueOptions& o, const FlowNetwork& policy, uint64_t seed)
      : network_(policy.small(o.width, o.layers, value_states(o), seed)),
        channels_(policy.inputs().state[0]),
        clock_(clock_of(o)) {
    add("mmdit", network_->network());
  }
  Tensor evaluate(const Tensor& x, const Tensor& t, const Conditioning& c) const override {
    return counted(run(x, t, c), passes);
  }
  Dual evaluate(const Dual& x, const Dual& t, const Conditioning& c) const override {
    return counted(run(x, t, c), passes);
  }

 private:
  template <TensorLike T>
  T run(const T& x, const T& t, const Conditioning& c) const {
    const T out = negated(network_->velocity(x, slowed(t, clock_), c));
    return primal(out).size(1) == channels_ ? out : ops::narrow(out, 1, 0, channels_);
  }

  std::unique_ptr<FlowNetwork> network_;
  int64_t channels_;
  double clock_;
};

constexpr int64_t kGroups = 8;

// conv2(silu(norm2(conv1(silu(norm1(x))) + W silu(e)))) + skip(x), e the embedding of time and
// prompt.
class UnetBlock : public Module {
 public:
  UnetBlock(int64_t in, int64_t out, int64_t embedding)
      : norm1(kGroups, in),
        norm2(kGroups, out),
        conv1(in, out, 3, 1, 1),
        conv2(out, out, 3, 1, 1),
        skip(in, out, 1),
        project(embedding, out) {
    add("norm1", norm1);
    add("conv1", conv1);
    add("project", project);
    add("norm2", norm2);
    add("conv2", conv2);
    add("skip", skip);
  }
  template <TensorLike T>
  T forward(const T& x, const T& e) const {
    const T h = conv1.forward(ops::silu(norm1.forward(x))) +
                ops::unsqueeze(ops::unsqueeze(project.forward(ops::silu(e)), 2), 3);
    return conv2.forward(ops::silu(norm2.forward(h))) + skip.forward(x);
  }
  GroupNorm norm1, norm2;
  Conv2d conv1, conv2, skip;
  Linear project;
};

// A U-Net (Ronneberger et al. 2015) whose blocks see time and pooled prompt: the paper's value
// network is a scaled-down one.
class UnetValue : public ValueNetwork {
 public:
  UnetValue(const ValueOptions& o, const NetworkInputs& inputs, uint64_t seed)
      : time_(256, 2 * o.width),
        text_(inputs.pooled_width, 2 * o.width),
        in_(value_states(o) * inputs.state[0], o.width, 3, 1, 1),
        middle_(o.width << (o.layers - 1), o.width << (o.layers - 1), 2 * o.width),
        norm_out_(kGroups, o.width),
        out_(o.width, inputs.state[0], 3, 1, 1),
        clock_(clock_of(o)) {
    add("time_embedder", time_);
    add("text_embedder", text_);
    add("conv_in", in_);
    for (int64_t i = 0; i < o.layers; ++i) {
      const int64_t width = o.width << i, above = i == 0 ? o.width : o.width << (i - 1);
      down_.push_back(std::make_unique<UnetBlock>(above, width, 2 * o.width));
      up_.push_back(std::make_unique<UnetBlock>(2 * width, above, 2 * o.width));
      add(fmt::format("down.{}", i), *down_.back());
      add(fmt::format("up.{}", i), *up_.back());
    }
    add("middle", middle_);
    add("norm_out", norm_out_);
    add("conv_out", out_);
    init_layers(*this, seed);
    out_.init_zero();
  }
  Tensor evaluate(const Tensor& x, const Tensor& t, const Conditioning& c) const override {
    return counted(run(x, (1 - t) * clock_, c), passes);
  }
  Dual evaluate(const Dual& x, const Dual& t, const Conditioning& c) const override {
    return counted(run(x, Dual{(1 - t.value) * clock_, t.tangent * -clock_}, c), passes);
  }

 private:
  template <TensorLike T>
  T run(const T& x, const T& timestep, const Conditioning& c) const {
    const T e = time_.forward(ops::timestep_embedding(timestep, 256)) +
                text_.forward(lift<T>(c.pooled.to(primal(x).scalar_type())));
    std::vector<T> skips;
    T h = in_.forward(x);
    for (size_t i = 0; i < down_.size(); ++i) {
      if (i > 0) h = ops::avg_pool2d(h, 2);
      h = down_[i]->forward(h, e);
      skips.push_back(h);
    }
    h = middle_.forward(h, e);
    for (size_t i = down_.size(); i-- > 0;) {
      h = up_[i]->forward(ops::cat(std::vector<T>{h, skips[i]}, 1), e);
      if (i > 0) h = ops::upsample2x(h);
    }
    return out_.forward(ops::silu(norm_out_.forward(h)));
  }

  EmbedderMlp time_, text_;
  Conv2d in_;
  std::vector<std::unique_ptr<UnetBlock>> down_, up_;
  UnetBlock middle_;
  GroupNorm norm_out_;
  Conv2d out_;
  double clock_;
};

// A second view of the policy's frozen weights with adapters of its own, as the released code's
// value network is a LoRA copy of SD3; here the output layer is its own too and starts at zero, so
// that nu does.
class LoraValue : public ValueNetwork {
 public:
  LoraValue(const ValueOptions& o, const FlowNetwork& policy,
            const std::vector<std::string>& targets, uint64_t seed)
      : network_(policy.view()), output_(policy.output_layer()) {
    network_->count_passes(nullptr);
    Linear& out = output_layer();
    out.weight = new_parameter(out.weight.sizes()).requires_grad_(true);
    if (out.bias.defined()) out.bias = new_parameter(out.bias.sizes()).requires_grad_(true);
    lora_ = std::make_unique<LoraSet>(
        network_->network(), LoraOptions{o.rank, static_cast<double>(o.rank), targets}, seed);
  }
  Tensor evaluate(const Tensor& x, const Tensor& t, const Conditioning& c) const override {
    return counted(negated(network_->velocity(x, t, c)), passes);
  }
  Dual evaluate(const Dual& x, const Dual& t, const Conditioning& c) const override {
    return counted(negated(network_->velocity(x, t, c)), passes);
  }
  std::vector<NamedTensor> trainable() override {
    auto all = lora_->parameters();
    Linear& out = output_layer();
    all.push_back({output_ + ".weight", &out.weight});
    if (out.bias.defined()) all.push_back({output_ + ".bias", &out.bias});
    return all;
  }

 private:
  Linear& output_layer() {
    for (auto& [path, module] : network_->network().modules()) {
      if (path == output_) return dynamic_cast<Linear&>(*module);
    }
    fail("[value_network] the network has no layer '{}'", output_);
  }
  std::unique_ptr<FlowNetwork> network_;
  std::string output_;
  std::unique_ptr<LoraSet> lora_;
};

}  // namespace

int64_t value_states(const ValueOptions& o) { return o.inputs == ValueInputs::kGuess ? 3 : 1; }

void check_value_options(const ValueOptions& o, const std::vector<int64_t>& state) {
  const int64_t halved = int64_t{1} << (o.layers - 1);
  VGGFLOW_CHECK(o.kind != ValueKind::kUnet || (state[1] % halved == 0 && state[2] % halved == 0),
                "[value_unet] expected states that halve {} times, got {} x {}", o.layers - 1,
                state[1], state[2]);
  VGGFLOW_CHECK(o.kind != ValueKind::kLora || o.inputs != ValueInputs::kGuess,
                "[value_network] expected value.inputs=state with value.kind=lora, got guess: the "
                "flow model takes one state");
  VGGFLOW_CHECK(o.kind != ValueKind::kLora || o.clock != ValueClock::kSlow,
                "[value_network] expected value.clock=network with value.kind=lora, got slow: the "
                "flow model knows its own clock alone");
}

void ValueOptions::resolve(bool shows_guess) {
  const bool free = shows_guess && kind != ValueKind::kLora;
  if (inputs == ValueInputs::kAuto) inputs = free ? ValueInputs::kGuess : ValueInputs::kState;
  if (clock == ValueClock::kAuto) clock = free ? ValueClock::kSlow : ValueClock::kNetwork;
}

Tensor value_correction(const ValueNetwork& network, double scale, const Tensor& x, const Tensor& t,
                        const Conditioning& conditioning, const GuessShown& shown) {
  if (!network.sees_guess) return network.evaluate(x, t, conditioning) * scale;
  VGGFLOW_CHECK(shown.end.defined() && shown.gradient.defined(),
                "[value_network] expected the guess beside the state: this network was trained to "
                "see it");
  const Tensor size = shown.gradient.square().flatten(1).mean(1).sqrt().view({-1, 1, 1, 1});
  const Tensor unit = shown.gradient / size.clamp_min(1e-30);
  return network.evaluate(at::cat({x, shown.end, unit}, 1), t, conditioning) * size;
}

std::unique_ptr<ValueNetwork> make_value_network(const ValueOptions& options,
                                                 const FlowNetwork& policy,
                                                 const std::vector<std::string>& targets,
                                                 uint64_t seed) {
  const NetworkInputs inputs = policy.inputs();
  check_value_options(options, inputs.state);
  std::unique_ptr<ValueNetwork> out;
  switch (options.kind) {
    case ValueKind::kNone:
      return nullptr;
    case ValueKind::kUnet:
      out = std::make_unique<UnetValue>(options, inputs, seed);
      break;
    case ValueKind::kLora:
      out = std::make_unique<LoraValue>(options, policy, targets, seed);
      break;
    case ValueKind::kAuto:
    case ValueKind::kSmall:
      out = std::make_unique<SmallValue>(options, policy, seed);
      break;
  }
  out->sees_guess = options.inputs == ValueInputs::kGuess;
  return out;
}

namespace {

constexpr const char* kKey = "vggflow.value";

// The setting that a file's header names; `absent` in files from before there was a choice.
template <OptionEnum E>
E setting_of(const nlohmann::json& about, const char* key, E absent,
             const std::filesystem::path& file) {
  const std::string word = about.value(key, word_of(absent));
  if (const auto known = option_of<E>(word)) return *known;
  fail("[value_network] {} holds a network of {} '{}', which is not known", file.string(), key,
       word);
}

std::vector<std::pair<std::string, Tensor>> trained_tensors(ValueNetwork& network) {
  std::vector<std::pair<std::string, Tensor>> out;
  for (const NamedTensor& p : network.trainable()) out.emplace_back(p.name, *p.tensor);
  return out;
}

}  // namespace

void save_value_network(const std::filesystem::path& file, ValueNetwork& network,
                        const ValueOptions& options, const std::vector<std::string>& targets,
                        double scale) {
  const nlohmann::json about{{"kind", word_of(options.kind)},
                             {"width", options.width},
                             {"layers", options.layers},
                             {"rank", options.rank},
                             {"targets", targets},
                             {"scale", scale},
                             {"inputs", word_of(options.inputs)},
                             {"clock", word_of(options.clock)}};
  write_safetensors(file, trained_tensors(network), {{kKey, json_text(about)}});
}

LoadedValueNetwork load_value_network(const std::filesystem::path& file,
                                      const FlowNetwork& policy) {
  const SafetensorsFile in(file);
  const auto found = in.metadata().find(kKey);
  VGGFLOW_CHECK(found != in.metadata().end(),
                "[value_network] {} has no '{}' metadata: expected the value.safetensors of a run",
                file.string(), kKey);
  const auto about = parse_json(found->second, file.string());
  const ValueOptions options{setting_of(about, "kind", ValueKind::kAuto, file),
                             about.at("width").get<int64_t>(),
                             about.at("layers").get<int64_t>(),
                             about.at("rank").get<int64_t>(),
                             setting_of(about, "inputs", ValueInputs::kState, file),
                             setting_of(about, "clock", ValueClock::kNetwork, file)};
  LoadedValueNetwork out{
      make_value_network(options, policy, about.at("targets").get<std::vector<std::string>>(), 0),
      about.at("scale").get<double>()};
  at::NoGradGuard no_grad;
  load_into(in, trained_tensors(*out.network));
  for (const NamedTensor& p : out.network->trainable()) p.tensor->requires_grad_(false);
  return out;
}

}  // namespace vggflow
