// Times the network that ships on one device, with random weights made there: no files are needed.
// Prints one JSON line per measure; bench/gpu.sh calls it once per shape, and bench/gpu_twin.py is
// the same in PyTorch, with the same names.
//   product, copy     ceilings: a square bf16 product, and a device-to-device copy (read + written)
//   forward/base, forward/lora, forward/merged
//                     F: one call without gradient; adapters off, beside the weights, merged
//   forward/graph     forward/merged replayed as one CUDA graph: what its launches cost; last, and
//                     only where the plug-in is
//   tangent           J: value and derivative along (dx, dt) by forward mode, without gradient
//   backward, backward/checkpointed
//                     B: forward and backward to x and to the adapters (r = 8 on q, k, v, out)
//   rollout           Euler steps of `trajectories`, guidance in one batch, merged adapters
//   update            one VGG-Flow update without value network: rollout, colourfulness of the
//                     TAESD3 decoder's image of the one-step guess, 6 transitions per trajectory,
//                     matching with gradient, AdamW
// Median of 10 after 3 warm-ups; --seconds caps each measure, so that long ones run less often.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gpu_bench_device.h"
#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/families/sd3/mmdit_cost.h"
#include "vggflow/families/sd3/mmdit_network.h"
#include "vggflow/families/sd3/releases.h"
#include "vggflow/flow/adapted_flow.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/networks/autoencoders/taesd.h"
#include "vggflow/nn/lora.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/train/image_problem.h"
#include "vggflow/train/optimizer.h"

namespace vggflow {
namespace {

struct Options {
  std::string device = "cpu", shape = "tiny";
  Kernels kernels = Kernels::kAuto;
  std::vector<std::string> measures;
  int64_t pixels = 64, rows = 1, text_tokens = 333;
  int64_t trajectories = 2, steps = 20, micro_batch = 4, side = 8192;
  int64_t repeats = 10, warm_ups = 3;
  double seconds = 60;
};

// SD3.5-medium's parts, all of them, in a size for a test.
MmditOptions tiny() {
  MmditOptions o = sd3_release("stable-diffusion-3.5-medium");
  o.sample_size = o.pos_embed_max = 16;
  o.layers = o.heads = 2;
  o.context_dim = o.pooled_dim = 32;
  o.dual_attention_layers = {0};
  return o;
}

MmditOptions shape_of(const std::string& name) {
  if (name == "sd3-medium") return sd3_release("stable-diffusion-3-medium");
  if (name == "sd35-medium") return sd3_release("stable-diffusion-3.5-medium");
  VGGFLOW_CHECK(name == "tiny",
                "[gpu_bench] expected --shape tiny, sd3-medium or sd35-medium, got '{}'", name);
  return tiny();
}

// Normal numbers on the device, drawn once on the CPU: weights of gigabytes are cut from one block
// whose length no row of a weight divides.
class Noise {
 public:
  explicit Noise(at::Device device)
      : pool_(keyed_normal(1, Purpose::kTest, 0, 0, 1, {kLength}).flatten().to(device)) {}
  Tensor operator()(at::IntArrayRef shape, double scale, at::ScalarType dtype = at::kFloat) {
    int64_t count = 1;
    for (const int64_t side : shape) count *= side;
    start_ = (start_ + 7919) % kLength;
    const int64_t copies = (start_ + count + kLength - 1) / kLength;
    return (pool_.repeat({copies}).narrow(0, start_, count).view(shape) * scale).to(dtype);
  }

