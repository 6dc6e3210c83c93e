#include "vggflow/train/align.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <cmath>

#include "vggflow/core/config.h"
#include "vggflow/core/log.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/io/tensorboard.h"
#include "vggflow/models/lora_file.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/train/checkpoint.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

using torch::autograd::AutoGradMode;

// Seconds of each phase of one update.
struct Phases {
  double rollout = 0, reward = 0, value = 0, policy = 0, step = 0;
  double total() const { return rollout + reward + value + policy + step; }
};

// What one update found.
struct UpdateReport {
  double matching = 0, consistency = 0, boundary = 0, reward_mean = 0, reward_sd = 0, control_energy = 0;
  double threshold = 0, clipped_share = 0, policy_norm = 0, value_norm = 0, lr = 0;
  int64_t dropped = 0;
  bool stepped = true;
  Phases seconds;
};

class Alignment {
 public:
  explicit Alignment(AlignConfig& config);
  bool run();

 private:
  struct Rollout {
    Trajectory trajectory;
    States states;      ///< the drawn transitions
    Tensor velocity;    ///< v_theta there, from the trajectory itself
  };
  UpdateReport update(int64_t index);
  Rollout roll_out(ImageProblem& problem, int64_t index) const;
  double policy_pass(ImageProblem& problem, const States& states, const Tensor& g);
  void value_pass(ImageProblem& problem, const Rollout& rollout, const States& states, const ValueGuess& guess, const Tensor& keep,
                  UpdateReport& report);
  void optimizer_step(int64_t index, UpdateReport& report);
  ImageProblem make_problem(const std::vector<std::string>& prompts) const;
  Tensor generate(const std::vector<std::string>& captions, const Tensor& noise) const;

  void evaluate(int64_t index);
  void write_grid(int64_t index);
  void write_update(int64_t index, const UpdateReport& report);
  void write_warnings(int64_t index, const Evaluation& now);
  void write_lora() const;
  void save(int64_t index) const;
  int64_t restore();
  void write_summary() const;

  AlignConfig& config_;
  fs::path run_;
  uint64_t seed_;
  EmojiSet set_;
  EmojiSampler sampler_;
  std::unique_ptr<NanoModel> model_;
  std::unique_ptr<Reward> reward_;
  std::unique_ptr<Judge> judge_;
  LoraOptions lora_options_;
  std::unique_ptr<LoraSet> lora_;
  std::unique_ptr<ValueNetwork> value_;
  std::unique_ptr<ParameterBuffer> policy_buffer_, value_buffer_;
  std::unique_ptr<AdamW> policy_adamw_, value_adamw_;
  std::unique_ptr<Ema> ema_;
  std::unique_ptr<Evaluator> evaluator_;
  std::vector<double> times_;
  std::unique_ptr<JsonLines> metrics_;
  std::unique_ptr<EventWriter> events_;
  Evaluation base_, last_;
  Phases total_;
  double eval_seconds_ = 0;
};

Alignment::Alignment(AlignConfig& c)
    : config_(c), run_(c.run), seed_(static_cast<uint64_t>(c.seed)), set_(load_emoji(c.data)), sampler_(set_),
      model_(NanoModel::load(c.model, precision_dtype(c.precision))), reward_(make_reward(c.reward, {c.reward_model})),
      judge_(Judge::load(c.judge)), lora_options_{c.lora_rank, c.lora_alpha, c.lora_targets},
      lora_(std::make_unique<LoraSet>(model_->transformer, lora_options_, seed_)),
      value_(make_value_network(c.value, model_->options.network, seed_)), times_(time_grid(c.time_grid)) {
  policy_buffer_ = std::make_unique<ParameterBuffer>(lora_->parameters());
  policy_adamw_ = std::make_unique<AdamW>(*policy_buffer_, c.policy_optimizer);
  ema_ = std::make_unique<Ema>(*policy_buffer_, c.ema_decay);
  if (value_) {
    value_buffer_ = std::make_unique<ParameterBuffer>(value_->parameters());
    value_adamw_ = std::make_unique<AdamW>(*value_buffer_, c.value_optimizer);
  }
  const auto prompts = sampler_.draw_prompts(Split::kHeldOut, static_cast<uint64_t>(c.eval.seed), Purpose::kEvalPrompt, 0, 0, c.eval.prompts);
  evaluator_ = std::make_unique<Evaluator>(c.eval, prompts, *reward_, *judge_, model_->options.network.sample_size);
  for (const char* folder : {"grids", "tensorboard", "checkpoints"}) make_writable_folder(run_ / folder);
}

