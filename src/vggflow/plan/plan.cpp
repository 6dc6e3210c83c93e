#include "vggflow/plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>

#include "vggflow/families/sd3/mmdit_network.h"
#include "vggflow/flow/precision.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/nn/lora.h"
#include "vggflow/train/checks.h"

namespace vggflow {
namespace {

// The process without networks (program, LibTorch, oneDNN's kernels and threads), and what nano's
// runs hold besides (emoji, judges and their passes). What comes and goes takes more than the
// counted bytes of tensors: holes in the heap, reordered copies inside oneDNN. All measured:
// docs/plan.md.
constexpr double kProcess = 0.17 * 1024 * 1024 * 1024;
constexpr double kEmoji = 0.06 * 1024 * 1024 * 1024;
constexpr double kHeap = 1.75;
constexpr double kFloat = 4;

double real(int64_t x) { return static_cast<double>(x); }

// ---- the pieces of a configuration
// -----------------------------------------------------------------------------------

struct Rewards {
  double parameters = 0, bytes = 0;
  PassCost cost;      ///< an image, without the pixels' own
  PassCost half;      ///< the operations of those whose products run in bf16
  double pixels = 0;  ///< images that the graph keeps besides
  std::vector<std::string> unknown;
};

Rewards rewards_of(const std::vector<std::string>& names, const RewardFiles& files) {
  Rewards all;
  for (const std::string& name : names) {
    const auto cost = reward_cost(name, files.resources());
    if (!cost) {
      all.unknown.push_back(name);
      continue;
    }
    const PassCost& pass = cost->pass;
    all.parameters += cost->parameters;
    all.bytes += cost->bytes;
    for (PassCost* sum : {&all.cost, &all.half}) {
      if (sum == &all.half && !cost->half) continue;
      sum->forward += pass.forward;
      sum->backward += pass.backward;
    }
    all.cost.graph += pass.graph;
    all.cost.idle = std::max(all.cost.idle, pass.idle);
    all.cost.unwind = std::max(all.cost.unwind, pass.unwind);
    all.pixels = std::max(all.pixels, cost->pixels);
  }
  return all;
}

// Rewards that only judge; of [auto] there is none but emoji-clip, which counts as the emoji's.
std::vector<std::string> panel_of(const AlignConfig& c) {
  std::vector<std::string> names;
  const std::vector<std::string> trained = rewards_in(c.reward);
  for (const std::string& name : c.eval.panel) {
    if (name != "auto" && std::find(trained.begin(), trained.end(), name) == trained.end())
      names.push_back(name);
  }
  return names;
}

class Planner {
 public:
  Planner(const AlignConfig& config, const ModelShape& shape);
  Plan run();

 private:
  MmditCall base_call() const;
  void count_parameters();
  void count_work();
  void hold_memory();
  void run_through_moments();
  void add_losses(const Moment& moment);
  void add_moment(const std::string& name, const std::vector<Amount>& transient);
  double decode_graph(double images) const {
    return images * (decoder_.graph + reward_.cost.graph + pixels_graph_);
  }
  double decode_unwind(double images) const {
    return images * (std::max(decoder_.unwind, reward_.cost.unwind) + 2 * pixel_bytes_);
  }
  double kept(const PassCost& pass, double rows) const {
    return rows > 0 ? rows * pass.graph + pass.graph_once : 0;
  }

