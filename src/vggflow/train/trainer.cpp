#include "vggflow/train/trainer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/DeviceType.h>
#include <torch/version.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <system_error>
#include <utility>
#include <variant>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/hash.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/json.h"
#include "vggflow/core/secret.h"
#include "vggflow/data/prompt_sets.h"
#include "vggflow/device/device.h"
#include "vggflow/device/range.h"
#include "vggflow/families/lora.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/io/files.h"
#include "vggflow/io/finite.h"
#include "vggflow/io/grid_file.h"
#include "vggflow/io/image.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/train/checks.h"
#include "vggflow/train/next_commands.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

TimeGridOptions training_grid(const AlignConfig& c, const FlowModel& model) {
  return resolved_grid(c.time_grid, model.schedule().shift, model.schedule().shifts_twice);
}

// Adjoint Matching may train on 40 steps and be judged, as the others are, on 20.
TimeGridOptions evaluation_grid(const AlignConfig& c, const FlowModel& model) {
  TimeGridOptions grid = training_grid(c, model);
  if (c.eval_steps > 0) grid.steps = c.eval_steps;
  return grid;
}

std::unique_ptr<AdaptedFlow> adapters_of(const FlowNetwork& base, const LoraOptions& options,
                                         uint64_t seed, const std::vector<LoraLayer>& start) {
  return start.empty() ? std::make_unique<AdaptedFlow>(base, options, seed)
                       : std::make_unique<AdaptedFlow>(base, start);
}

// 0 < value <= 1 over the first `count` updates.
double warm_up(int64_t index, int64_t count) {
  return count > 0 ? std::min(1.0, static_cast<double>(index + 1) / static_cast<double>(count))
                   : 1.0;
}

PassCounter as_counter(const Passes& p) { return {p.f, p.j, p.b}; }
PassCounter as_value_counter(const Passes& p) { return {p.value_f, p.value_j, p.value_b}; }

// A figure of an evaluation's JSON; not a number where it has none.
double figure(const Json& evaluation, const char* path) {
  const Json value = evaluation.value(Json::json_pointer(path), Json());
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

// What a method's cost depends on of an update, from its line in metrics.jsonl.
MethodReport report_of(const Json& line) {
  MethodReport report;
  for (const auto& [name, value] : line.at("values").items()) {
    if (value.is_number()) report.values[name] = value.get<double>();
  }
  return report;
}

std::string hash_of(const std::vector<std::string>& texts) {
  if (texts.empty()) return "";
  uint64_t hash = kHashStart;
  for (const std::string& text : texts) hash = fnv1a(std::string_view("\0", 1), fnv1a(text, hash));
  return fmt::format("{:016x}", hash);
}

// What a checkpoint says of the run's `what` is as now; older checkpoints do not say it.
void check_same(const Checkpoint& saved, const char* key, const std::string& now, const char* what,
                const std::string& place) {
  const auto before = saved.metadata.find(key);
  VGGFLOW_CHECK(before == saved.metadata.end() || before->second == now,
                "[resume] expected the {} that the run was started with, with the hash {}, got {} "
                "in {}: put the files back, or start a new run",
                what, before->second, now, place);
}

// What computes, whatever the setting said: `auto` may mean either.
std::string device_kind() { return c10::DeviceTypeName(current_device().type(), true); }

}  // namespace