ImageProblem Alignment::make_problem(const std::vector<std::string>& prompts) const {
  // The network emits beta nu, as in the released code: a step of its optimizer then moves the target velocity alike for every beta.
  const double value_scale = config_.vgg.beta > 0 ? 1 / config_.vgg.beta : 1.0;
  return {{*model_, *lora_, *reward_, value_.get()}, {config_.guidance, config_.detach_unconditional, config_.clamp, value_scale}, prompts};
}

// ---- one update ------------------------------------------------------------------------------------------------------

// Trajectories of this update's prompts and noise with merged adapters, and the transitions drawn from them. v_theta at a
// transition is read off the Euler step, (x_{k+1} - x_k) / (t_{k+1} - t_k): one optimizer step an update, so it is current.
Alignment::Rollout Alignment::roll_out(ImageProblem& problem, int64_t index) const {
  const auto u = static_cast<uint64_t>(index);
  const int64_t side = model_->options.network.sample_size;
  lora_->merge();
  const Tensor x0 = keyed_normal(seed_, Purpose::kNoise, u, 0, config_.batch, {model_->options.network.channels, side, side});
  Rollout out{integrate([&](const Tensor& x, const Tensor& t) { return problem.rollout_velocity(x, t); }, x0, times_), {}, {}};
  std::vector<Tensor> x, v;
  std::vector<float> t;
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < config_.batch; ++i) {
    for (const int64_t k : draw_transitions(config_.vgg, static_cast<int64_t>(times_.size()) - 1,
                                            RandomStream({seed_, Purpose::kTime, u, static_cast<uint64_t>(i)}))) {
      const auto at = static_cast<size_t>(k);
      const Tensor here = out.trajectory.states[at][i], next = out.trajectory.states[at + 1][i];
      x.push_back(here);
      v.push_back((next - here) / (times_[at + 1] - times_[at]));
      t.push_back(static_cast<float>(times_[at]));
      rows.push_back(i);
    }
  }
  out.states = {at::stack(x), at::tensor(t), at::tensor(rows)};
  out.velocity = at::stack(v);
  return out;
}

States select(const States& s, const Tensor& index) {
  return {s.x.index_select(0, index), s.t.index_select(0, index), s.rows.index_select(0, index)};
}
States slice(const States& s, int64_t start, int64_t length) {
  return {s.x.narrow(0, start, length), s.t.narrow(0, start, length), s.rows.narrow(0, start, length)};
}

// Eq. 14: accumulates theta's gradient.
double Alignment::policy_pass(ImageProblem& problem, const States& states, const Tensor& g) {
  double sum = 0;
  for (int64_t start = 0; start < states.x.size(0); start += config_.micro_batch) {
    const int64_t length = std::min(config_.micro_batch, states.x.size(0) - start);
    const Tensor loss = matching_loss(problem, config_.vgg, slice(states, start, length), g.narrow(0, start, length),
                                      static_cast<double>(states.x.numel()));
    loss.backward();
    sum += loss.item<double>();
  }
  return sum;
}

// Eqs. 12 and 13: accumulates phi's gradient.
void Alignment::value_pass(ImageProblem& problem, const Rollout& rollout, const States& states, const ValueGuess& guess, const Tensor& keep,
                           UpdateReport& report) {
  const Tensor gradient = guess.reward_gradient.index_select(0, keep), factor = guess.clip_factor.index_select(0, keep);
  for (int64_t start = 0; config_.vgg.consistency == "exact" && start < states.x.size(0); start += config_.micro_batch) {
    const int64_t length = std::min(config_.micro_batch, states.x.size(0) - start);
    const Tensor residual = consistency_residual(problem, config_.vgg, slice(states, start, length), gradient.narrow(0, start, length),
                                                 factor.narrow(0, start, length));
    const Tensor loss = residual.square().sum() / static_cast<double>(states.x.numel());
    loss.backward();
    report.consistency += loss.item<double>();
  }
  const Tensor x1 = rollout.trajectory.final_state();
  const Tensor ok = at::isfinite(x1).flatten(1).all(1).nonzero().flatten();
  const Tensor boundary = boundary_residual(problem, x1.index_select(0, ok), ok).square().mean();
  (config_.vgg.alpha * boundary).backward();
  report.boundary = boundary.item<double>();
}

