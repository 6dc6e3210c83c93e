#include "vggflow/train/align.h"

#include <ATen/ops/arange.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "vggflow/core/config.h"
#include "vggflow/core/log.h"
#include "vggflow/data/prompt_sets.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/io/tensorboard.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/train/checkpoint.h"
#include "vggflow/train/checks.h"
#include "vggflow/weights/lora_file.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

// What one update found, and what the optimizers did with it.
struct UpdateReport {
  MethodReport method;
  PassCounter policy, value;  ///< counted passes
  BatchAudit audit;
  double seconds = 0, policy_norm = 0, value_norm = 0, lr = 0, beta_scale = 1;
  bool stepped = true;
};

// The best evaluation so far that nothing spoke against.
struct Best {
  int64_t update = 0;
  double reward = 0;
  Json metrics;
};

class Alignment {
 public:
  explicit Alignment(AlignConfig& config);
  bool run();

 private:
  UpdateReport update(int64_t index);
  UpdateInput input_of(int64_t index) const;
  void optimizer_step(int64_t index, UpdateReport& report);
  double value_scale() const;
  ImageProblem make_problem(const std::vector<std::string>& prompts) const;
  Tensor generate(const std::vector<std::string>& captions, const Tensor& noise) const;

  void evaluate(int64_t index);
  void write_grid(int64_t index);
  void write_update(int64_t index, const UpdateReport& report);
  void weigh(int64_t index);
  Metadata lora_metadata() const;
  void write_lora() const;
  Checkpoint state(int64_t index) const;
  int64_t restore();
  void write_summary() const;

  AlignConfig& config_;
  fs::path run_;
  uint64_t seed_;
  std::unique_ptr<PromptSource> prompts_;
  std::unique_ptr<FlowModel> model_;
  std::unique_ptr<Method> method_;
  std::unique_ptr<Reward> reward_;
  std::unique_ptr<ImageJudge> judge_;
  LoraOptions lora_options_;
  std::unique_ptr<AdaptedFlow> lora_;
  std::unique_ptr<ValueNetwork> value_;
  std::unique_ptr<ParameterBuffer> policy_buffer_, value_buffer_;
  std::unique_ptr<AdamW> policy_adamw_, value_adamw_;
  std::unique_ptr<Ema> ema_;
  std::unique_ptr<Evaluator> evaluator_;
  std::vector<double> times_, eval_times_;
  std::unique_ptr<JsonLines> metrics_;
  std::unique_ptr<EventWriter> events_;
  Evaluation base_, last_;
  std::optional<Best> best_;
  std::shared_ptr<PassCounter> policy_passes_ = std::make_shared<PassCounter>(),
                               value_passes_ = std::make_shared<PassCounter>();
  std::pair<PassCounter, PassCounter>
      last_passes_;  ///< counted in the last update: policy, value network
  Passes expected_;  ///< by the method's formula
  std::string cost_formula_;
  std::map<std::string, double> total_;  ///< seconds by phase
  double eval_seconds_ = 0;
};

std::unique_ptr<ValueNetwork> value_network_of(const AlignConfig& c, const Method& method,
                                               const FlowNetwork& policy) {
  return make_value_network(resolved_value_options(c, method), policy, c.lora_targets,
                            static_cast<uint64_t>(c.seed));
}

TimeGridOptions training_grid(const AlignConfig& c, const FlowModel& model) {
  return resolved_grid(c.time_grid, model.schedule().shift, model.schedule().shifts_twice);
}

// Adjoint Matching may train on 40 steps and be judged, as the others are, on 20.
TimeGridOptions evaluation_grid(const AlignConfig& c, const FlowModel& model) {
  TimeGridOptions grid = training_grid(c, model);
  if (c.eval_steps > 0) grid.steps = c.eval_steps;
  return grid;
}