 private:
  static constexpr int64_t kLength = 4'194'301;
  Tensor pool_;
  int64_t start_ = 0;
};

// Weights of variance 1 / inputs, small biases, norms about one.
void fill(Module& network, Noise& noise, at::ScalarType dtype) {
  for (const NamedTensor& p : network.parameters()) {
    const Tensor& shape = *p.tensor;
    const bool weight = shape.dim() > 1,
               norm = !weight && p.name.find("norm_") != p.name.npos && p.name.ends_with(".weight");
    const double inputs = weight ? static_cast<double>(shape.numel() / shape.size(0)) : 2500;
    Tensor value = noise(shape.sizes(), 1 / std::sqrt(inputs), dtype);
    *p.tensor = norm ? value + 1 : value;
  }
}

// A network with random weights as a flow model: every prompt is the same random embedding.
class RandomModel : public OnMmdit<FlowModel> {
 public:
  RandomModel(const Options& o, Noise& noise) {
    {
      const ShapesOnly no_memory;
      network_ = std::make_unique<Mmdit>(shape_of(o.shape));
      decoder_ = std::make_unique<TaesdDecoder>();
    }
    fill(*network_, noise, at::kBFloat16);
    fill(*decoder_, noise, at::kFloat);
    network_->compute = at::kBFloat16;
    network_->join_projections();
    const MmditOptions& shape = network_->options;
    prompt_ = {noise({1, o.text_tokens, shape.context_dim}, 1, at::kBFloat16),
               noise({1, shape.pooled_dim}, 1, at::kBFloat16)};
    side_ = o.pixels / 8;
  }
  Mmdit& mmdit() override { return *network_; }
  const Mmdit& mmdit() const override { return *network_; }
  std::string description() const override { return network_->description(); }
  Conditioning encode(const std::vector<std::string>& prompts) const override {
    return unconditional(static_cast<int64_t>(prompts.size()));
  }
  Conditioning unconditional(int64_t count) const override {
    return {prompt_.context.repeat({count, 1, 1}), prompt_.pooled.repeat({count, 1})};
  }
  std::vector<int64_t> state_shape() const override {
    return {network_->options.channels, side_, side_};
  }
  Tensor decode(const Tensor& x1) const override { return decoder_->decode(x1) * 2.0 - 1.0; }
  Dual decode(const Dual& x1) const override { return decoder_->decode(x1) * 2.0 - 1.0; }

 private:
  std::unique_ptr<Mmdit> network_;
  std::unique_ptr<TaesdDecoder> decoder_;
  Conditioning prompt_;
  int64_t side_ = 0;
};

struct Measure {
  std::string name;
  std::function<void()> run;
  nlohmann::ordered_json facts = nlohmann::ordered_json::object();  ///< what the line says besides
  double flops = 0, bytes = 0;                                      ///< of one run
};

class Bench {
 public:
  Bench(const Options& options, at::Device device) : o_(options), device_(device), noise_(device) {}
  void run();

 private:
  bool wants(const std::string& name) const {
    return o_.measures.empty() || std::ranges::find(o_.measures, name) != o_.measures.end();
  }
  bool wants_network() const;
  void time(const Measure& measure);
  void print(nlohmann::ordered_json line) const;
  void ceilings();
  void open();
  void forward();
  void tangent();
  void backward();
  void rollout();
  void update();
  void graph();
  Tensor states(int64_t rows) { return noise_({rows, x_.size(1), x_.size(2), x_.size(3)}, 1); }
  MmditCall call() const;
  ImageProblem problem() {
    return {{*model_, *lora_, *reward_, nullptr},
            {.guidance = 5.0},
            std::vector<std::string>(static_cast<size_t>(o_.trajectories), "a b c")};
  }