void Alignment::optimizer_step(int64_t index, UpdateReport& report) {
  const double warm = config_.warmup > 0 ? std::min(1.0, static_cast<double>(index + 1) / static_cast<double>(config_.warmup)) : 1.0;
  report.lr = config_.policy_optimizer.lr * warm;
  report.policy_norm = policy_buffer_->clip(config_.grad_clip);
  report.stepped = policy_adamw_->step(report.lr);
  ema_->update(*policy_buffer_);
  if (!value_) return;
  report.value_norm = value_buffer_->clip(config_.grad_clip);
  value_adamw_->step(config_.value_optimizer.lr * warm);
}

std::vector<std::string> captions_of(const std::vector<Prompt>& prompts) {
  std::vector<std::string> out;
  for (const Prompt& p : prompts) out.push_back(p.caption);
  return out;
}

UpdateReport Alignment::update(int64_t index) {
  UpdateReport report;
  Stopwatch watch;
  ImageProblem problem =
      make_problem(captions_of(sampler_.draw_prompts(Split::kTrain, seed_, Purpose::kPrompt, static_cast<uint64_t>(index), 0, config_.batch)));
  const Rollout rollout = roll_out(problem, index);
  report.seconds.rollout = watch.lap();

  const ValueGuess guess = guess_value_gradients(problem, config_.vgg, rollout.states, rollout.velocity, config_.micro_batch);
  const Tensor keep = guess.finite.nonzero().flatten();
  report.dropped = rollout.states.x.size(0) - keep.numel();
  VGGFLOW_CHECK(keep.numel() > 0, "[align] update {}: no sample has a finite reward and gradient; lower the learning rate or vgg.beta", index);
  const Tensor finals = problem.reward(rollout.trajectory.final_state(), at::arange(config_.batch));
  report.reward_mean = finals.mean().item<double>();
  report.reward_sd = finals.std().item<double>();
  report.threshold = guess.threshold;
  report.clipped_share = (guess.clip_factor < 1).to(at::kFloat).mean().item<double>();
  report.seconds.reward = watch.lap();

  policy_buffer_->zero_grad();
  if (value_buffer_) value_buffer_->zero_grad();
  const States states = select(rollout.states, keep);
  const Tensor g = value_gradient(problem, config_.vgg, states, guess.reward_gradient.index_select(0, keep));
  report.control_energy = (config_.vgg.beta * g).square().mean().item<double>();
  report.matching = policy_pass(problem, states, g);
  report.seconds.policy = watch.lap();
  if (value_) value_pass(problem, rollout, states, guess, keep, report);
  report.seconds.value = watch.lap();
  optimizer_step(index, report);
  report.seconds.step = watch.lap();
  return report;
}

// ---- evaluation ------------------------------------------------------------------------------------------------------

Tensor Alignment::generate(const std::vector<std::string>& captions, const Tensor& noise) const {
  ImageProblem problem = make_problem(captions);
  return sample([&](const Tensor& x, const Tensor& t) { return problem.rollout_velocity(x, t); }, noise, times_);
}

// The averaged adapters are evaluated, and what the grids show: they are what lora_ema.safetensors holds.
void Alignment::evaluate(int64_t index) {
  Stopwatch watch;
  const auto generator = [&](const std::vector<std::string>& captions, const Tensor& noise) { return generate(captions, noise); };
  const ValuesScope averaged(*policy_buffer_, ema_->values);
  lora_->merge();
  last_ = index == 0 ? evaluator_->evaluate_base(generator) : evaluator_->evaluate(generator);
  if (index == 0) base_ = last_;
  write_grid(index);
  const double seconds = watch.seconds();
  eval_seconds_ += seconds;
  metrics_->write({{"kind", "eval"}, {"update", index}, {"prompts", config_.eval.prompts}, {"images_per_prompt", config_.eval.images},
                   {"metrics", last_.to_json()}, {"seconds", seconds}});
  for (const auto& [name, value] : {std::pair{"reward", last_.reward.mean}, {"judge_accuracy", last_.judge_accuracy.mean},
                                    {"diversity", last_.diversity.mean}, {"fd", last_.fd}, {"kid", last_.kid.mean}}) {
    events_->scalar(fmt::format("eval/{}", name), value, index);
  }
  const double gain = (last_.reward.mean - base_.reward.mean) / std::max(1e-12, base_.reward_sd_within_prompt);
  log_info("eval {} | reward {:.3f} +- {:.3f} ({:+.2f} sd) | judge {:.1f} % ({:+.1f} +- {:.1f}) | diversity {:.3f} ({:.0f} %) | FD {:.2f} (floor {:.2f}) | "
           "KID {:.4f} | {:.0f} s",
           index, last_.reward.mean, last_.reward.se, gain, 100 * last_.judge_accuracy.mean, 100 * last_.judge_change.mean,
           100 * last_.judge_change.se, last_.diversity.mean,
           100 * last_.diversity.mean / std::max(1e-12, base_.diversity.mean), last_.fd, last_.fd_floor, last_.kid.mean, seconds);
  write_warnings(index, last_);
}