Alignment::Alignment(AlignConfig& c)
    : config_(c),
      run_(c.run),
      seed_(static_cast<uint64_t>(c.seed)),
      prompts_(make_prompt_source(c.prompts, c.data)),
      model_(open_flow_model(c.flow)),
      method_(make_method(c.method, c.methods)),
      reward_(make_reward(c.reward, c.reward_files.resources())),
      judge_(judge_of(*prompts_, c.judge, c.reward_files.resources())),
      lora_options_{c.lora_rank, c.lora_alpha, c.lora_targets},
      lora_(std::make_unique<AdaptedFlow>(*model_, lora_options_, seed_)),
      value_(value_network_of(c, *method_, *model_)),
      times_(time_grid(training_grid(c, *model_))),
      eval_times_(time_grid(evaluation_grid(c, *model_))) {
  require_differentiable(*reward_, c.reward);
  policy_buffer_ = std::make_unique<ParameterBuffer>(lora_->parameters());
  policy_adamw_ = std::make_unique<AdamW>(*policy_buffer_, c.policy_optimizer);
  ema_ = std::make_unique<Ema>(*policy_buffer_, c.ema_decay);
  model_->count_passes(policy_passes_);
  lora_->count_passes(policy_passes_);
  if (value_) {
    value_buffer_ = std::make_unique<ParameterBuffer>(value_->trainable());
    value_adamw_ = std::make_unique<AdamW>(*value_buffer_, c.value_optimizer);
    value_->passes = value_passes_;
  }
  const auto prompts =
      prompts_->evaluation(Split::kHeldOut, static_cast<uint64_t>(c.eval.seed), c.eval.prompts);
  model_->prepare(prompts_->all());
  evaluator_ = std::make_unique<Evaluator>(
      c.eval, prompts, *reward_, judge_.get(),
      load_evaluation_features(c.eval, {c.judge, c.reward_files.reward_model}, judge_.get()),
      load_panel(c.eval.panel, prompts_->emoji(), c.reward, c.reward_files.resources()),
      model_->state_shape());
  for (const char* folder : {"grids", "tensorboard", "checkpoints"})
    make_writable_folder(run_ / folder);
}

// The network emits beta nu, as in the released code: a step of its optimizer then moves the target
// velocity alike for every beta.
double Alignment::value_scale() const { return method_->beta() > 0 ? 1 / method_->beta() : 1.0; }

ImageProblem Alignment::make_problem(const std::vector<std::string>& prompts) const {
  const ImageProblemOptions options{config_.guidance,
                                    GuidanceIn::parse(config_.guidance_in),
                                    config_.detach_unconditional,
                                    config_.clamp,
                                    value_scale(),
                                    config_.merge};
  return {{*model_, *lora_, *reward_, value_.get()}, options, prompts};
}

// ---- one update
// ------------------------------------------------------------------------------------------------------

// 0 < value <= 1 over the first `count` updates.
double warm_up(int64_t index, int64_t count) {
  return count > 0 ? std::min(1.0, static_cast<double>(index + 1) / static_cast<double>(count))
                   : 1.0;
}

UpdateInput Alignment::input_of(int64_t index) const {
  UpdateInput input{.seed = seed_,
                    .update = static_cast<uint64_t>(index),
                    .first_sample = 0,
                    .x0 = {},
                    .times = times_,
                    .micro_batch = config_.micro_batch,
                    .beta_scale = warm_up(index, config_.beta_warmup)};
  input.x0 =
      keyed_normal(seed_, Purpose::kNoise, input.update, 0, config_.batch, model_->state_shape());
  return input;
}

UpdateReport Alignment::update(int64_t index) {
  UpdateReport report;
  Stopwatch watch;
  const UpdateInput input = input_of(index);
  const std::vector<std::string> prompts =
      captions_of(prompts_->draw(seed_, input.update, 0, config_.batch));
  report.audit = audit_batch(prompts, row_hashes(input.x0));
  ImageProblem problem = make_problem(prompts);
  if (config_.merge) lora_->merge();
  policy_buffer_->zero_grad();
  if (value_buffer_) value_buffer_->zero_grad();
  *policy_passes_ = *value_passes_ = {};
  report.method = method_->update(problem, input);
  report.policy = *policy_passes_;
  report.value = *value_passes_;
  report.beta_scale = input.beta_scale;
  const CostShape shape =
      problem.cost_shape(config_.batch, static_cast<int64_t>(times_.size()) - 1);
  expected_ = method_->cost(shape, report.method);
  cost_formula_ = method_->cost_formula(shape);
  Stopwatch step;
  optimizer_step(index, report);
  report.method.seconds["step"] = step.lap();
  report.seconds = watch.lap();
  return report;
}

void Alignment::optimizer_step(int64_t index, UpdateReport& report) {
  const double warm = warm_up(index, config_.warmup);
  report.lr = config_.policy_optimizer.lr * warm;
  report.policy_norm = policy_buffer_->clip(config_.grad_clip);
  report.stepped = policy_adamw_->step(report.lr);
  ema_->update(*policy_buffer_);
  if (!value_) return;
  report.value_norm = value_buffer_->clip(config_.grad_clip);
  value_adamw_->step(config_.value_optimizer.lr * warm);
}

// ---- evaluation
// ------------------------------------------------------------------------------------------------------