  const Options& o_;
  at::Device device_;
  Noise noise_;
  std::unique_ptr<RandomModel> model_;
  std::unique_ptr<AdaptedFlow> lora_;
  std::unique_ptr<Reward> reward_;
  Tensor x_, t_;
  Conditioning conditioning_;
};

void Bench::print(nlohmann::ordered_json line) const {
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

// Warm-ups end with a third of the time, repeats with all of it; there is one of each at least.
void Bench::time(const Measure& m) {
  if (!wants(m.name)) return;
  nlohmann::ordered_json line{
      {"program", o_.kernels == Kernels::kPlain ? "vggflow, plain" : "vggflow"},
      {"device", o_.device},
      {"shape", o_.shape},
      {"pixels", o_.pixels},
      {"rows", o_.rows},
      {"measure", m.name}};
  line.update(m.facts);
  try {
    Stopwatch whole;
    for (int64_t i = 0; i < o_.warm_ups && (i == 0 || whole.seconds() < o_.seconds / 3); ++i)
      m.run();
    bench::synchronize(device_);
    reset_device_peak();
    std::vector<double> ms;
    for (int64_t i = 0; i < o_.repeats && (i == 0 || whole.seconds() < o_.seconds); ++i) {
      Stopwatch watch;
      m.run();
      bench::synchronize(device_);
      ms.push_back(1e3 * watch.seconds());
    }
    std::ranges::sort(ms);
    const double median = ms[ms.size() / 2];
    line.update({{"median_ms", median},
                 {"least_ms", ms.front()},
                 {"most_ms", ms.back()},
                 {"repeats", ms.size()},
                 {"peak_gib", bench::peak_gib()}});
    if (m.flops > 0)
      line.update({{"tflop", 1e-12 * m.flops}, {"tflop_per_s", 1e-9 * m.flops / median}});
    if (m.bytes > 0) line["gb_per_s"] = 1e-6 * m.bytes / median;
  } catch (const std::exception& e) {
    const std::string text = e.what();
    line["error"] = text.substr(0, text.find('\n'));
  }
  print(line);
}

void Bench::ceilings() {
  if (!wants("product") && !wants("copy")) return;
  const auto n = static_cast<double>(o_.side);
  const Tensor a = noise_({o_.side, o_.side}, 1, at::kBFloat16),
               b = noise_({o_.side, o_.side}, 1, at::kBFloat16);
  Tensor c = at::empty_like(a);
  time({.name = "product", .run = [&] { at::mm_out(c, a, b); }, .flops = 2 * n * n * n});
  const Tensor from = noise_({8, o_.side, o_.side}, 1);
  Tensor to = at::empty_like(from);
  time({.name = "copy",
        .run = [&] { to.copy_(from); },
        .bytes = 2.0 * static_cast<double>(from.nbytes())});
}

bool Bench::wants_network() const {
  return o_.measures.empty() || std::ranges::any_of(o_.measures, [](const std::string& name) {
           return name != "product" && name != "copy";
         });
}

void Bench::open() {
  model_ = std::make_unique<RandomModel>(o_, noise_);
  const std::vector<std::string> attention{
      "transformer_blocks.*.attn.to_q", "transformer_blocks.*.attn.to_k",
      "transformer_blocks.*.attn.to_v", "transformer_blocks.*.attn.to_out.0"};
  lora_ = std::make_unique<AdaptedFlow>(*model_, LoraOptions{8, 8, attention}, 1);
  // B is zero in a fresh adapter: then A would have no gradient.
  for (const NamedTensor& p : lora_->parameters()) {
    const Tensor value = p.name.ends_with("lora_B.weight") ? noise_(p.tensor->sizes(), 0.003)
                                                           : p.tensor->detach().to(device_);
    *p.tensor = value.detach().requires_grad_(true);
  }
  reward_ = make_reward("colorfulness", {});
  lora_->merge();
  const auto shape = model_->state_shape();
  x_ = noise_({o_.rows, shape[0], shape[1], shape[2]}, 1);
  t_ = (noise_({o_.rows}, 0.1) + 0.5).clamp(0, 0.999);
  conditioning_ = model_->unconditional(o_.rows);
}

MmditCall Bench::call() const {
  const int64_t patches = o_.pixels / 8 / model_->mmdit().options.patch_size;
  return {.image_tokens = patches * patches,
          .text_tokens = o_.text_tokens,
          .bytes = 2,
          .input_gradient = true};
}

void Bench::forward() {
  const double flops =
      static_cast<double>(o_.rows) * mmdit_cost(model_->mmdit().options, call()).forward;
  for (const auto& [name, network] :
       {std::pair<const char*, const FlowNetwork*>{"forward/base", model_.get()},
        {"forward/lora", &lora_->policy()},
        {"forward/merged", &lora_->merged()}}) {
    time({.name = name,
          .run =
              [this, network = network] {
                const at::NoGradGuard no_grad;
                network->velocity(x_, t_, conditioning_);
              },
          .flops = flops});
  }
}

void Bench::tangent() {
  const Dual x{x_, states(o_.rows)}, t{t_, at::ones_like(t_)};
  time({.name = "tangent",
        .run =
            [&] {
              const at::NoGradGuard no_grad;
              lora_->merged().velocity(x, t, conditioning_);
            },
        .flops = static_cast<double>(o_.rows) *
                 mmdit_tangent_cost(model_->mmdit().options, call()).forward});
}

void Bench::backward() {
  const Tensor cotangent = states(o_.rows);
  const PassCost cost = mmdit_cost(model_->mmdit().options, call());
  const auto run = [&](const AdaptedFlow& adapted) {
    const Tensor x = x_.detach().requires_grad_(true);
    std::vector<Tensor> inputs{x};
    for (const NamedTensor& p : adapted.parameters()) inputs.push_back(*p.tensor);
    torch::autograd::grad({adapted.policy().velocity(x, t_, conditioning_)}, inputs, {cotangent});
  };
  const double flops = static_cast<double>(o_.rows) * (cost.forward + cost.backward);
  time({.name = "backward", .run = [&] { run(*lora_); }, .flops = flops});
  model_->mmdit().checkpointing = true;  // of the views that are made from now on
  AdaptedFlow recomputed(*model_, lora_->lora().adapters());
  time({.name = "backward/checkpointed", .run = [&] { run(recomputed); }, .flops = flops});
  model_->mmdit().checkpointing = false;
}

void Bench::rollout() {
  if (!wants("rollout")) return;
  ImageProblem images = problem();
  const auto times = time_grid({.steps = o_.steps, .shift = 3.0});
  const Tensor noise = states(o_.trajectories);
  time({.name = "rollout",
        .run =
            [&] {
              sample(
                  [&](const Tensor& x, const Tensor& t) { return images.rollout_velocity(x, t); },
                  noise, times);
            },
        .facts = {{"trajectories", o_.trajectories}, {"steps", o_.steps}},
        .flops = static_cast<double>(2 * o_.trajectories * o_.steps) *
                 mmdit_cost(model_->mmdit().options, call()).forward});
}

void Bench::update() {
  if (!wants("update")) return;
  ParameterBuffer buffer(lora_->parameters());
  AdamW adamw(buffer, AdamWOptions{});
  ImageProblem images = problem();
  VggFlowOptions options;
  options.beta = 1e-3;
  options.transitions = {.bins = 5, .force_last_step = true, .skip_first_step = true};
  const VggFlow method(options, RewardClipOptions{});
  UpdateInput input{.seed = 1,
                    .x0 = states(o_.trajectories),
                    .times = time_grid({.steps = o_.steps, .shift = 3.0}),
                    .micro_batch = o_.micro_batch};
  time({.name = "update",
        .run =
            [&] {
              buffer.zero_grad();
              lora_->merge();
              method.update(images, input);
              adamw.step(1e-4);
            },
        .facts = {{"trajectories", o_.trajectories},
                  {"steps", o_.steps},
                  {"micro_batch", o_.micro_batch}}});
}

// Last, since CUDA may not go on after a capture that failed.
void Bench::graph() {
  const device::CudaApi* const api = cuda_api();
  if (!api) return;
  std::function<void()> forward = [this] {
    const at::NoGradGuard no_grad;
    lora_->merged().velocity(x_, t_, conditioning_);
  };
  void* graph = nullptr;
  const auto check = [](const char* problem) {
    VGGFLOW_CHECK(!problem, "[gpu_bench] {}", problem);
  };
  time({.name = "forward/graph",
        .run =
            [&] {
              if (!graph)
                check(api->graph_capture(
                    [](void* work) { (*static_cast<std::function<void()>*>(work))(); }, &forward,
                    &graph));
              check(api->graph_replay(graph));
            },
        .flops =
            static_cast<double>(o_.rows) * mmdit_cost(model_->mmdit().options, call()).forward});
  if (graph) api->graph_free(graph);
}

void Bench::run() {
  ceilings();
  if (!wants_network()) return;
  open();
  forward();
  backward();
  rollout();
  tangent();
  update();
  graph();
}

const std::vector<std::string> kMeasures{"product",      "copy",           "forward/base",
                                         "forward/lora", "forward/merged", "forward/graph",
                                         "backward",     "tangent",        "backward/checkpointed",
                                         "rollout",      "update"};

// Of a flag that is given twice the last one holds, so that a script's flags can be overruled.
void add_options(CLI::App& app, Options& o) {
  app.option_defaults()->take_last();
  app.add_option("--device", o.device, "cpu, cuda or cuda:N");
  app.add_option("--kernels", o.kernels, "auto: the fused kernels; plain: LibTorch's operations")
      ->transform(CLI::CheckedTransformer(option_words(Kernels{})));
  app.add_option("--shape", o.shape, "tiny, sd3-medium or sd35-medium");
  app.add_option("--pixels", o.pixels, "side of the image, a multiple of 16");
  app.add_option("--measures", o.measures, "which; all unless given")
      ->take_all()
      ->delimiter(',')
      ->check(CLI::IsMember(kMeasures));
  app.add_option("--rows", o.rows, "samples in a forward, tangent or backward call");
  app.add_option("--text-tokens", o.text_tokens, "tokens of a prompt: 77 of CLIP, 256 of T5");
  app.add_option("--trajectories", o.trajectories, "of a rollout and of an update");
  app.add_option("--steps", o.steps, "Euler steps");
  app.add_option("--micro-batch", o.micro_batch, "transitions in a training pass");
  app.add_option("--side", o.side, "of the matrices of the ceilings");
  app.add_option("--repeats", o.repeats, "timed runs, at most");
  app.add_option("--warm-ups", o.warm_ups, "runs before them, at most");
  app.add_option("--seconds", o.seconds, "cap of each measure");
}

}  // namespace
}  // namespace vggflow

int main(int argc, char** argv) {
  vggflow::Options options;
  CLI::App app("Times vggflow's networks on one device; one JSON line per measure.");
  vggflow::add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    const vggflow::DeviceScope device({.device = options.device, .kernels = options.kernels});
    std::fprintf(stderr, "%s\n", device.description().c_str());
    vggflow::Bench(options, device.device()).run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "gpu_bench: %s\n", e.what());
    return 1;
  }
}