void Alignment::write_grid(int64_t index) {
  const auto& prompts = display_prompts();
  const int64_t side = model_->options.network.sample_size;
  const Tensor noise = keyed_normal(0, Purpose::kEvalNoise, 0, 0, static_cast<int64_t>(prompts.size()), {3, side, side});
  const Image grid = image_grid((generate(prompts, noise) + 1) / 2, 8, 2);
  write_png(run_ / "grids" / fmt::format("eval_{:06}.png", index), grid,
            {{"prompts", fmt::format("{}", fmt::join(prompts, "; "))}, {"guidance", fmt::to_string(config_.guidance)}});
  events_->image("grid", grid, index);
}

void Alignment::write_warnings(int64_t index, const Evaluation& now) {
  const auto warn = [&](const char* name, const std::string& text) {
    metrics_->write({{"kind", "warning"}, {"update", index}, {"name", name}, {"text", text}});
    log_info("warning: {}", text);
  };
  if (now.reward_change.mean > 0 && now.judge_change.mean < -2 * now.judge_change.se) {
    warn("reward_hacking", fmt::format("the reward rose by {:.3f} while the judge's accuracy fell by {:.1f} +- {:.1f} points (paired by prompt): "
                                       "reward hacking", now.reward_change.mean, -100 * now.judge_change.mean, 100 * now.judge_change.se));
  }
  if (now.diversity.mean < 0.8 * base_.diversity.mean) {
    warn("diversity", fmt::format("diversity is {:.0f} % of the base model's", 100 * now.diversity.mean / base_.diversity.mean));
  }
}

// ---- logs and state --------------------------------------------------------------------------------------------------

void Alignment::write_update(int64_t index, const UpdateReport& r) {
  metrics_->write({{"kind", "update"}, {"update", index},
                   {"loss", {{"matching", r.matching}, {"consistency", r.consistency}, {"boundary", r.boundary}}},
                   {"reward", {{"mean", r.reward_mean}, {"sd", r.reward_sd}}}, {"control_energy", r.control_energy},
                   {"grad_norm", {{"policy", r.policy_norm}, {"value", r.value_norm}}}, {"lr", r.lr},
                   {"clip", {{"threshold", r.threshold}, {"share", r.clipped_share}}}, {"dropped", r.dropped}, {"stepped", r.stepped},
                   {"seconds", {{"rollout", r.seconds.rollout}, {"reward", r.seconds.reward}, {"policy", r.seconds.policy},
                                {"value", r.seconds.value}, {"step", r.seconds.step}}},
                   {"images_per_second", static_cast<double>(config_.batch) / r.seconds.total()}, {"rss_gib", memory_now_gib()}});
  for (const auto& [name, value] : {std::pair{"loss/matching", r.matching}, {"loss/consistency", r.consistency}, {"loss/boundary", r.boundary},
                                    {"reward/rollout", r.reward_mean}, {"grad/policy", r.policy_norm}, {"grad/value", r.value_norm}}) {
    events_->scalar(name, value, index);
  }
  const double gain = (r.reward_mean - base_.reward.mean) / std::max(1e-12, base_.reward_sd_within_prompt);
  log_info("step {}/{} | reward {:.3f} ({:+.1f} sd) | matching {:.2e} | consistency {:.2e} | boundary {:.2e} | grad {:.3f} | lr {:.1e} | "
           "{:.0f} ms | {:.1f} img/s | {:.1f} GiB{}",
           index, config_.updates, r.reward_mean, gain, r.matching, r.consistency, r.boundary, r.policy_norm, r.lr, 1e3 * r.seconds.total(),
           static_cast<double>(config_.batch) / r.seconds.total(), memory_now_gib(),
           r.dropped > 0 || !r.stepped ? fmt::format(" | dropped {}{}", r.dropped, r.stepped ? "" : ", step skipped: gradient not finite") : "");
}

void Alignment::write_lora() const {
  const Metadata metadata{{"vggflow.method", config_.method}, {"vggflow.reward", config_.reward}, {"vggflow.seed", fmt::to_string(config_.seed)},
                          {"vggflow.updates", fmt::to_string(config_.updates)}, {"vggflow.base_model", fs::path(config_.model).filename()},
                          {"vggflow.config", to_yaml(fields_of(config_))}};
  save_lora(run_ / "lora.safetensors", *lora_, lora_options_, metadata);
  const ValuesScope averaged(*policy_buffer_, ema_->values);
  save_lora(run_ / "lora_ema.safetensors", *lora_, lora_options_, metadata);
}

