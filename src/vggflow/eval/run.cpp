#include "vggflow/eval/run.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/core/progress.h"
#include "vggflow/core/result.h"
#include "vggflow/core/secret.h"
#include "vggflow/data/prompt_file.h"
#include "vggflow/device/device.h"
#include "vggflow/families/lora.h"
#include "vggflow/flow/guided_velocity.h"
#include "vggflow/io/files.h"
#include "vggflow/io/finite.h"
#include "vggflow/io/grid_file.h"
#include "vggflow/io/image.h"
#include "vggflow/io/model_files.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/rewards/expression.h"

namespace vggflow {

Generator::Generator(const GeneratorOptions& options, const Group& group)
    : options_(options),
      model_(open_flow_model(options.flow, group)),
      times_(time_grid(resolved_grid(options.time_grid, model_->schedule().shift,
                                     model_->schedule().shifts_twice))) {
  if (options.guide.kind != GuideKind::kNone)
    guide_ = std::make_unique<ValueGuide>(options.guide, *model_);
  if (options.lora.empty()) return;
  const LoraFile lora = read_lora(options.lora, options.lora_text_encoders);
  if (const auto told = lora.metadata.find("vggflow.reward"); told != lora.metadata.end())
    trained_reward_ = told->second;
  adapted_ = std::make_unique<AdaptedFlow>(*model_, lora.layers);
  set_strength(1.0);
}

void Generator::set_strength(double strength) {
  VGGFLOW_CHECK(adapted_,
                "[generator] expected a LoRA to set the strength of; pass generator.lora=...");
  adapted_->set_strength(strength * options_.lora_scale);
  adapted_->merge();
}

Tensor Generator::generate(const std::vector<std::string>& captions, const Tensor& noise,
                           bool aligned) const {
  at::NoGradGuard no_grad;
  const Tensor images = model_->decode(latents(captions, noise, aligned));
  require_finite_image(images);
  return images;
}

Tensor Generator::latents(const std::vector<std::string>& captions, const Tensor& noise,
                          bool aligned) const {
  at::NoGradGuard no_grad;
  const Conditioning conditioning = model_->encode(captions);
  const Tensor x0 = noise.to(current_device());
  const FlowNetwork& network = aligned && adapted_ ? adapted_->merged() : *model_;
  const GuidedVelocity velocity(network, conditioning, model_->unconditional(noise.size(0)),
                                options_.guidance);
  return sample(
      [&](const Tensor& x, const Tensor& t) {
        const Tensor v = velocity(x, t);
        return aligned && guide_ ? v + guide_->push(x, t, v, captions, conditioning) : v;
      },
      x0, times_);
}

namespace {

// A list of prompts is cut at its commas, those within a prompt too: say what was read.
void say_prompts(const std::vector<std::string>& prompts) {
  if (prompts.size() < 2) return;
  log_info(
      "prompts=[...] holds {} prompts: {}. One with a comma is quoted: 'prompts=[\"a cat, with "
      "hat\"]'",
      prompts.size(), fmt::join(prompts, " | "));
}

std::vector<std::string> prompts_of(const SampleConfig& c) {
  say_prompts(c.prompts);
  std::vector<std::string> prompts = c.prompts;
  if (!c.prompts_file.empty()) {
    const auto more = read_prompts(c.prompts_file);
    prompts.insert(prompts.end(), more.begin(), more.end());
  }
  return prompts;
}

std::string describe(const char* name, const std::string& reward, const Evaluation& e) {
  const std::string judge =
      e.judged ? fmt::format("judge {:.1f}{} % | score {:.3f} | ", 100 * e.judge_accuracy.mean,
                             error_text(e.judge_accuracy.se, 1, 100), e.judge_score.mean)
               : "";
  return fmt::format(
      "{:<8} {} {:.3f}{} (sd within a prompt {:.3f}) | {}diversity {:.4f}{} | "
      "FD {:.2f} (floor {:.2f}) | KID {:.4f}{} (floor {:.4f}) | saturated {:.1f} %{}",
      name, reward, e.reward.mean, error_text(e.reward.se, 3), e.reward_sd_within_prompt, judge,
      e.diversity.mean, error_text(e.diversity.se, 4), e.fd, e.fd_floor, e.kid.mean,
      error_text(e.kid.se, 4), e.kid_floor.mean, 100 * e.saturated,
      e.unscored > 0 ? fmt::format(" | {} images without a score", e.unscored) : "");
}

}  // namespace

void require_prompts(const ModelOptions& model, const PromptFiles& files) {
  if (!is_on_this_machine(model.model)) return;  // opening it says so
  VGGFLOW_CHECK(
      files.given() || has_own_prompts(model),
      "[prompts] expected prompts for {}, since the emoji's captions and judge are the nano "
      "model's alone: pass prompts.train=FILE to train on and prompts.eval=FILE "
      "to evaluate on (one prompt per line), or prompts.classes=[cat, dog] for a model of "
      "photographs",
      model.model);
}

void set_threads(int64_t threads) {
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
}

namespace {

// One image to be: its prompt, and the seed that alone decides on its noise.
struct Job {
  std::string prompt;
  int64_t seed;
};

// Settings of which one would be ignored without a word.
void check_seeds(const SampleConfig& c) {
  for (const int64_t seed : c.seeds)
    VGGFLOW_CHECK(seed >= 0, "[sample] expected seeds of at least 0, got {}", seed);
  if (c.seeds.empty()) return;
  VGGFLOW_CHECK(
      c.images == 1 || c.images == std::ssize(c.seeds),
      "[sample] seeds={} asks for {} images per prompt and images for {}: leave one of them out",
      fmt::join(c.seeds, ","), c.seeds.size(), c.images);
  VGGFLOW_CHECK(c.seed == 0 || c.seed == c.seeds.front(),
                "[sample] seeds={} begins with another seed than seed={}: leave one of them out",
                fmt::join(c.seeds, ","), c.seed);
}

std::vector<Job> jobs_of(const SampleConfig& c, const std::vector<std::string>& prompts) {
  std::vector<int64_t> seeds = c.seeds;
  if (c.seeds.empty()) {
    for (int64_t i = 0; i < c.images; ++i) seeds.push_back(c.seed + i);
  }
  std::vector<Job> jobs;
  for (const std::string& prompt : prompts) {
    for (const int64_t seed : seeds) jobs.push_back({prompt, seed});
  }
  return jobs;
}

std::vector<std::string> captions_of(const std::vector<Job>& jobs) {
  std::vector<std::string> captions;
  for (const Job& job : jobs) captions.push_back(job.prompt);
  return captions;
}

// What made the image: in one line as other programs write it ("parameters"), and key by key.
TextChunks chunks_of(const SampleConfig& c, const Generator& generator, const Job& job,
                     const Image& image) {
  const auto& g = c.generator;
  const std::string negative = negative_prompt(g.flow);
  TextChunks text{{"prompt", job.prompt},
                  {"seed", fmt::to_string(job.seed)},
                  {"guidance", fmt::to_string(g.guidance)},
                  {"steps", fmt::to_string(generator.times().size() - 1)},
                  {"times", fmt::format("{}", fmt::join(generator.times(), " "))},
                  {"model", without_folders(g.flow.model)},
                  {"lora", without_folders(g.lora)},
                  {"lora_scale", fmt::to_string(g.lora_scale)},
                  {"negative_prompt", negative}};
  text["parameters"] = fmt::format(
      "{}{}\nSteps: {}, Sampler: Euler, CFG scale: {:g}, Seed: {}, Size: {}x{}, Model: {}",
      job.prompt, negative.empty() ? "" : "\nNegative prompt: " + negative,
      generator.times().size() - 1, g.guidance, job.seed, image.width, image.height,
      std::filesystem::path(g.flow.model).filename().string());
  if (!g.lora.empty())
    text["parameters"] += fmt::format(
        ", Lora: {} ({:g})", std::filesystem::path(g.lora).filename().string(), g.lora_scale);
  return text;
}

}  // namespace

namespace {

// A batch of images (n, 3, H, W) in [0, 1].
Tensor draw(const SampleConfig& c, const Generator& generator, const std::vector<Job>& batch) {
  std::vector<Tensor> noise;
  for (const Job& job : batch) {
    noise.push_back(keyed_normal(static_cast<uint64_t>(job.seed), Purpose::kEvalNoise, 0, 0, 1,
                                 generator.model().state_shape()));
  }
  return ((generator.generate(captions_of(batch), at::cat(noise), c.generator.aligned()) + 1) / 2)
      .cpu();
}

// Writes images as they come, the n-th as file n, and keeps what the grid shows of them.
class ImageWriter {
 public:
  ImageWriter(const SampleConfig& c, const Generator& generator, const std::vector<Job>& jobs)
      : c_(c), generator_(generator), jobs_(jobs), out_(c.out) {}
  void add(const Tensor& x) {
    for (int64_t i = 0; i < x.size(0); ++i, ++written_) {
      const Image image = image_grid(x.narrow(0, i, 1), 1, c_.enlarge, 0);
      write_png(out_ / fmt::format("{:05}.png", written_), image,
                chunks_of(c_, generator_, jobs_[written_], image));
    }
    shown_.push_back(thumbnails(x));
  }
  void finish() const {
    write_grid(out_ / "grid.png", grid_of(at::cat(shown_)), captions_of(jobs_));
    print_result(
        fmt::format("wrote {} and grid.png to {}", count_of(written_, "image"), out_.string()));
  }