Tensor Alignment::generate(const std::vector<std::string>& captions, const Tensor& noise) const {
  ImageProblem problem = make_problem(captions);
  return model_->decode(
      sample([&](const Tensor& x, const Tensor& t) { return problem.rollout_velocity(x, t); },
             noise, eval_times_));
}

// The averaged adapters are evaluated, and what the grids show: they are what lora_ema.safetensors
// holds.
void Alignment::evaluate(int64_t index) {
  Stopwatch watch;
  const auto generator = [&](const std::vector<std::string>& captions, const Tensor& noise) {
    return generate(captions, noise);
  };
  const ValuesScope averaged(*policy_buffer_, ema_->values);
  if (config_.merge) lora_->merge();
  last_ = index == 0 ? evaluator_->evaluate_base(generator) : evaluator_->evaluate(generator);
  if (index == 0) base_ = last_;
  write_grid(index);
  const double seconds = watch.seconds();
  eval_seconds_ += seconds;
  metrics_->write({{"kind", "eval"},
                   {"update", index},
                   {"prompts", config_.eval.prompts},
                   {"prompt_kind", prompts_->evaluation_kind(Split::kHeldOut)},
                   {"images_per_prompt", config_.eval.images},
                   {"metrics", last_.to_json()},
                   {"seconds", seconds}});
  for (const auto& [name, value] : {std::pair{"reward", last_.reward.mean},
                                    {"diversity", last_.diversity.mean},
                                    {"fd", last_.fd},
                                    {"kid", last_.kid.mean}}) {
    events_->scalar(fmt::format("eval/{}", name), value, index);
  }
  if (last_.judged) events_->scalar("eval/judge_accuracy", last_.judge_accuracy.mean, index);
  const double gain =
      (last_.reward.mean - base_.reward.mean) / std::max(1e-12, base_.reward_sd_within_prompt);
  const std::string judge =
      last_.judged
          ? fmt::format("judge {:.1f} % ({:+.1f}{}) | ", 100 * last_.judge_accuracy.mean,
                        100 * last_.judge_change.mean, error_text(last_.judge_change.se, 1, 100))
          : "";
  log_info(
      "eval {} | reward {:.3f}{} ({:+.2f} sd) | {}diversity {:.3f} ({:.0f} %) | FD {:.2f} (floor "
      "{:.2f}) | KID {:.4f} | {:.0f} s",
      index, last_.reward.mean, error_text(last_.reward.se, 3), gain, judge, last_.diversity.mean,
      100 * last_.diversity.mean / std::max(1e-12, base_.diversity.mean), last_.fd, last_.fd_floor,
      last_.kid.mean, seconds);
  if (index > 0) weigh(index);
}

void Alignment::write_grid(int64_t index) {
  const std::vector<std::string> prompts = prompts_->display();
  const auto draw = [this](const std::vector<std::string>& captions, const Tensor& noise) {
    return generate(captions, noise);
  };
  const Tensor shown = drawn_thumbnails(draw, prompts, config_.eval.batch, model_->state_shape());
  const Image grid = image_grid(shown, std::min<int64_t>(8, std::ssize(prompts)), 2);
  write_png(run_ / "grids" / fmt::format("eval_{:06}.png", index), grid,
            {{"prompts", fmt::format("{}", fmt::join(prompts, "; "))},
             {"guidance", fmt::to_string(config_.guidance)}});
  events_->image("grid", grid, index);
}

// The reward-hacking monitor: warns of what speaks against this evaluation, and keeps the best one
// that nothing speaks against, with its whole state. Called with the average in force.
void Alignment::weigh(int64_t index) {
  const auto all = complaints(base_, last_, config_.eval.diversity_floor);
  for (const auto& [name, text] : all) {
    metrics_->write({{"kind", "warning"}, {"update", index}, {"name", name}, {"text", text}});
    log_info("warning: {}", text);
  }
  if (!all.empty() || (best_ && last_.reward.mean <= best_->reward)) return;
  best_ = {index, last_.reward.mean, last_.to_json()};
  Metadata metadata = lora_metadata();
  metadata["vggflow.best_update"] = fmt::to_string(index);
  save_lora(run_ / "lora_best.safetensors", lora_->lora(), lora_options_, metadata);
}

// ---- logs and state
// --------------------------------------------------------------------------------------------------

Json json_of(const PassCounter& policy, const PassCounter& value) {
  return {{"forward", policy.forward},      {"tangent", policy.tangent},
          {"backward", policy.backward},    {"value_forward", value.forward},
          {"value_tangent", value.tangent}, {"value_backward", value.backward}};
}