void Alignment::save(int64_t index) const {
  TensorList tensors{{"policy", policy_buffer_->values()}, {"policy_ema", ema_->values}, {"policy_m", policy_adamw_->m}, {"policy_v", policy_adamw_->v}};
  Metadata metadata{{"policy_steps", fmt::to_string(policy_adamw_->steps)}, {"ema_updates", fmt::to_string(ema_->updates)},
                    {"base", base_.to_json().dump()}};
  if (value_) {
    tensors.insert(tensors.end(), {{"value", value_buffer_->values()}, {"value_m", value_adamw_->m}, {"value_v", value_adamw_->v}});
    metadata["value_steps"] = fmt::to_string(value_adamw_->steps);
  }
  save_checkpoint(run_, {index, tensors, metadata});
}

// Loads the last checkpoint and drops what was logged after it. Returns the number of updates done.
int64_t Alignment::restore() {
  const auto checkpoint = load_checkpoint(run_);
  if (!checkpoint) return 0;
  const auto fill = [&](const char* name, Tensor& target) { target.copy_(checkpoint_tensor(*checkpoint, name, target)); };
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
  truncate_after(run_ / "metrics.jsonl", checkpoint->update);
  return checkpoint->update;
}

void Alignment::write_summary() const {
  Json environment_json = Json::object();
  for (const auto& [key, value] : environment()) environment_json[key] = value;
  const Json summary{{"method", config_.method}, {"reward", config_.reward}, {"seed", config_.seed}, {"updates", config_.updates},
                     {"base", base_.to_json()}, {"final", last_.to_json()},
                     {"reward_gain_sd", (last_.reward.mean - base_.reward.mean) / std::max(1e-12, base_.reward_sd_within_prompt)},
                     {"diversity_kept", last_.diversity.mean / std::max(1e-12, base_.diversity.mean)},
                     {"seconds", {{"rollout", total_.rollout}, {"reward", total_.reward}, {"policy", total_.policy}, {"value", total_.value},
                                  {"step", total_.step}, {"evaluation", eval_seconds_}}},
                     {"peak_gib", memory_peak_gib()}, {"environment", environment_json}};
  write_text(run_ / "summary.json", summary.dump(2) + "\n");
}

bool Alignment::run() {
  const int64_t start = config_.resume ? restore() : 0;
  metrics_ = std::make_unique<JsonLines>(run_ / "metrics.jsonl");
  events_ = std::make_unique<EventWriter>(run_ / "tensorboard");
  log_info("{} on {} | reward {} | {} adapted layers of rank {} ({} parameters) | value network {} | seed {}", config_.method,
           model_->transformer.description(), config_.reward, lora_->paths().size(), config_.lora_rank, policy_buffer_->values().numel(),
           config_.value.kind, config_.seed);
  log_info("times {:.3f}", fmt::join(times_, " "));
  if (start > 0) {
    // The base model's images are made again: they come from the same keys.
    base_ = last_ = evaluator_->evaluate_base([&](const std::vector<std::string>& captions, const Tensor& noise) {
      ImageProblem problem = make_problem(captions);
      return sample([&](const Tensor& x, const Tensor& t) { return problem.base({x, t, at::arange(x.size(0))}); }, noise, times_);
    });
  }
  if (start == 0) evaluate(0);
  Progress progress("align", config_.updates, start);
  for (int64_t i = start; i < config_.updates; ++i) {
    const UpdateReport report = update(i);
    total_.rollout += report.seconds.rollout;
    total_.reward += report.seconds.reward;
    total_.policy += report.seconds.policy;
    total_.value += report.seconds.value;
    total_.step += report.seconds.step;
    const int64_t done = i + 1;
    write_update(done, report);
    progress.advance(done, fmt::format("reward {:.3f}", report.reward_mean));
    const bool last = done == config_.updates;
    if (done % config_.eval_every == 0 || last) evaluate(done);
    if (done % config_.checkpoint_every == 0 || last || interrupted()) save(done);
    if (interrupted() && !last) {
      log_info("interrupted after update {}; the state is saved. Go on with: vggflow align --config {} resume=true", done,
               (run_ / "config.yaml").string());
      return false;
    }
  }
  write_lora();
  write_summary();
  return true;
}

}  // namespace

bool align(AlignConfig& config) { return Alignment(config).run(); }

}  // namespace vggflow