 private:
  const SampleConfig& c_;
  const Generator& generator_;
  const std::vector<Job>& jobs_;
  std::filesystem::path out_;
  std::vector<Tensor> shown_;
  size_t written_ = 0;
};

}  // namespace

void sample_images(const SampleConfig& c, const Group& group) {
  set_threads(c.threads);
  check_seeds(c);
  std::vector<std::string> prompts = prompts_of(c);
  const Generator generator(c.generator, group);
  if (prompts.empty()) {
    VGGFLOW_CHECK(
        has_own_prompts(c.generator.flow),
        "[sample] expected prompts: pass --prompts FILE, or \"prompts=[a red heart, a ghost]\"");
    prompts = display_prompts();
  }
  group.lead([&] { make_writable_folder(c.out); });
  const std::vector<Job> jobs = jobs_of(c, prompts);
  const auto total = std::ssize(jobs);
  generator.model().prepare(prompts);
  log_info("{}", generator.model().description());
  Progress progress("sample", total);
  ImageWriter writer(c, generator, jobs);
  const int64_t at_once = images_at_once(c.batch, generator.model().state_shape());
  // A batch for each process, and the next ones once these are written.
  for (int64_t round = 0; round < total; round += group.size() * at_once) {
    const int64_t next = std::min(total, round + group.size() * at_once);
    Tensor own = at::empty({0});
    group.deal((next - round + at_once - 1) / at_once, [&](int64_t batch, bool counts) {
      const int64_t start = round + batch * at_once, end = std::min(next, start + at_once);
      const Tensor x = draw(c, generator, {jobs.begin() + start, jobs.begin() + end});
      if (counts) own = x;
    });
    for (const Tensor& x : group.gather(own)) {
      if (group.leads() && x.size(0) > 0) writer.add(x);
    }
    progress.advance(next);
  }
  group.lead([&] { writer.finish(); });
}

namespace {

// The reward of an evaluation; the log says which one it is where nobody named it.
std::string reward_of(const EvalConfig& c, const Generator& generator) {
  if (c.reward != "auto") return c.reward;
  const std::string& trained = generator.trained_reward();
  if (trained.empty()) {
    log_line("reward: emoji-clip (no LoRA says what it was trained on; reward=... names another)");
    return "emoji-clip";
  }
  // A LoRA may come from elsewhere: what runs code or sends images is named by the user alone.
  for (const WeightedName& term : parse_expression(trained)) {
    VGGFLOW_CHECK(!has_scheme(term.name),
                  "[eval] {} says that it was trained on {}, which its file alone does not open: "
                  "pass reward=..., the one that you trust",
                  c.generator.lora, term.name);
  }
  log_info("reward: {}, which {} was trained on", trained, c.generator.lora);
  return trained;
}

}  // namespace

EvalSetup::EvalSetup(const EvalConfig& c, const Generator& generator, const Group& group)
    : reward_name(reward_of(c, generator)),
      source(make_prompt_source(c.prompts, c.data)),
      reward(make_reward(reward_name, c.reward_files.resources())) {
  const FlowModel& model = generator.model();
  judge = judge_of(*source, c.judge, c.reward_files.resources());
  const auto prompts =
      source->evaluation(c.split, static_cast<uint64_t>(c.eval.seed), c.eval.prompts);
  model.prepare(captions_of(prompts));
  evaluator = std::make_unique<Evaluator>(
      c.eval, prompts, *reward, judge.get(),
      load_evaluation_features(c.eval, {c.judge, c.reward_files.reward_model}, judge.get()),
      load_panel(c.eval.panel, source->emoji(), reward_name, c.reward_files.resources()),
      model.state_shape(), group);
}

void run_eval(const EvalConfig& c, const Group& group) {
  set_threads(c.threads);
  require_prompts(c.generator.flow, c.prompts);
  const Generator generator(c.generator, group);
  const EvalSetup setup(c, generator, group);
  const auto with = [&](bool aligned) {
    return [&generator, aligned](const std::vector<std::string>& captions, const Tensor& noise) {
      return generator.generate(captions, noise, aligned);
    };
  };
  Json result{{"model", c.generator.flow.model},
              {"lora", c.generator.lora},
              {"guide", word_of(c.generator.guide.kind)},
              {"reward", setup.reward_name},
              {"split", word_of(c.split)},
              {"prompts", c.eval.prompts},
              {"prompt_kind", setup.source->evaluation_kind(c.split)},
              {"images_per_prompt", c.eval.images},
              {"seed", c.eval.seed}};
  if (c.eval.prompts == 1)
    log_info(
        "eval.prompts=1: means over one prompt have no error, so that no fall is told from chance");
  const int64_t sets = c.generator.aligned() ? 3 : 2;  // two of the base
  Progress bar("eval", sets * setup.evaluator->set_size());
  const Evaluation base = setup.evaluator->evaluate_base(with(false), &bar);
  if (const std::string text = lopsided_diversity(base); !text.empty())
    log_info("warning: {}", text);
  print_result(describe("base", setup.reward_name, base));
  result["base"] = base.to_json();
  if (c.generator.aligned()) {
    const Evaluation aligned = setup.evaluator->evaluate(with(true), &bar);
    print_result(describe("aligned", setup.reward_name, aligned));
    const double sd = base.reward_sd_within_prompt;
    const std::string judge = aligned.judged
                                  ? fmt::format(", the judge's accuracy by {:+.1f}{} points",
                                                100 * aligned.judge_change.mean,
                                                error_text(aligned.judge_change.se, 1, 100))
                                  : "";
    const std::string in_sd =
        sd > 0 ? fmt::format(", which is {:+.2f}{} sd of the base within a prompt",
                             aligned.reward_change.mean / sd,
                             error_text(aligned.reward_change.se, 2, 1 / sd))
               : " (the base's images of a prompt have all one score)";
    print_result(fmt::format(
        "{} moved by {:+.3f}{}{}{} (paired by prompt); diversity kept: {:.0f} %", setup.reward_name,
        aligned.reward_change.mean, error_text(aligned.reward_change.se, 3), in_sd, judge,
        100 * aligned.diversity_kept()));
    for (const auto& [name, text] : complaints(base, aligned, c.eval.diversity_floor))
      log_info("warning: {}", text);
    result["aligned"] = aligned.to_json();
  }
  if (!c.out.empty()) group.lead([&] { write_text(c.out, json_text(result, 2) + "\n"); });
}

}  // namespace vggflow
