#include "vggflow/plan/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <sstream>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/dist/group.h"
#include "vggflow/families/network_cost.h"
#include "vggflow/families/value_cost.h"
#include "vggflow/flow/precision.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/nn/lora.h"
#include "vggflow/train/checks.h"
#include "vggflow/train/pace.h"
#include "vggflow/train/shares.h"

namespace vggflow {
namespace {

// What a place takes besides the tensors that are counted. CPU: the process without networks
// (program, LibTorch, oneDNN's kernels and threads); what comes and goes leaves holes in the heap,
// and oneDNN makes reordered copies; blocks in one call make few tensors, alike from block to
// block. GPU: CUDA's context and the libraries' code and workspaces; the allocator keeps blocks
// that fit nothing else. Where from: docs/plan.md.
struct MemoryPlace {
  bool gpu;
  double program;       // bytes
  double heap;          // what comes and goes takes as many times its tensors' bytes,
  double heap_at_once;  // and that of networks whose blocks run in one call
  double holes;         // in fp32, which has no reordered copies, at most as many bytes more
};
constexpr double kGiB = 1024.0 * 1024 * 1024;
constexpr double kUnbounded = std::numeric_limits<double>::infinity();
constexpr MemoryPlace kCpu{false, 0.17 * kGiB, 1.75, 1.15, 0.28 * kGiB},
    kGpu{true, 0.8 * kGiB, 1.3, 1.3, kUnbounded};
// What runs on a model's own prompts hold besides (emoji, judges and their passes): measured.
constexpr double kEmoji = 0.06 * kGiB;
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
  Planner(const AlignConfig& config, const ModelShape& shape, int ranks);
  Plan run();

 private:
  NetworkCall base_call() const;
  void count_value_network();
  void count_parameters();
  void count_work();
  double prompt_count() const;
  void note_prompts();
  void note_host();
  MemoryPlan memory_in(const MemoryPlace& place);
  double network_numbers() const;
  double gradients_of_shares() const;
  void hold_memory();
  void run_through_moments();
  void add_losses(const Moment& moment);
  // Bytes of a moment.
  struct Transient {
    std::string name;
    double bytes;
    bool of_network = false;
  };
  void add_moment(const std::string& name, const std::vector<Transient>& transient);
  double decode_graph(double images) const {
    return images * (s_.decoder.cost.graph + reward_.cost.graph + pixels_graph_);
  }
  double decode_unwind(double images) const {
    return images * (std::max(s_.decoder.cost.unwind, reward_.cost.unwind) + 2 * pixel_bytes_);
  }
  bool shards() const { return c_.flow.weights == Weights::kSharded && ranks_ > 1; }
  double kept(const PassCost& pass, double rows) const {
    return rows > 0 ? rows * pass.graph + pass.graph_once : 0;
  }