Trainer::Trainer(const AlignConfig& c, std::shared_ptr<const FamilyModel> files,
                 const std::vector<LoraLayer>& start, bool new_evaluations, const Group& group,
                 RunControl* control)
    : config_(c),
      group_(group),
      control_(control),
      shares_(group, c.shares, c.batch),
      run_(c.run),
      seed_(static_cast<uint64_t>(c.seed)),
      new_evaluations_(new_evaluations),
      resolved_(c),
      prompts_(make_prompt_source(c.prompts, c.data)),
      model_(files->open(group)),
      base_hash_(files->network_hash()),
      prompts_hash_(hash_of(prompts_->all())),
      reward_(make_reward(c.reward, c.reward_files.resources())),
      judge_(judge_of(*prompts_, c.judge, c.reward_files.resources())),
      lora_options_{c.lora_rank, c.lora_alpha, c.lora_targets},
      lora_(adapters_of(*model_, lora_options_, seed_, start)),
      value_(make_value_network(resolved_.value, *model_, c.lora_targets, seed_)),
      policy_passes_(std::make_shared<PassCounter>()),
      value_passes_(std::make_shared<PassCounter>()),
      state_(lora_->parameters(), c.policy_optimizer, c.ema_decay,
             value_ ? value_->trainable() : std::vector<NamedTensor>{}, c.value_optimizer,
             resolved_.method->lag()),
      times_(time_grid(training_grid(c, *model_))),
      eval_times_(time_grid(evaluation_grid(c, *model_))),
      monitor_(c.eval.diversity_floor),
      steering_(c.beta),
      pace_(c.updates, c.eval_every) {
  if (resolved_.method->needs_reward_gradient()) require_differentiable(*reward_, c.reward);
  model_->count_passes(policy_passes_);
  lora_->count_passes(policy_passes_);
  if (value_) value_->passes = value_passes_;
  const auto prompts =
      prompts_->evaluation(Split::kHeldOut, static_cast<uint64_t>(c.eval.seed), c.eval.prompts);
  model_->prepare(prompts_->all());
  evaluator_ = std::make_unique<Evaluator>(
      c.eval, prompts, *reward_, judge_.get(),
      load_evaluation_features(c.eval, {c.judge, c.reward_files.reward_model}, judge_.get()),
      load_panel(c.eval.panel, prompts_->emoji(), c.reward, c.reward_files.resources()),
      model_->state_shape(), group);
}

// ==== one update: draw, pose, roll out and score and find gradients, clip, step
// ====================

UpdateReport Trainer::step(int64_t index) {
  const DeviceRange range("update");
  Stopwatch watch;
  UpdateReport report;
  UpdateInput input = draw_noise(index);
  const std::vector<std::string> prompts = draw_prompts(input.update);
  report.audit = audit_batch(prompts, row_hashes(input.x0));
  input.x0 = input.x0.to(current_device());
  find_gradients(prompts, input, report);
  if (const auto energy = report.method.values.find("policy_energy");
      energy != report.method.values.end())
    steering_.weigh(energy->second);
  Stopwatch optimizers;
  clip_and_step(index, report);
  report.method.seconds["step"] = optimizers.lap();
  report.seconds = watch.lap();
  return report;
}

// One for each group of samples, which follow one another.
std::vector<std::string> Trainer::draw_prompts(uint64_t update) const {
  const int64_t group = resolved_.method->group();
  std::vector<std::string> prompts;
  for (const std::string& prompt :
       captions_of(prompts_->draw(seed_, update, 0, config_.batch / group)))
    prompts.insert(prompts.end(), static_cast<size_t>(group), prompt);
  return prompts;
}

UpdateInput Trainer::draw_noise(int64_t index) const {
  UpdateInput input{.seed = seed_,
                    .update = static_cast<uint64_t>(index),
                    .first_sample = 0,
                    .x0 = {},
                    .times = times_,
                    .micro_batch = config_.micro_batch,
                    .beta_scale = warm_up(index, config_.beta_warmup) * steering_.scale(),
                    .losses_of_g = losses_of_g_,
                    .reward_spread = reward_spread_};
  input.x0 =
      keyed_normal(seed_, Purpose::kNoise, input.update, 0, config_.batch, model_->state_shape());
  return input;
}

ImageProblem Trainer::pose(const std::vector<std::string>& prompts) const {
  return {{*model_, *lora_, *reward_, value_.get(), resolved_.value_scale()},
          resolved_.problem,
          prompts};
}

// Rollouts run on the merged weights: those of the average where the method has one.
void Trainer::merge_for_rollouts() {
  if (!config_.problem.merge) return;
  const DeviceRange range("merge");
  std::optional<ValuesScope> averaged;
  if (state_.lagged) averaged.emplace(state_.policy.buffer, state_.lagged->values);
  lora_->merge();
}