void Alignment::write_update(int64_t index, const UpdateReport& r) {
  const MethodReport& m = r.method;
  const double mean = m.rewards.mean().item<double>(),
               sd = config_.batch > 1 ? m.rewards.std().item<double>() : 0.0;
  const double rate = static_cast<double>(config_.batch) / r.seconds;
  metrics_->write({{"kind", "update"},
                   {"update", index},
                   {"loss", m.loss},
                   {"reward", {{"mean", mean}, {"sd", sd}}},
                   {"values", m.values},
                   {"unique",
                    {{"pairs", r.audit.unique_pairs},
                     {"prompts", r.audit.unique_prompts},
                     {"noise", r.audit.unique_noise}}},
                   {"series", m.series},
                   {"grad_norm", {{"policy", r.policy_norm}, {"value", r.value_norm}}},
                   {"lr", r.lr},
                   {"beta_scale", r.beta_scale},
                   {"dropped", m.dropped},
                   {"stepped", r.stepped},
                   {"passes", json_of(r.policy, r.value)},
                   {"seconds", m.seconds},
                   {"images_per_second", rate},
                   {"rss_gib", memory_now_gib()}});
  std::string losses;
  for (const auto& [name, value] : m.loss) {
    events_->scalar("loss/" + name, value, index);
    losses += fmt::format(" | {} {:.2e}", name, value);
  }
  for (const auto& [name, value] : m.values) events_->scalar("values/" + name, value, index);
  for (const auto& [name, value] : {std::pair{"reward/rollout", mean},
                                    {"grad/policy", r.policy_norm},
                                    {"grad/value", r.value_norm}}) {
    events_->scalar(name, value, index);
  }
  const double gain = (mean - base_.reward.mean) / std::max(1e-12, base_.reward_sd_within_prompt);
  log_info(
      "step {}/{} | reward {:.3f} ({:+.1f} sd){} | grad {:.3f} | lr {:.1e} | {:.0f} ms | {:.1f} "
      "img/s | {:.1f} GiB{}",
      index, config_.updates, mean, gain, losses, r.policy_norm, r.lr, 1e3 * r.seconds, rate,
      memory_now_gib(),
      m.dropped > 0 || !r.stepped
          ? fmt::format(" | dropped {}{}", m.dropped,
                        r.stepped ? "" : ", step skipped: gradient not finite")
          : "");
}

Metadata Alignment::lora_metadata() const {
  return {{"vggflow.method", config_.method},
          {"vggflow.reward", config_.reward},
          {"vggflow.seed", fmt::to_string(config_.seed)},
          {"vggflow.updates", fmt::to_string(config_.updates)},
          {"vggflow.base_model", fs::path(config_.flow.model).filename()},
          {"vggflow.config", to_yaml(fields_of(config_))}};
}

void Alignment::write_lora() const {
  save_lora(run_ / "lora.safetensors", lora_->lora(), lora_options_, lora_metadata());
  const ValuesScope averaged(*policy_buffer_, ema_->values);
  save_lora(run_ / "lora_ema.safetensors", lora_->lora(), lora_options_, lora_metadata());
}

Checkpoint Alignment::state(int64_t index) const {
  TensorList tensors{{"policy", policy_buffer_->values()},
                     {"policy_ema", ema_->values},
                     {"policy_m", policy_adamw_->m},
                     {"policy_v", policy_adamw_->v}};
  Metadata metadata{{"policy_steps", fmt::to_string(policy_adamw_->steps)},
                    {"ema_updates", fmt::to_string(ema_->updates)},
                    {"base", base_.to_json().dump()}};
  if (value_) {
    tensors.insert(tensors.end(), {{"value", value_buffer_->values()},
                                   {"value_m", value_adamw_->m},
                                   {"value_v", value_adamw_->v}});
    metadata["value_steps"] = fmt::to_string(value_adamw_->steps);
  }
  if (best_)
    metadata["best"] =
        Json{{"update", best_->update}, {"reward", best_->reward}, {"metrics", best_->metrics}}
            .dump();
  return {index, tensors, metadata};
}