  const AlignConfig& c_;
  const ModelShape& s_;
  ResolvedMethod resolved_;
  ValueKind value_kind_ = ValueKind::kNone;
  bool network_at_once_ = false;
  CostShape cost_shape_;  // of the batch
  Demand want_;           // of the batch
  double ranks_ = 1, shares_ = 1, own_shares_ = 1;
  CostShape share_shape_;  // of a share
  Demand share_;           // of a share
  int64_t steps_ = 0;
  double number_ = 4, adapted_weights_ = 0, adapter_parameters_ = 0, network_parameters_ = 0,
         network_numbers_ = 0;
  double value_parameters_ = 0;
  double state_bytes_ = 0, pixel_bytes_ = 0, pixels_graph_ = 0, prompt_bytes_ = 0;
  PassCost network_, with_adapters_, with_input_, value_, value_pairs_, tangent_, policy_input_;
  Rewards reward_, panel_;
  MemoryPlace place_ = kCpu;
  std::vector<Amount> held_;
  MemoryPlan memory_;
  Plan out_;
};

int64_t at_once(const AlignConfig& c, const ModelShape& s) {
  return images_at_once(c.eval.batch, s.state);
}

double micro(const AlignConfig& c, double transitions) {
  return std::min(real(c.micro_batch), transitions);
}

NetworkCall Planner::base_call() const {
  return {.bytes = static_cast<int64_t>(number_),
          .checkpointing = c_.flow.checkpointing,
          .batched = micro(c_, real(c_.batch) / shares_) > 1};
}

// The layers that adapters sit on, found in the network as it is built, without memory for its
// numbers.
void find_adapted(const AlignConfig& c, const NetworkSizes& sizes, double& weights,
                  double& parameters) {
  const auto network = sizes.skeleton();
  for (auto& [path, module] : network->modules()) {
    auto* layer = dynamic_cast<Linear*>(module);
    if (!layer || std::none_of(c.lora_targets.begin(), c.lora_targets.end(),
                               [&path = path](const std::string& t) { return matches(t, path); }))
      continue;
    weights += real(layer->in * layer->out);
    parameters += real(c.lora_rank * (layer->in + layer->out));
  }
}

Planner::Planner(const AlignConfig& c, const ModelShape& s, int ranks)
    : c_(c),
      s_(s),
      resolved_(c),
      reward_(rewards_of(rewards_in(c.reward), c.reward_files)),
      panel_(rewards_of(panel_of(c), c.reward_files)) {
  number_ = precision_dtype(c.flow.precision) == at::kFloat ? 4 : 2;
  value_kind_ = resolved_.value.kind;
  steps_ = rollout_steps(c);
  cost_shape_ = cost_shape_of(resolved_.problem, value_kind_ != ValueKind::kNone,
                              number_ < kFloat && s.network->carries_pairs(), c.batch, steps_);
  want_ = resolved_.method->demand(cost_shape_);
  out_.ranks = ranks_ = ranks;
  shares_ = real(c.shares > 0 ? c.shares : default_shares(c.batch, ranks, has_latents(s)));
  own_shares_ = std::max(1.0, shares_ / ranks_);
  share_shape_ = cost_shape_;
  share_shape_.batch = std::max(1.0, cost_shape_.batch / shares_);
  share_ = resolved_.method->demand(share_shape_);
  find_adapted(c, *s.network, adapted_weights_, adapter_parameters_);
  network_parameters_ = s.network->parameters();
  network_numbers_ = network_parameters_ + s.network->tables();

  NetworkCall call = base_call();
  network_at_once_ = runs_at_once(*s.network, call);
  network_ = s.network->cost(call);
  tangent_ = s.network->tangent_cost(call);
  call.rank = c.lora_rank;
  with_adapters_ = s.network->cost(call);
  call.input_gradient = true;
  policy_input_ = s.network->cost(call);
  call.rank = 0;
  with_input_ = s.network->cost(call);

  const double pixels = real(s.state[1] * s.state[2]) * real(s.upscale) * real(s.upscale);
  state_bytes_ = kFloat * real(s.state[0] * s.state[1] * s.state[2]);
  pixel_bytes_ = kFloat * 3 * pixels;
  // The clip, the scale, and what the reward keeps of pixels.
  pixels_graph_ = (3 + reward_.pixels) * pixel_bytes_;
  prompt_bytes_ = number_ * (real(s.text_tokens * s.context_width) + real(s.pooled_width));
  for (const auto* rewards : {&reward_, &panel_}) {
    for (const std::string& name : rewards->unknown)
      out_.notes.push_back(fmt::format(
          "the sizes of reward '{}' are not known: its memory and time are left out", name));
  }
}

// ---- parameters
// ------------------------------------------------------------------------------------------------------

void Planner::count_value_network() {
  const NetworkSizes& network = *s_.network;
  NetworkCall call = base_call();
  switch (value_kind_) {
    case ValueKind::kAuto:  // resolved
    case ValueKind::kNone:
      return;
    case ValueKind::kUnet:
      value_parameters_ = unet_value_parameters(resolved_.value, s_.state[0], s_.pooled_width);
      value_ = unet_value_cost(resolved_.value, s_.state[0], s_.state[1], s_.state[2]);
      value_pairs_ = value_;
      for (double* part : {&value_pairs_.forward, &value_pairs_.backward, &value_pairs_.graph,
                           &value_pairs_.idle, &value_pairs_.unwind})
        *part *= 3;
      return;
    case ValueKind::kSmall: {
      const auto small =
          network.small(c_.value.width, c_.value.layers, value_states(resolved_.value));
      call.bytes = 4;
      call.trained = true;
      call.checkpointing = false;
      value_ = small->cost(call);
      value_pairs_ = small->tangent_cost(call);
      value_parameters_ = small->parameters();
      return;
    }
    case ValueKind::kLora:
      call.rank = c_.value.rank;
      value_ = network.cost(call);
      value_pairs_ = network.tangent_cost(call);
      value_parameters_ = adapter_parameters_ * real(c_.value.rank) / real(c_.lora_rank) +
                          network.output_parameters();
  }
}

void Planner::count_parameters() {
  count_value_network();
  out_.parameters = {{"network", network_parameters_},
                     {"text encoders", s_.text_parameters},
                     {s_.decoder.name, s_.decoder.parameters},
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
  const double decoder = work(s_.decoder.cost), reward = work(reward_.cost);
  const double fast = number_ < kFloat ? work(reward_.half) : 0;
  out_.work = {
      {"network", network}, {"value network", value}, {"decoder and reward", decoder + reward}};
  out_.half_flops = network + (value_kind_ == ValueKind::kLora ? value : 0) + fast;
  out_.full_flops = decoder + (value_kind_ == ValueKind::kLora ? 0 : value) + reward - fast;
  const double shown_steps = real(c_.eval_steps > 0 ? c_.eval_steps : steps_),
               scored = reward_.cost.forward + panel_.cost.forward,
               fast_scored = number_ < kFloat ? reward_.half.forward + panel_.half.forward : 0;
  out_.image_half_flops = shown_steps * cost_shape_.rollout * network_.forward + fast_scored;
  out_.image_full_flops = s_.decoder.cost.forward + scored - fast_scored;
}

// ---- memory
// ----------------------------------------------------------------------------------------------------------

double prompts_in(const std::string& file) {
  std::ifstream in(file);
  double lines = 0;
  for (std::string line; std::getline(in, line);) ++lines;
  return lines;
}

double Planner::prompt_count() const {
  if (!c_.prompts.given()) return real(c_.eval.prompts) + 1;
  return prompts_in(c_.prompts.train) + prompts_in(c_.prompts.eval) +
         real(std::ssize(c_.prompts.classes)) + 1;
}

void Planner::note_host() {
  const double blocks = number_ * s_.network->offloaded().on_host / kGiB;
  if (c_.flow.offload != Offload::kNone)
    out_.notes.push_back(fmt::format(
        "offload={}: on a GPU {:.1f} GiB of weights lie in the host's memory, page-locked",
        word_of(c_.flow.offload), blocks));
  if (shards())
    out_.notes.push_back(fmt::format(
        "weights={}: of {:.1f} GiB of weights each of {} processes holds {:.1f} GiB in its host's "
        "memory, and two blocks at a time",
        word_of(c_.flow.weights), blocks, ranks_, blocks / ranks_));
}

void Planner::note_prompts() {
  const bool resident = s_.embeddings_stay;
  if (!c_.prompts.given() && !s_.has_own_prompts) {
    out_.notes.push_back(fmt::format(
        "no prompts are given, and align will ask for prompts.train and prompts.eval (or "
        "prompts.classes). Counted are the {} of eval.prompts, of {} tokens{}; "
        "those to train on come on top",
        c_.eval.prompts, s_.text_tokens,
        resident ? fmt::format(" and {:.2f} MiB each", prompt_bytes_ / (1024 * 1024)) : ""));
  }
  if (resident && !c_.prompts.train.empty() && prompt_count() == 1)
    out_.notes.push_back(
        "prompts.train cannot be read: the embeddings of its prompts are left out");
}

// Of the network that are held.
double Planner::network_numbers() const {
  const auto [on_host, on_device] = s_.network->offloaded();
  const double visiting = network_numbers_ - on_host + on_device;
  if (shards()) return place_.gpu ? visiting : visiting + on_host / ranks_;
  return place_.gpu && c_.flow.offload != Offload::kNone ? visiting : network_numbers_;
}

// Sums of the own shares, and while all shares' are added up, as many as they are sent and as they
// come, and the sum.
double Planner::gradients_of_shares() const {
  if (shares_ == 1) return 0;
  return kFloat * (adapter_parameters_ + value_parameters_) *
         (own_shares_ + (ranks_ > 1 ? 2 * own_shares_ + 1 : 0));
}

void Planner::hold_memory() {
  // Adapters: values, gradient, two moments, average. A value network: without the average.
  held_ = {
      {"program", place_.program},
      {"emoji and judges", s_.has_own_prompts ? kEmoji : 0},
      {"network", number_ * (network_numbers() + (s_.text_encoders_stay ? s_.text_parameters : 0))},
      {"merged weights", c_.problem.merge ? number_ * adapted_weights_ : 0},
      {s_.decoder.name, kFloat * s_.decoder.parameters},
      {"adapters and optimizer", kFloat * (resolved_.method->lag() ? 6 : 5) * adapter_parameters_},
      {"value network and optimizer", kFloat * 4 * value_parameters_},
      {"reward", reward_.bytes},
      {"panel", panel_.bytes},
      {"prompt embeddings", s_.embeddings_stay ? prompt_count() * prompt_bytes_ : 0},
      {"gradients of shares", gradients_of_shares()},
      {"rollout states", own_shares_ * state_bytes_ *
                             (share_shape_.batch * (real(steps_) + 1) + 3 * share_.transitions)}};
}

// Transient bytes come on top of what is held; the fullest moment is the peak.
void Planner::add_moment(const std::string& name, const std::vector<Transient>& transient) {
  const auto factor = [&](const Transient& part) {
    return part.of_network && network_at_once_ ? place_.heap_at_once : place_.heap;
  };
  double holes = 0;
  for (const Transient& part : transient) holes += part.bytes * (factor(part) - 1);
  const double bound = number_ == kFloat ? place_.holes : kUnbounded,
               share = holes > bound ? bound / holes : 1;
  std::vector<Amount> parts = held_;
  for (const Transient& part : transient)
    parts.push_back({part.name, part.bytes * (1 + share * (factor(part) - 1))});
  double sum = 0;
  for (const Amount& part : parts) sum += part.value;
  const auto known = std::find_if(memory_.moments.begin(), memory_.moments.end(),
                                  [&](const Amount& m) { return m.name == name; });
  if (known == memory_.moments.end()) {
    memory_.moments.push_back({name, sum});
  } else {
    known->value = std::max(known->value, sum);
  }
  if (sum <= memory_.peak) return;
  memory_.peak = sum;
  memory_.fullest = name;
  memory_.memory = parts;
}

void Planner::add_losses(const Moment& m) {
  const double rows = micro(c_, m.rows);
  const PassCost& value = m.value_pairs > 0 ? value_pairs_ : value_;
  const double values = m.value_graphs + m.value_pairs, bases = rows * m.base_graphs;
  const double unwind = values > 0 ? rows * value.unwind : bases * with_input_.unwind;
  add_moment(m.name, {{"graph of the value network", values * kept(value, rows)},
                      {"graph of the base", kept(with_input_, bases), true},
                      {"graph of the policy", kept(policy_input_, rows * m.policy_graphs), true},
                      {"graph of decoder and reward", m.reward_graphs * decode_graph(rows)},
                      {"forward", rows * (m.forwards * network_.idle + m.tangents * tangent_.idle)},
                      {"backward", unwind, values == 0},
                      {"backward of decoder and reward", m.reward_graphs * decode_unwind(rows)}});
}

void Planner::run_through_moments() {
  const CostShape& k = share_shape_;
  const double rows = micro(c_, share_.transitions), prompts = prompt_bytes_ * k.batch;
  const double images = micro(c_, share_.reward_gradients);
  // Encoders that leave are there before anything else is, but for the decoder.
  if (!s_.text_encoders_stay) {
    const std::vector<Amount> all = held_;
    const bool untouched = !place_.gpu && s_.stored_bytes == number_;  // a view of its file
    held_ = {{"program", place_.program},
             {"decoder", kFloat * s_.decoder.parameters},
             {"text encoders", number_ * s_.text_parameters},
             {"network", untouched ? 0 : number_ * network_numbers()}};
    add_moment("prompts", {});
    held_ = all;
  }
  add_moment("rollout", {{"forward", k.batch * k.rollout * network_.idle, true},
                         {"prompts of the batch", 3 * k.rollout * prompts}});
  add_moment("reward", {{"graph of decoder and reward", decode_graph(images)},
                        {"backward", decode_unwind(images)},
                        {"prompts of the batch", 2 * prompts}});
  const auto decoding = [&](double shown) {
    return (s_.decodes_singly ? 1 : shown) * s_.decoder.cost.idle;
  };
  add_moment("reward", {{"forward", std::max(decoding(k.batch), k.batch * reward_.cost.idle) +
                                        2 * k.batch * pixel_bytes_}});
  const PassCost& policy = share_.policy_input ? policy_input_ : with_adapters_;
  const double branches = share_.policy_input ? k.policy_graph : k.known_graph;
  add_moment("training", {{"graph of the network", kept(policy, rows * branches), true},
                          {"backward", rows * branches * policy.unwind, true},
                          {"prompts of the batch", 2 * prompts + 2 * rows * prompt_bytes_}});
  add_moment("training",
             {{"forward", rows * k.base * network_.idle, true},
              {"prompts of the batch", 2 * prompts + 2 * rows * k.base * prompt_bytes_}});
  if (share_.adjoint) {
    const double pulled = micro(c_, k.batch) * k.adjoint;
    add_moment("adjoint", {{"graph of the base", kept(with_input_, pulled), true},
                           {"backward", pulled * with_input_.unwind, true},
                           {"prompts of the batch", 2 * prompts}});
  }
  for (const Moment& moment : share_.moments) add_losses(moment);
  const double shown = std::min(real(at_once(c_, s_)), real(c_.eval.prompts * c_.eval.images));
  add_moment("evaluation", {{"forward", shown * k.rollout * network_.idle, true},
                            {"prompts of the batch", 3 * shown * k.rollout * prompt_bytes_}});
  add_moment(
      "evaluation",
      {{"forward", decoding(shown) + shown * (4 * pixel_bytes_ +
                                              std::max(reward_.cost.idle, panel_.cost.idle))}});
}

MemoryPlan Planner::memory_in(const MemoryPlace& place) {
  place_ = place;
  memory_ = {};
  hold_memory();
  run_through_moments();
  std::erase_if(memory_.memory, [](const Amount& a) { return a.value == 0; });
  return memory_;
}

Plan Planner::run() {
  count_parameters();
  count_work();
  note_prompts();
  note_host();
  static_cast<MemoryPlan&>(out_) = memory_in(kCpu);
  out_.gpu = memory_in(kGpu);
  std::erase_if(out_.parameters, [](const Amount& a) { return a.value == 0; });
  return out_;
}

// Without the checks: what a switch changes fits where the configuration did.
Plan planned(const AlignConfig& config, const ModelShape& shape, int ranks) {
  const ModelShape now = reshaped(shape, config.flow);
  return Planner(config, now, ranks).run();
}

}  // namespace

EvaluatedImages evaluated_images(const AlignConfig& config) {
  const double set = real(config.eval.prompts * config.eval.images);
  return {2 * set, set * real(Pace(config.updates, config.eval_every).evaluations_left(0))};
}

Plan plan(const AlignConfig& config, const ModelShape& shape, int ranks) {
  check_settings(config, shape);
  const Group group(Place{.size = ranks}, nullptr);
  const Shares shares(group, config.shares > 0 ? config.shares : ranks, config.batch);  // or throws
  return planned(config, shape, ranks);
}

// ---- switches
// --------------------------------------------------------------------------------------------------------

namespace {

struct Change {
  std::string setting, what;
  std::function<bool(const AlignConfig& c)> applies;
  std::function<void(AlignConfig& c)> apply;
  bool saves_only = true;  ///< leaves the method as it is: part of "all of these"
};
using Changes = std::vector<Change>;

// Whether a setting of the rewards makes their weights or their graphs smaller.
bool saves(const AlignConfig& c, const std::function<void(RewardFiles&)>& change) {
  RewardFiles files = c.reward_files;
  change(files);
  const Rewards now = rewards_of(rewards_in(c.reward), c.reward_files),
                then = rewards_of(rewards_in(c.reward), files);
  return then.bytes < now.bytes || then.cost.graph < now.cost.graph;
}

// What leaves images and method as they are.
Changes harmless_changes(const ModelShape& shape) {
  return {{"checkpointing=true", "blocks run again in the backward pass",
           [](const AlignConfig& c) { return !c.flow.checkpointing; },
           [](AlignConfig& c) { c.flow.checkpointing = true; }},
          {"micro_batch=1", "one transition a pass",
           [](const AlignConfig& c) { return c.micro_batch > 1; },
           [](AlignConfig& c) { c.micro_batch = 1; }},
          {"eval.batch=1", "one image a pass of evaluations",
           [&shape](const AlignConfig& c) { return at_once(c, shape) > 1; },
           [](AlignConfig& c) { c.eval.batch = 1; }},
          {"reward_recompute=true", "the reward's layers run again in the backward pass",
           [](const AlignConfig& c) {
             return saves(c, [](RewardFiles& f) { f.reward_recompute = true; });
           },
           [](AlignConfig& c) { c.reward_files.reward_recompute = true; }},
          {"merge=false", "adapters beside the weights in rollouts, too",
           [](const AlignConfig& c) { return c.problem.merge && !ResolvedMethod(c).method->lag(); },
           [](AlignConfig& c) { c.problem.merge = false; }}};
}

// In the order that people are shown: the model's own among them.
Changes changes(const ModelShape& shape) {
  Changes list = harmless_changes(shape);
  const auto add_models = [&](bool harmless) {
    for (const ModelSwitch& s : shape.switches) {
      if (s.harmless != harmless) continue;
      const auto apply = [overrides = s.overrides](AlignConfig& c) {
        const Fields fields = fields_of(c);
        for (const std::string& each : overrides) apply_override(fields, each);
      };
      list.push_back({s.setting, s.what, [](const AlignConfig&) { return true; }, apply, harmless});
    }
  };
  add_models(/*harmless=*/true);
  list.push_back(
      {"precision=bf16", "weights and products in bf16",
       [](const AlignConfig& c) { return precision_dtype(c.flow.precision) == at::kFloat; },
       [](AlignConfig& c) { c.flow.precision = Precision::kBf16; }, false});
  list.push_back({"reward_dtype=bf16", "the reward's weights and products in bf16",
                  [](const AlignConfig& c) {
                    return saves(c, [](RewardFiles& f) { f.reward_dtype = RewardDtype::kBf16; });
                  },
                  [](AlignConfig& c) { c.reward_files.reward_dtype = RewardDtype::kBf16; }, false});
  add_models(/*harmless=*/false);
  const Changes others{
      {"batch=8", "fewer trajectories per update", [](const AlignConfig& c) { return c.batch > 8; },
       [](AlignConfig& c) { c.batch = 8; }, false},
      {"guidance=1", "no guidance: one branch a step",
       [](const AlignConfig& c) { return c.problem.guidance != 1.0; },
       [](AlignConfig& c) { c.problem.guidance = 1.0; }, false},
      {"lora_rank=4", "smaller adapters", [](const AlignConfig& c) { return c.lora_rank > 4; },
       [](AlignConfig& c) { c.lora_rank = 4; }, false},
      {"value.kind=none", "no value network",
       [](const AlignConfig& c) { return ResolvedMethod(c).value.kind != ValueKind::kNone; },
       [](AlignConfig& c) { c.value.kind = ValueKind::kNone; }, false}};
  list.insert(list.end(), others.begin(), others.end());
  return list;
}

}  // namespace

std::vector<Switch> switches(const AlignConfig& config, const ModelShape& shape, int ranks) {
  std::vector<Switch> all;
  AlignConfig saving = config;
  std::vector<std::string> saved;
  const ModelShape now = reshaped(shape, config.flow);
  for (const Change& change : changes(now)) {
    if (!change.applies(config)) continue;
    AlignConfig changed = config;
    change.apply(changed);
    all.push_back({change.setting, change.what, planned(changed, shape, ranks)});
    if (!change.saves_only) continue;
    change.apply(saving);
    std::istringstream words(change.setting);
    for (std::string word; words >> word;) {
      if (std::ranges::find(saved, word) == saved.end()) saved.push_back(word);
    }
  }
  if (!saved.empty())
    all.push_back({fmt::format("{}", fmt::join(saved, " ")),
                   "all that leave images and method as they are", planned(saving, shape, ranks)});
  return all;
}

void check_memory_limit(const AlignConfig& config, const ModelShape& shape, bool on_gpu,
                        int ranks) {
  if (config.memory_limit == 0) return;
  const Plan whole = plan(config, shape, ranks);
  const MemoryPlan& found = whole.memory_on(on_gpu);
  if (found.peak <= config.memory_limit * kGiB) return;
  std::string saving;
  for (const Switch& each : switches(config, shape, ranks)) {
    const double peak = each.plan.memory_on(on_gpu).peak;
    if (peak < found.peak)
      saving += fmt::format("\n  {}: {:.2f} GiB ({})", each.setting, peak / kGiB, each.what);
  }
  fail(
      "[memory_limit] expected a run of at most {} GiB, vggflow plan counts {:.2f} GiB of the {} "
      "({}); {}",
      config.memory_limit, found.peak / kGiB, on_gpu ? "GPU's memory" : "process", found.fullest,
      saving.empty() ? "no setting lowers it" : "these settings lower it:" + saving);
}

}  // namespace vggflow