  const AlignConfig& c_;
  const ModelShape& s_;
  ResolvedMethod resolved_;
  std::string value_kind_;
  CostShape cost_shape_;
  Demand want_;
  int64_t steps_ = 0;
  double number_ = 4, adapted_weights_ = 0, adapter_parameters_ = 0, network_parameters_ = 0;
  double value_parameters_ = 0, value_trained_ = 0, decoder_parameters_ = 0;
  double state_bytes_ = 0, pixel_bytes_ = 0, pixels_graph_ = 0, prompt_bytes_ = 0;
  PassCost network_, with_adapters_, with_input_, decoder_, value_, value_pairs_, tangent_,
      policy_input_;
  Rewards reward_, panel_;
  bool tiny_decoder_ = false;
  std::vector<Amount> held_, peak_parts_;
  Plan out_;
};

int64_t at_once(const AlignConfig& c, const ModelShape& s) {
  return images_at_once(c.eval.batch, {s.network.channels, s.height, s.width});
}

double micro(const AlignConfig& c, double transitions) {
  return std::min(real(c.micro_batch), transitions);
}

MmditCall Planner::base_call() const {
  const int64_t p = s_.network.patch_size;
  return {.image_tokens = (s_.height / p) * (s_.width / p),
          .text_tokens = s_.text_tokens,
          .bytes = static_cast<int64_t>(number_),
          .checkpointing = c_.flow.checkpointing,
          .batched = micro(c_, real(c_.batch)) > 1};
}

// The layers that adapters sit on, found in the network as it is built, without memory for its
// numbers.
void find_adapted(const AlignConfig& c, const MmditOptions& o, double& weights,
                  double& parameters) {
  const ShapesOnly guard;
  Mmdit network(o);
  for (auto& [path, module] : network.modules()) {
    auto* layer = dynamic_cast<Linear*>(module);
    if (!layer || std::none_of(c.lora_targets.begin(), c.lora_targets.end(),
                               [&path = path](const std::string& t) { return matches(t, path); }))
      continue;
    weights += real(layer->in * layer->out);
    parameters += real(c.lora_rank * (layer->in + layer->out));
  }
}

Planner::Planner(const AlignConfig& c, const ModelShape& s)
    : c_(c),
      s_(s),
      resolved_(c),
      reward_(rewards_of(rewards_in(c.reward), c.reward_files)),
      panel_(rewards_of(panel_of(c), c.reward_files)),
      tiny_decoder_(s.tiny_decoder(c.flow)) {
  number_ = precision_dtype(c.flow.precision) == at::kFloat ? 4 : 2;
  value_kind_ = resolved_.value.kind;
  steps_ = rollout_steps(c);
  cost_shape_ = cost_shape_of(c.problem, value_kind_ != "none", c.batch, steps_);
  want_ = resolved_.method->demand(cost_shape_);
  find_adapted(c, s.network, adapted_weights_, adapter_parameters_);

  MmditCall call = base_call();
  network_ = mmdit_cost(s.network, call);
  tangent_ = mmdit_tangent_cost(s.network, call);
  call.rank = c.lora_rank;
  with_adapters_ = mmdit_cost(s.network, call);
  call.input_gradient = true;
  policy_input_ = mmdit_cost(s.network, call);
  call.rank = 0;
  with_input_ = mmdit_cost(s.network, call);

  const double scale = s.has_decoder ? real(s.vae.downscale()) : 1,
               pixels = real(s.height * s.width) * scale * scale;
  state_bytes_ = kFloat * real(s.network.channels * s.height * s.width);
  pixel_bytes_ = kFloat * 3 * pixels;
  // The clip, the scale, and what the reward keeps of pixels.
  pixels_graph_ = (3 + reward_.pixels) * pixel_bytes_;
  prompt_bytes_ =
      number_ * (real(s.text_tokens * s.network.context_dim) + real(s.network.pooled_dim));
  if (s.has_decoder) {
    const bool tiny = tiny_decoder_;
    const int64_t tile = s.vae.sample_size / s.vae.downscale();
    const bool tiled = c.flow.sd3.tiling && !tiny;
    decoder_ =
        tiny ? taesd_decoder_cost({.latent_channels = s.network.channels}, s.height, s.width)
             : vae_decoder_cost(s.vae, tiled ? std::min(s.height, tile) : s.height,
                                tiled ? std::min(s.width, tile) : s.width, c.flow.checkpointing);
    decoder_parameters_ = tiny ? taesd_decoder_parameters({.latent_channels = s.network.channels})
                               : vae_parameters(s.vae);
  }
  for (const auto* rewards : {&reward_, &panel_}) {
    for (const std::string& name : rewards->unknown)
      out_.notes.push_back(fmt::format(
          "the sizes of reward '{}' are not known: its memory and time are left out", name));
  }
}

// ---- parameters
// ------------------------------------------------------------------------------------------------------

void Planner::count_parameters() {
  MmditCall call = base_call();
  if (value_kind_ == "unet") {
    value_parameters_ = value_trained_ =
        unet_value_parameters(c_.value, s_.network.channels, s_.network.pooled_dim);
    value_ = unet_value_cost(c_.value, s_.network.channels, s_.height, s_.width);
    value_pairs_ = value_;
    for (double* part : {&value_pairs_.forward, &value_pairs_.backward, &value_pairs_.graph,
                         &value_pairs_.idle, &value_pairs_.unwind})
      *part *= 3;
  } else if (value_kind_ == "mmdit") {
    MmditOptions small = small_mmdit_options(c_.value.width, c_.value.layers, s_.network);
    call.bytes = 4;
    call.trained = true;
    call.checkpointing = false;
    value_ = mmdit_cost(small, call);
    value_pairs_ = mmdit_tangent_cost(small, call);
    value_parameters_ = value_trained_ =
        mmdit_parameters(small) - real(small.pos_embed_max * small.pos_embed_max * small.width());
  } else if (value_kind_ == "lora") {
    call.rank = c_.value.rank;
    value_ = mmdit_cost(s_.network, call);
    value_pairs_ = mmdit_tangent_cost(s_.network, call);
    const double out = real(s_.network.width() + 1) *
                       real(s_.network.patch_size * s_.network.patch_size * s_.network.channels);
    value_parameters_ = value_trained_ =
        adapter_parameters_ * real(c_.value.rank) / real(c_.lora_rank) + out;
  }
  network_parameters_ = mmdit_parameters(s_.network);
  const double grid = real(s_.network.pos_embed_max * s_.network.pos_embed_max *
                           s_.network.width());  // of positions: a table in the file, no parameter
  out_.parameters = {{"network", network_parameters_ - grid},
                     {"text encoders", s_.text_parameters},
                     {tiny_decoder_ ? "TAESD3" : "VAE", decoder_parameters_},
                     {"adapters", adapter_parameters_},
                     {"value network", value_parameters_},
                     {"reward", reward_.parameters},
                     {"panel", panel_.parameters}};
}

// ---- work
// ------------------------------------------------------------------------------------------------------------

void Planner::count_work() {
  out_.passes = resolved_.method->mean_cost(cost_shape_);
  out_.cost_formula = resolved_.method->cost_formula(cost_shape_);
  const Passes& p = out_.passes;
  const double network =
      p.f * network_.forward + p.j * tangent_.forward / 2 + p.b * with_adapters_.backward;
  const double value = p.value_f * value_.forward + p.value_j * value_pairs_.forward / 2 +
                       p.value_b * value_.backward;
  const auto work = [&](const PassCost& part) {
    return cost_shape_.batch * part.forward +
           (want_.reward_gradients + 2 * want_.hessian_products) * (part.forward + part.backward);
  };
  const double decoder = work(decoder_), reward = work(reward_.cost);
  const double fast = number_ < kFloat ? work(reward_.half) : 0;
  out_.work = {
      {"network", network}, {"value network", value}, {"decoder and reward", decoder + reward}};
  out_.half_flops = network + (value_kind_ == "lora" ? value : 0) + fast;
  out_.full_flops = decoder + (value_kind_ == "lora" ? 0 : value) + reward - fast;
}

// ---- memory
// ----------------------------------------------------------------------------------------------------------

double prompts_in(const std::string& file) {
  std::ifstream in(file);
  double lines = 0;
  for (std::string line; std::getline(in, line);) ++lines;
  return lines;
}

void Planner::hold_memory() {
  const bool resident = !s_.keeps_text_encoders && c_.flow.sd3.embedding_cache.empty();
  const bool none = !c_.prompts.given();
  const double prompts = (none ? real(c_.eval.prompts)
                               : prompts_in(c_.prompts.train) + prompts_in(c_.prompts.eval) +
                                     real(std::ssize(c_.prompts.classes))) +
                         1;
  if (none && !draws_emoji(c_.flow)) {
    out_.notes.push_back(fmt::format(
        "no prompts are given, and align will ask for prompts.train and prompts.eval (or "
        "prompts.classes). Counted are the {} of eval.prompts, of {} tokens{}; "
        "those to train on come on top",
        c_.eval.prompts, s_.text_tokens,
        resident ? fmt::format(" and {:.2f} MiB each", prompt_bytes_ / (1024 * 1024)) : ""));
  }
  if (resident && !c_.prompts.train.empty() && prompts == 1)
    out_.notes.push_back(
        "prompts.train cannot be read: the embeddings of its prompts are left out");
  // Adapters: values, gradient, two moments, average. A value network: without the average.
  held_ = {{"program", kProcess},
           {"emoji and judges", draws_emoji(c_.flow) ? kEmoji : 0},
           {"network",
            number_ * (network_parameters_ + (s_.keeps_text_encoders ? s_.text_parameters : 0))},
           {"merged weights", c_.problem.merge ? number_ * adapted_weights_ : 0},
           {tiny_decoder_ ? "TAESD3" : "VAE", kFloat * decoder_parameters_},
           {"adapters and optimizer", kFloat * 5 * adapter_parameters_},
           {"value network and optimizer", kFloat * 4 * value_trained_},
           {"reward", reward_.bytes},
           {"panel", panel_.bytes},
           {"prompt embeddings", resident ? prompts * prompt_bytes_ : 0},
           {"rollout states", state_bytes_ * cost_shape_.batch * (real(steps_) + 1) +
                                  3 * want_.transitions * state_bytes_}};
}

// Transient bytes come on top of what is held; the fullest moment is the peak.
void Planner::add_moment(const std::string& name, const std::vector<Amount>& transient) {
  std::vector<Amount> parts = held_;
  for (const Amount& part : transient) parts.push_back({part.name, kHeap * part.value});
  double sum = 0;
  for (const Amount& part : parts) sum += part.value;
  const auto known = std::find_if(out_.moments.begin(), out_.moments.end(),
                                  [&](const Amount& m) { return m.name == name; });
  if (known == out_.moments.end()) {
    out_.moments.push_back({name, sum});
  } else {
    known->value = std::max(known->value, sum);
  }
  if (sum <= out_.peak) return;
  out_.peak = sum;
  out_.fullest = name;
  peak_parts_ = parts;
}

void Planner::add_losses(const Moment& m) {
  const double rows = micro(c_, m.rows);
  const PassCost& value = m.value_pairs > 0 ? value_pairs_ : value_;
  const double values = m.value_graphs + m.value_pairs, bases = rows * m.base_graphs;
  const double unwind = values > 0 ? rows * value.unwind : bases * with_input_.unwind;
  add_moment(m.name, {{"graph of the value network", values * kept(value, rows)},
                      {"graph of the base", kept(with_input_, bases)},
                      {"graph of the policy", kept(policy_input_, rows * m.policy_graphs)},
                      {"graph of decoder and reward", m.reward_graphs * decode_graph(rows)},
                      {"forward", rows * (m.forwards * network_.idle + m.tangents * tangent_.idle)},
                      {"backward", unwind + m.reward_graphs * decode_unwind(rows)}});
}

void Planner::run_through_moments() {
  const CostShape& k = cost_shape_;
  const double rows = micro(c_, want_.transitions), prompts = prompt_bytes_ * k.batch;
  const double images = micro(c_, want_.reward_gradients);
  // SD3's encoders are there before anything else is, but for the decoder; the nano's never leave.
  if (!s_.keeps_text_encoders) {
    const std::vector<Amount> all = held_;
    held_ = {{"program", kProcess},
             {"decoder", kFloat * decoder_parameters_},
             {"text encoders", number_ * s_.text_parameters},
             {"network", s_.stored_bytes == number_ ? 0 : number_ * network_parameters_}};
    add_moment("prompts", {});
    held_ = all;
  }
  add_moment("rollout", {{"forward", k.batch * k.rollout * network_.idle},
                         {"prompts of the batch", 3 * k.rollout * prompts}});
  add_moment("reward", {{"graph of decoder and reward", decode_graph(images)},
                        {"backward", decode_unwind(images)},
                        {"prompts of the batch", 2 * prompts}});
  // SD3 decodes image by image where there is no gradient; the nano's decoder sees all at once.
  const auto decoding = [&](double shown) {
    return (s_.keeps_text_encoders ? shown : 1) * decoder_.idle;
  };
  add_moment("reward", {{"forward", std::max(decoding(k.batch), k.batch * reward_.cost.idle) +
                                        2 * k.batch * pixel_bytes_}});
  const PassCost& policy = want_.policy_input ? policy_input_ : with_adapters_;
  const double branches = want_.policy_input ? k.policy_graph : k.known_graph;
  add_moment("training", {{"graph of the network", kept(policy, rows * branches)},
                          {"backward", rows * branches * policy.unwind},
                          {"prompts of the batch", 2 * prompts + 2 * rows * prompt_bytes_}});
  add_moment("training",
             {{"forward", rows * k.base * network_.idle},
              {"prompts of the batch", 2 * prompts + 2 * rows * k.base * prompt_bytes_}});
  if (want_.adjoint) {
    const double pulled = micro(c_, k.batch) * k.adjoint;
    add_moment("adjoint", {{"graph of the base", kept(with_input_, pulled)},
                           {"backward", pulled * with_input_.unwind},
                           {"prompts of the batch", 2 * prompts}});
  }
  for (const Moment& moment : want_.moments) add_losses(moment);
  const double shown = std::min(real(at_once(c_, s_)), real(c_.eval.prompts * c_.eval.images));
  add_moment("evaluation", {{"forward", shown * k.rollout * network_.idle},
                            {"prompts of the batch", 3 * shown * k.rollout * prompt_bytes_}});
  add_moment(
      "evaluation",
      {{"forward", decoding(shown) + shown * (4 * pixel_bytes_ +
                                              std::max(reward_.cost.idle, panel_.cost.idle))}});
}

Plan Planner::run() {
  count_parameters();
  count_work();
  hold_memory();
  run_through_moments();
  for (const Amount& part : peak_parts_) {
    if (part.value > 0) out_.memory.push_back(part);
  }
  std::erase_if(out_.parameters, [](const Amount& a) { return a.value == 0; });
  return out_;
}

// Without the checks: what a switch changes fits where the configuration did.
Plan planned(const AlignConfig& config, const ModelShape& shape) {
  return Planner(config, shape).run();
}

}  // namespace

Plan plan(const AlignConfig& config, const ModelShape& shape) {
  check_settings(config, shape);
  return planned(config, shape);
}

// ---- switches
// --------------------------------------------------------------------------------------------------------

namespace {

struct Change {
  const char* setting;
  const char* what;
  bool (*applies)(const AlignConfig& c, const ModelShape& s);
  void (*apply)(AlignConfig& c, const ModelShape& s);
  bool saves_only = true;  ///< leaves the method as it is: part of "all of these"
};

bool sd3(const AlignConfig&, const ModelShape& s) { return !s.keeps_text_encoders; }
// Whether a setting of the rewards makes their weights or their graphs smaller.
bool saves(const AlignConfig& c, const std::function<void(RewardFiles&)>& change) {
  RewardFiles files = c.reward_files;
  change(files);
  const Rewards now = rewards_of(rewards_in(c.reward), c.reward_files),
                then = rewards_of(rewards_in(c.reward), files);
  return then.bytes < now.bytes || then.cost.graph < now.cost.graph;
}

const std::vector<Change>& changes() {
  static const std::vector<Change> list{
      {"checkpointing=true", "blocks run again in the backward pass",
       [](const AlignConfig& c, const ModelShape&) { return !c.flow.checkpointing; },
       [](AlignConfig& c, const ModelShape&) { c.flow.checkpointing = true; }},
      {"micro_batch=1", "one transition a pass",
       [](const AlignConfig& c, const ModelShape&) { return c.micro_batch > 1; },
       [](AlignConfig& c, const ModelShape&) { c.micro_batch = 1; }},
      {"eval.batch=1", "one image a pass of evaluations",
       [](const AlignConfig& c, const ModelShape& s) { return at_once(c, s) > 1; },
       [](AlignConfig& c, const ModelShape&) { c.eval.batch = 1; }},
      {"reward_recompute=true", "the reward's layers run again in the backward pass",
       [](const AlignConfig& c, const ModelShape&) {
         return saves(c, [](RewardFiles& f) { f.reward_recompute = true; });
       },
       [](AlignConfig& c, const ModelShape&) { c.reward_files.reward_recompute = true; }},
      {"merge=false", "adapters beside the weights in rollouts, too",
       [](const AlignConfig& c, const ModelShape&) { return c.problem.merge; },
       [](AlignConfig& c, const ModelShape&) { c.problem.merge = false; }},
      {"sd3.decoder=taesd3", "the tiny decoder instead of the VAE",
       [](const AlignConfig& c, const ModelShape& s) {
         return sd3(c, s) && c.flow.sd3.decoder != "taesd3";
       },
       [](AlignConfig& c, const ModelShape&) {
         c.flow.sd3.decoder = "taesd3";
         c.flow.sd3.tiling = false;
       }},
      {"precision=bf16", "weights and products in bf16",
       [](const AlignConfig& c, const ModelShape&) {
         return precision_dtype(c.flow.precision) == at::kFloat;
       },
       [](AlignConfig& c, const ModelShape&) { c.flow.precision = "bf16"; }},
      {"reward_dtype=bf16", "the reward's weights and products in bf16",
       [](const AlignConfig& c, const ModelShape&) {
         return saves(c, [](RewardFiles& f) { f.reward_dtype = RewardDtype::kBf16; });
       },
       [](AlignConfig& c, const ModelShape&) { c.reward_files.reward_dtype = RewardDtype::kBf16; },
       false},
      {"sd3.height=512 sd3.width=512", "smaller images",
       [](const AlignConfig& c, const ModelShape& s) {
         return sd3(c, s) && s.height * s.vae.downscale() > 512;
       },
       [](AlignConfig& c, const ModelShape&) { c.flow.sd3.height = c.flow.sd3.width = 512; },
       false},
      {"batch=8", "fewer trajectories an update",
       [](const AlignConfig& c, const ModelShape&) { return c.batch > 8; },
       [](AlignConfig& c, const ModelShape&) { c.batch = 8; }, false},
      {"guidance=1", "no guidance: one branch a step",
       [](const AlignConfig& c, const ModelShape&) { return c.problem.guidance != 1.0; },
       [](AlignConfig& c, const ModelShape&) { c.problem.guidance = 1.0; }, false},
      {"lora_rank=4", "smaller adapters",
       [](const AlignConfig& c, const ModelShape&) { return c.lora_rank > 4; },
       [](AlignConfig& c, const ModelShape&) { c.lora_rank = 4; }, false},
      {"value.kind=none", "no value network",
       [](const AlignConfig& c, const ModelShape&) {
         return ResolvedMethod(c).value.kind != "none";
       },
       [](AlignConfig& c, const ModelShape&) { c.value.kind = "none"; }, false}};
  return list;
}

// The state's size follows the settings; everything else stays as it was read.
ModelShape resized(const AlignConfig& c, ModelShape shape) {
  if (shape.keeps_text_encoders) return shape;
  const int64_t scale = shape.vae.downscale();
  if (c.flow.sd3.height > 0) shape.height = c.flow.sd3.height / scale;
  if (c.flow.sd3.width > 0) shape.width = c.flow.sd3.width / scale;
  return shape;
}

}  // namespace

std::vector<Switch> switches(const AlignConfig& config, const ModelShape& shape) {
  std::vector<Switch> all;
  AlignConfig saving = config;
  std::string saving_names;
  for (const Change& change : changes()) {
    if (!change.applies(config, shape)) continue;
    AlignConfig changed = config;
    change.apply(changed, shape);
    all.push_back({change.setting, change.what, planned(changed, resized(changed, shape))});
    if (!change.saves_only) continue;
    change.apply(saving, shape);
    saving_names += (saving_names.empty() ? "" : " ") + std::string(change.setting);
  }
  if (!saving_names.empty())
    all.push_back({saving_names, "all that leave images and method as they are",
                   planned(saving, resized(saving, shape))});
  return all;
}

}  // namespace vggflow