// Loads the last checkpoint and drops what was logged after it. Returns the number of updates done.
int64_t Alignment::restore() {
  const auto checkpoint = load_checkpoint(run_);
  if (!checkpoint) {
    truncate_after(run_ / "metrics.jsonl", -1);
    return 0;
  }
  const auto fill = [&](const char* name, Tensor& target) {
    target.copy_(checkpoint_tensor(*checkpoint, name, target));
  };
  fill("policy", policy_buffer_->values());
  fill("policy_ema", ema_->values);
  fill("policy_m", policy_adamw_->m);
  fill("policy_v", policy_adamw_->v);
  policy_adamw_->steps = std::stoll(checkpoint->metadata.at("policy_steps"));
  ema_->updates = std::stoll(checkpoint->metadata.at("ema_updates"));
  if (value_) {
    fill("value", value_buffer_->values());
    fill("value_m", value_adamw_->m);
    fill("value_v", value_adamw_->v);
    value_adamw_->steps = std::stoll(checkpoint->metadata.at("value_steps"));
  }
  if (const auto best = checkpoint->metadata.find("best"); best != checkpoint->metadata.end()) {
    const Json json = Json::parse(best->second);
    best_ = {json.at("update").get<int64_t>(), json.at("reward").get<double>(), json.at("metrics")};
  }
  truncate_after(run_ / "metrics.jsonl", checkpoint->update);
  return checkpoint->update;
}

PassCounter as_counter(const Passes& p) { return {p.f, p.j, p.b}; }
PassCounter as_value_counter(const Passes& p) { return {p.value_f, p.value_j, p.value_b}; }

void Alignment::write_summary() const {
  Json environment_json = Json::object();
  for (const auto& [key, value] : environment()) environment_json[key] = value;
  Json seconds = total_;
  seconds["evaluation"] = eval_seconds_;
  Json summary{{"method", config_.method},
               {"reward", config_.reward},
               {"seed", config_.seed},
               {"updates", config_.updates},
               {"base", base_.to_json()},
               {"final", last_.to_json()},
               {"reward_gain_sd", (last_.reward.mean - base_.reward.mean) /
                                      std::max(1e-12, base_.reward_sd_within_prompt)},
               {"diversity_kept", last_.diversity.mean / std::max(1e-12, base_.diversity.mean)},
               {"seconds", seconds},
               {"passes", json_of(last_passes_.first, last_passes_.second)},
               {"expected_passes", json_of(as_counter(expected_), as_value_counter(expected_))},
               {"cost_formula", cost_formula_},
               {"peak_gib", memory_peak_gib()},
               {"environment", environment_json}};
  if (best_) summary["best"] = {{"update", best_->update}, {"metrics", best_->metrics}};
  write_text(run_ / "summary.json", summary.dump(2) + "\n");
}

bool Alignment::run() {
  const int64_t start = config_.resume ? restore() : 0;
  metrics_ = std::make_unique<JsonLines>(run_ / "metrics.jsonl");
  events_ = std::make_unique<EventWriter>(run_ / "tensorboard");
  log_info(
      "{} on {} | reward {} | {} adapted layers of rank {} ({} parameters) | value network {} | "
      "seed {}",
      config_.method, model_->description(), config_.reward, lora_->paths().size(),
      config_.lora_rank, policy_buffer_->values().numel(),
      resolved_value_options(config_, *method_).kind, config_.seed);
  log_info("times {:.3f}", fmt::join(times_, " "));
  if (start > 0) {
    // The base model's images are made again: they come from the same keys.
    base_ = last_ = evaluator_->evaluate_base(
        [&](const std::vector<std::string>& captions, const Tensor& noise) {
          ImageProblem problem = make_problem(captions);
          return model_->decode(
              sample([&](const Tensor& x,
                         const Tensor& t) { return problem.base({x, t, at::arange(x.size(0))}); },
                     noise, eval_times_));
        });
  }
  if (start == 0) evaluate(0);
  Progress progress("align", config_.updates, start);
  for (int64_t i = start; i < config_.updates; ++i) {
    const UpdateReport report = update(i);
    for (const auto& [phase, seconds] : report.method.seconds) total_[phase] += seconds;
    last_passes_ = {report.policy, report.value};
    const int64_t done = i + 1;
    write_update(done, report);
    progress.advance(done,
                     fmt::format("reward {:.3f}", report.method.rewards.mean().item<double>()));
    const bool last = done == config_.updates;
    if (done % config_.eval_every == 0 || last) evaluate(done);
    if (best_ && best_->update == done) save_best_checkpoint(run_, state(done));
    if (done % config_.checkpoint_every == 0 || last || interrupted())
      save_checkpoint(run_, state(done));
    if (interrupted() && !last) {
      log_info(
          "interrupted after update {}; the state is saved. Go on with: vggflow align --config {} "
          "resume=true",
          done, (run_ / "config.yaml").string());
      return false;
    }
  }
  write_lora();
  if (value_)
    save_value_network(run_ / "value.safetensors", *value_,
                       resolved_value_options(config_, *method_), config_.lora_targets,
                       value_scale());
  write_summary();
  return true;
}

}  // namespace

bool align(AlignConfig& config) {
  check_run(config);
  return Alignment(config).run();
}

}  // namespace vggflow