// The method rolls out, scores the end points and leaves the gradients of its losses in the
// buffers, share by share.
void Trainer::find_gradients(const std::vector<std::string>& prompts, const UpdateInput& input,
                             UpdateReport& report) {
  merge_for_rollouts();
  state_.zero_grad();
  *policy_passes_ = *value_passes_ = {};
  const double waited = group_.seconds();
  std::vector<MethodReport> reports(shares_.own());
  shares_.run(state_, [&](size_t i, const Meet& meet) {
    const int64_t start = shares_.start(i), rows = shares_.rows();
    UpdateInput share = input;
    share.first_sample = static_cast<uint64_t>(start);
    share.x0 = input.x0.narrow(0, start, rows);
    if (meet) share.whole = WholeBatch(meet);
    share.step_value = [&] {
      shares_.step_value(state_, meet, [&] { step_value(static_cast<int64_t>(input.update)); });
    };
    ImageProblem problem = pose({prompts.begin() + start, prompts.begin() + start + rows});
    reports[i] = resolved_.method->update(problem, share);
  });
  report.method = whole_report(std::move(reports));
  if (group_.size() > 1) report.method.seconds["ranks"] = group_.seconds() - waited;
  count_passes(report);
  report.beta_scale = input.beta_scale;
}

// Shares report of the whole batch, but for their times.
MethodReport Trainer::whole_report(std::vector<MethodReport> reports) const {
  MethodReport whole = std::move(reports.front());
  for (size_t i = 1; i < reports.size(); ++i) {
    for (const auto& [phase, seconds] : reports[i].seconds) whole.seconds[phase] += seconds;
  }
  whole.rewards = whole.rewards.cpu();  // read several times below
  return whole;
}

void Trainer::count_passes(UpdateReport& report) const {
  report.policy = *policy_passes_;
  report.value = *value_passes_;
  if (group_.size() == 1) return;
  std::vector<double> counts;
  for (const PassCounter* c : {&report.policy, &report.value})
    counts.insert(counts.end(), {c->forward, c->tangent, c->backward});
  const Tensor sum = group_.ordered_sum(at::tensor(counts, at::kDouble).unsqueeze(0));
  const double* next = sum.const_data_ptr<double>();
  for (PassCounter* c : {&report.policy, &report.value}) {
    for (double* count : {&c->forward, &c->tangent, &c->backward}) *count = *next++;
  }
}

void Trainer::clip_and_step(int64_t index, UpdateReport& report) {
  const DeviceRange range("step");
  report.lr = config_.policy_optimizer.lr * warm_up(index, config_.warmup);
  if (report.method.trains_policy) {
    report.policy_norm = state_.policy.buffer.clip(config_.grad_clip);
    report.stepped = state_.policy.adamw.step(report.lr, report.policy_norm);
    state_.ema.update(state_.policy.buffer);
    if (state_.lagged) state_.lagged->update(state_.policy.buffer);
  }
  if (state_.value && report.method.trains_value) report.value_norm = step_value(index);
}

// Returns the gradient's norm.
double Trainer::step_value(int64_t index) {
  const double norm = state_.value->buffer.clip(config_.grad_clip);
  state_.value->adamw.step(config_.value_optimizer.lr * warm_up(index, config_.warmup), norm);
  return norm;
}

// ==== the run: begin, advance by updates, finish
// ====================================================

RunEnd Trainer::run() {
  const SecondInterruptThrows scope("stopping now: the update under way is dropped");
  try {
    begin();
    Progress progress("align", config_.updates, done_);
    while (done_ < config_.updates) {
      const bool goes_on = advance();
      progress.advance(done_, fmt::format("reward {:.3f}", mean_reward_),
                       pace_.seconds_left(done_));
      if (warned_off_) break;
      if (!goes_on) return interrupted_end();
    }
  } catch (const Interrupted&) {
    if (done_ > 0) keep();
    return interrupted_end();
  } catch (const Error& e) {
    // A file that may not grow further (SIGXFSZ) stops the run, and fails the write that met it.
    if (!interrupted() || done_ == 0 || group_.size() > 1) throw;
    log_line(e.what());
    keep();
    return interrupted_end();
  }
  finish();
  return RunEnd::kFinished;
}

// Rank 0's: the others need not see its folder.
std::optional<Checkpoint> Trainer::load_last() const {
  if (!config_.resume) return std::nullopt;
  std::optional<Checkpoint> saved;
  group_.lead([&] { saved = load_checkpoint(run_); });
  return broadcast(group_, saved);
}

void Trainer::begin() {
  const std::optional<Checkpoint> saved = load_last();
  if (saved) resume_from(*saved);
  group_.lead([&] { log_.emplace(config_, saved ? done_ : -1, saved ? evaluated_ : -1); });
  log_info(
      "{} on {} | reward {} | {} adapted layers of rank {} ({} parameters) | value network {} | "
      "seed {}",
      config_.method, model_->description(), config_.reward, lora_->paths().size(),
      config_.lora_rank, state_.policy.buffer.values().numel(), word_of(resolved_.value.kind),
      config_.seed);
  log_info("times {:.3f}", fmt::join(times_, " "));
  if (saved) log_info("going on after update {}", done_);
  if (config_.resume && !saved) log_info("no checkpoint yet: starting again at update 0");
  const bool missed = group_.any(log_ && done_ > 0 && evaluation_due() &&
                                 log_->record().evaluation.value("update", int64_t{0}) < done_);
  if (done_ < config_.updates || missed) measure_base();
  if (!missed) return;
  evaluate();
  keep();
}

// Of what changes numbers by rounding: refused, or said.
void Trainer::hear_rounding(const Checkpoint& saved, const std::string& key,
                            const std::string& now) const {
  const auto before = saved.metadata.find(key);
  if (before == saved.metadata.end() || before->second == now) return;
  VGGFLOW_CHECK(!refuses_rounding(config_, group_.size()),
                "[resume] expected {}={}, as before, so that the run's numbers are those of a run "
                "of one piece to the last bit, got {}; pass {}={} or rounding=allow",
                key, before->second, now, key, before->second);
  log_info("the run used {}={} before and uses {} now: numbers may differ by rounding", key,
           before->second, now);
}

void Trainer::resume_from(const Checkpoint& saved) {
  check_same(saved, "base_model", base_hash_, "base model", config_.flow.model);
  check_same(saved, "prompts", prompts_hash_, "prompts",
             fmt::format("{} {}", config_.prompts.train, config_.prompts.eval));
  hear_rounding(saved, "threads", fmt::to_string(at::get_num_threads()));
  hear_rounding(saved, "device", device_kind());
  state_.load(saved);
  losses_of_g_ = !saved.metadata.contains("value_losses");
  if (saved.metadata.contains("reward_spread")) {
    reward_spread_ =
        parse_json(checkpoint_text(saved, "reward_spread"), "the checkpoint's reward spread")
            .get<double>();
  } else if (resolved_.method->asks_spread()) {
    log_info("lambda stays in units of the reward, as the run was begun");
  }
  base_json_ = parse_json(checkpoint_text(saved, "base"), "the checkpoint's base evaluation");
  if (!new_evaluations_) monitor_.load(saved);
  steering_.load(saved);
  done_ = saved.update;
  evaluated_ = saved.metadata.contains("evaluated") ? checkpoint_number(saved, "evaluated") : done_;
  // The summary of a run that had fewer updates is not this run's.
  std::error_code ignored;
  if (done_ < config_.updates && group_.leads()) fs::remove(run_ / "summary.json", ignored);
}

// One update with all that follows it; whether the run goes on.
bool Trainer::advance() {
  const UpdateReport report = step(done_);
  ++done_;
  pace_.update(report.seconds);
  mean_reward_ = report.method.rewards.mean().item<double>();
  if (log_) {
    log_->update(done_, report);
  } else if (!report.stepped) {
    log_info("update {}: step skipped on all ranks: gradient not finite", done_);
  }
  const RunWishes wishes = grant_wishes();
  stops_ = group_.any(interrupted() || wishes.stop);
  // An evaluation that is left out here is made up for when the run goes on.
  if (evaluation_due() && !stops_) {
    evaluate();
    stops_ = group_.any(interrupted()) || warned_off_;
  }
  if (done_ % config_.checkpoint_every == 0 || done_ == config_.updates || stops_ || wishes.save)
    keep();
  return !stops_;
}

// Rank 0's; what is left to do of them is to save and to stop.
RunWishes Trainer::grant_wishes() {
  if (!control_ || !log_) return {};
  control_->updated(log_->record().update, log_->record().evaluation);
  const RunWishes wishes = control_->take();
  if (wishes.stop) log_line("asked to stop after this update");
  for (const SampleWish& wish : wishes.samples) draw(wish);
  return wishes;
}

void Trainer::draw(const SampleWish& wish) {
  const at::NoGradGuard no_grad;
  const auto image = [&](bool base) {
    const Tensor noise = keyed_normal(static_cast<uint64_t>(wish.seed), Purpose::kEvalNoise, 0, 0,
                                      1, model_->state_shape());
    return to_image(((generator(base)({wish.prompt}, noise)[0] + 1) / 2).cpu());
  };
  try {
    const Image before = image(/*base=*/true);
    const ValuesScope averaged(state_.policy.buffer, state_.ema.values);
    if (config_.problem.merge) lora_->merge();
    control_->drawn(wish, done_, before, image(/*base=*/false));
  } catch (const Error& e) {
    control_->failed(wish, e.what());
  }
}

void Trainer::keep() {
  if (!log_) return;
  log_->sync();
  save_checkpoint(run_, checkpoint());
  if (control_) control_->saved(done_);
}

RunEnd Trainer::interrupted_end() {
  if (done_ == 0) {
    log_line("interrupted before the first update was done: there is nothing to go on from");
  } else {
    log_info("interrupted after update {}; the state is saved. Go on with: {}", done_,
             resume_command(config_, run_));
  }
  return RunEnd::kInterrupted;
}

void Trainer::finish() {
  if (!log_) return;
  save_lora(run_ / "lora.safetensors", lora_->lora(), lora_options_, lora_metadata());
  {
    const ValuesScope averaged(state_.policy.buffer, state_.ema.values);
    save_lora(run_ / "lora_ema.safetensors", lora_->lora(), lora_options_, lora_metadata());
  }
  if (value_)
    save_value_network(run_ / "value.safetensors", *value_, resolved_.value, config_.lora_targets,
                       resolved_.value_scale());
  write_text(run_ / "summary.json", json_text(summary(), 2) + "\n");
}

// ==== evaluations
// ===================================================================================

bool Trainer::evaluation_due() const {
  return done_ % config_.eval_every == 0 || done_ == config_.updates;
}

// Images of the policy as it stands, or of the base, sampled by the same rule.
ImageGenerator Trainer::generator(bool base) const {
  return [this, base](const std::vector<std::string>& captions, const Tensor& noise) {
    // An evaluation that ends here is made up for when the run goes on. Several processes draw
    // unequal numbers of batches, and leave together after it.
    if (group_.size() == 1 && interrupted()) throw Interrupted();
    ImageProblem problem = pose(captions);
    const Tensor images = model_->decode(sample(
        [&](const Tensor& x, const Tensor& t) {
          return base ? problem.base_rollout_velocity(x, t) : problem.rollout_velocity(x, t);
        },
        noise.to(current_device()), eval_times_));
    require_finite_image(images);
    return images;
  };
}

std::vector<std::string> Trainer::shown_prompts() const {
  std::vector<std::string> prompts = prompts_->display();
  if (std::ssize(prompts) > config_.grid_images)
    prompts.resize(static_cast<size_t>(config_.grid_images));
  return prompts;
}

// Of the images of so many sets, and those of the grid.
Progress Trainer::evaluation_bar(int64_t sets) const {
  return {done_ == 0 ? "evaluation of the base" : fmt::format("evaluation {}", done_),
          sets * evaluator_->set_size() + std::ssize(shown_prompts())};
}

// The prompts, most of which the first batch does not show; the rest keeps runs with other settings
// from writing over each other's file.
BaseCache Trainer::base_cache() const {
  Json prompts = Json::array();
  for (const Prompt& p : evaluator_->prompts()) prompts.push_back({p.caption, p.subgroup});
  const Json identity{{"model", base_hash_},
                      {"prompts", prompts},
                      {"images", config_.eval.images},
                      {"seed", config_.eval.seed},
                      {"guidance", config_.problem.guidance},
                      {"times", eval_times_},
                      {"reward", config_.reward}};
  return {config_.base_cache, json_text(identity)};
}

Evaluation Trainer::evaluated_base(const ImageGenerator& draw, const Stopwatch& watch,
                                   Progress& bar) {
  const auto measured = [&] {
    Evaluation base = evaluator_->evaluate_base(draw, &bar);
    pace_.base(watch.seconds());
    return base;
  };
  if (config_.base_cache.empty()) return measured();
  const BaseCache cache = base_cache();
  if (auto figures = cache.read()) {
    if (auto base = evaluator_->recall_base(std::move(*figures), draw, &bar)) {
      log_info("the base's figures are those of {}, whose first images came out the same",
               cache.file().string());
      return *base;
    }
    log_info("the base is measured anew: its first images are not those of {}",
             cache.file().string());
  }
  Evaluation base = measured();
  cache.write(evaluator_->base_figures());
  return base;
}

// The base's images come from the same keys in every process of the run; the first one keeps its
// figures.
void Trainer::measure_base() {
  const Stopwatch watch;
  const ImageGenerator draw = generator(/*base=*/true);
  Progress bar = evaluation_bar(/*sets=*/2);
  base_ = evaluated_base(draw, watch, bar);
  if (done_ == 0) {
    base_json_ = base_.to_json();
    reward_spread_ = base_.reward_sd_within_prompt;
    VGGFLOW_CHECK(!resolved_.method->asks_spread() || reward_spread_ > 0,
                  "[align] expected rewards of the base's images that differ within a prompt, got "
                  "a standard deviation of {} with reward={}: lambda is in its units. Pass "
                  "{}.lambda_unit=reward, and lambda in the reward's",
                  reward_spread_, config_.reward, method_section(config_.method));
    log_evaluation(base_, draw, watch, bar);
    if (const std::string text = lopsided_diversity(base_); !text.empty())
      log_info("warning: {}", text);
  } else if (new_evaluations_) {
    base_json_ = base_.to_json();
    log_line(
        "evaluations have other settings now: the base is measured anew, and the best evaluation "
        "so far no longer counts");
  } else {
    check_same_base(base_json_, base_);
  }
}

// The averaged adapters are evaluated, and what the grids show: they are what lora_ema.safetensors
// holds.
void Trainer::evaluate() {
  {
    const DeviceRange range("evaluation");
    const Stopwatch watch;
    const ImageGenerator draw = generator(/*base=*/false);
    const ValuesScope averaged(state_.policy.buffer, state_.ema.values);
    if (config_.problem.merge) lora_->merge();
    Progress bar = evaluation_bar(/*sets=*/1);
    const Evaluation now = evaluator_->evaluate(draw, &bar);
    log_evaluation(now, draw, watch, bar);
    pace_.evaluation(watch.seconds());
    weigh(now);
  }
  if (!log_ || !monitor_.is_best(done_)) return;
  log_->sync();
  save_best_checkpoint(run_, checkpoint());
}

void Trainer::log_evaluation(const Evaluation& now, const ImageGenerator& draw,
                             const Stopwatch& watch, Progress& bar) {
  evaluated_ = done_;
  const std::vector<std::string> prompts = shown_prompts();
  const Tensor shown =
      drawn_thumbnails(draw, prompts, config_.eval.batch, model_->state_shape(), group_, &bar);
  if (!log_) return;
  log_->grid(done_, grid_of(shown), prompts);
  log_->evaluation(done_, now, base_, prompts_->evaluation_kind(Split::kHeldOut), watch.seconds());
}

// Warns of what speaks against this evaluation, and keeps the best one's adapters. Called with the
// average in force.
void Trainer::weigh(const Evaluation& now) {
  const auto warnings = monitor_.weigh(done_, base_, now);
  for (const auto& [name, text] : warnings)
    if (log_) log_->warning(done_, name, text);
  if (group_.any(log_ && !warnings.empty())) answer_warning();
  if (!log_ || !monitor_.is_best(done_)) return;
  Metadata metadata = lora_metadata();
  metadata["vggflow.best_update"] = fmt::to_string(done_);
  save_lora(run_ / "lora_best.safetensors", lora_->lora(), lora_options_, metadata);
}

void Trainer::answer_warning() {
  switch (config_.monitor.action) {
    case MonitorAction::kStop:
      warned_off_ = true;
      log_info("the run ends after update {} of {}: monitor.action=stop", done_, config_.updates);
      break;
    case MonitorAction::kLowerBeta:
      steering_.lower(config_.monitor.factor);
      log_info("beta is at most {:.3g} of its setting from here on: monitor.action=lower_beta",
               steering_.scale());
      break;
    case MonitorAction::kWarn:
      break;
  }
}

// ==== what stays
// ====================================================================================

Checkpoint Trainer::checkpoint() const {
  Checkpoint c{.update = done_,
               .tensors = {},
               .metadata = {{"base", json_text(base_json_)},
                            {"base_model", base_hash_},
                            {"prompts", prompts_hash_},
                            {"threads", fmt::to_string(at::get_num_threads())},
                            {"device", device_kind()},
                            {"evaluated", fmt::to_string(evaluated_)}}};
  if (!losses_of_g_) c.metadata["value_losses"] = "of beta g";
  if (resolved_.method->asks_spread())
    c.metadata["reward_spread"] = json_text(Json(reward_spread_));
  state_.save(c);
  monitor_.save(c);
  steering_.save(c);
  return c;
}

// A LoRA is given on: it says how it was made, without the folders of this machine.
Metadata Trainer::lora_metadata() const {
  AlignConfig config = config_;
  for (const Field& field : fields_of(config)) {
    if (auto* text = std::get_if<std::string*>(&field.target)) **text = without_folders(**text);
    if (auto* list = std::get_if<std::vector<std::string>*>(&field.target))
      std::transform((*list)->begin(), (*list)->end(), (*list)->begin(), without_folders);
  }
  return {{"vggflow.method", config.method},
          {"vggflow.reward", config.reward},
          {"vggflow.seed", fmt::to_string(config.seed)},
          {"vggflow.updates", fmt::to_string(config.updates)},
          {"vggflow.base_model", fs::path(config.flow.model).filename()},
          {"vggflow.config", to_yaml(fields_of(config))}};
}

Json Trainer::summary() const {
  const RunRecord& record = log_->record();
  const Json final = record.evaluation.at("metrics");
  const CostShape shape =
      cost_shape_of(resolved_.problem, value_ != nullptr, model_->computes_narrow(), config_.batch,
                    std::ssize(times_) - 1);
  VGGFLOW_CHECK(!record.update.empty(),
                "[align] {} holds no update: the run's log was changed, and its summary cannot be "
                "written. lora.safetensors is whole",
                (run_ / "metrics.jsonl").string());
  const Passes expected = resolved_.method->cost(shape, report_of(record.update));
  Json machine = Json::object(), seconds = record.seconds;
  for (const auto& [key, value] : environment()) machine[key] = value;
  machine["LibTorch"] = TORCH_VERSION;
  machine["threads"] = at::get_num_threads();
  machine["device"] = device_description();
  seconds["evaluation"] = record.evaluation_seconds;
  const double base_reward = figure(base_json_, "/reward/mean"),
               sd = figure(base_json_, "/reward_sd_within_prompt"),
               diversity = figure(base_json_, "/diversity/mean"),
               // The last evaluation may be an earlier program's, which has the means alone.
      kept = final.contains("diversity_kept")
                 ? figure(final, "/diversity_kept")
                 : figure(final, "/diversity/mean") / std::max(1e-12, diversity);
  Json out{{"method", config_.method},
           {"reward", config_.reward},
           {"seed", config_.seed},
           {"updates", config_.updates},
           {"base", base_json_},
           {"final", final},
           {"reward_gain_sd", (figure(final, "/reward/mean") - base_reward) / std::max(1e-12, sd)},
           {"diversity_kept", kept},
           {"seconds", seconds},
           {"passes", record.update.at("passes")},
           {"expected_passes", json_of(as_counter(expected), as_value_counter(expected))},
           {"cost_formula", resolved_.method->cost_formula(shape)},
           {"peak_gib", memory_peak_gib()},
           {"date", date_text()},
           {"environment", machine}};
  const auto& best = monitor_.best();
  if (warned_off_) out["stopped_after"] = done_;
  if (best) out["best"] = {{"update", best->update}, {"metrics", best->metrics}};
  const std::vector<std::string> drawn =
      prompts_->emoji() ? std::vector<std::string>{} : std::vector{prompts_->display().front()};
  const char* lora = best ? "lora_best.safetensors" : "lora_ema.safetensors";
  for (const auto& [what, command] : next_commands(config_, run_ / lora, drawn))
    out["next"].push_back({{"what", what}, {"command", command}});
  return out;
}

}  // namespace vggflow
