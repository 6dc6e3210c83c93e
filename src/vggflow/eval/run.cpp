#include "vggflow/eval/run.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <ATen/Parallel.h>

#include <fstream>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/ops/random_tensor.h"

namespace vggflow {

Generator::Generator(const GeneratorOptions& options)
    : options_(options), model_(NanoModel::load(options.model, precision_dtype(options.precision))), times_(time_grid(options.time_grid)) {
  if (options.guide.kind != "none") guide_ = std::make_unique<ValueGuide>(options.guide, model_->transformer);
  if (options.lora.empty()) return;
  lora_ = std::make_unique<LoraSet>(model_->transformer, read_lora(options.lora).layers);
  set_strength(1.0);
}

void Generator::set_strength(double strength) {
  VGGFLOW_CHECK(lora_, "[generator] expected a LoRA to set the strength of; pass generator.lora=...");
  lora_->set_strength(strength * options_.lora_scale);
  lora_->merge();
}

Tensor Generator::generate(const std::vector<std::string>& captions, const Tensor& noise, bool aligned) const {
  torch::autograd::AutoGradMode off(false);
  if (lora_) lora_->set_mode(aligned ? AdapterMode::kMerged : AdapterMode::kOff);
  const Conditioning conditioning = model_->encode(captions);
  const GuidedVelocity velocity(model_->transformer, conditioning, model_->unconditional(noise.size(0)), options_.guidance);
  return sample(
      [&](const Tensor& x, const Tensor& t) {
        const Tensor v = velocity(x, t);
        return aligned && guide_ ? v + guide_->push(x, t, v, captions, conditioning) : v;
      },
      noise, times_);
}

namespace {

std::vector<std::string> prompts_of(const SampleConfig& c) {
  std::vector<std::string> prompts = c.prompts;
  if (!c.prompts_file.empty()) {
    std::ifstream in(c.prompts_file);
    VGGFLOW_CHECK(in, "[sample] cannot read {}", c.prompts_file);
    for (std::string line; std::getline(in, line);) prompts.push_back(line);
  }
  return prompts.empty() ? display_prompts() : prompts;
}

void set_threads(int64_t threads) {
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
}

std::string describe(const char* name, const Evaluation& e) {
  return fmt::format("{:<8} reward {:.3f} +- {:.3f} (sd within a prompt {:.3f}) | judge {:.1f} +- {:.1f} % | score {:.3f} | diversity {:.4f} +- {:.4f} | "
                     "FD {:.2f} (floor {:.2f}) | KID {:.4f} +- {:.4f} (floor {:.4f}) | saturated {:.1f} %",
                     name, e.reward.mean, e.reward.se, e.reward_sd_within_prompt, 100 * e.judge_accuracy.mean, 100 * e.judge_accuracy.se,
                     e.judge_score.mean, e.diversity.mean, e.diversity.se, e.fd, e.fd_floor, e.kid.mean, e.kid.se, e.kid_floor.mean, 100 * e.saturated);
}

std::vector<Prompt> eval_prompts(const EvalConfig& c) {
  const EmojiSampler sampler(load_emoji(c.data));
  const auto seed = static_cast<uint64_t>(c.eval.seed);
  if (c.split != "all") {
    return sampler.draw_prompts(c.split == "train" ? Split::kTrain : Split::kHeldOut, seed, Purpose::kEvalPrompt, 0, 0, c.eval.prompts);
  }
  return sampler.draw_all_prompts(seed, Purpose::kEvalPrompt, 0, c.eval.prompts);
}

}  // namespace

void sample_images(const SampleConfig& c) {
  set_threads(c.threads);
  const Generator generator(c.generator);
  const std::filesystem::path out = c.out;
  make_writable_folder(out);
  std::vector<std::string> captions;
  for (const std::string& prompt : prompts_of(c)) captions.insert(captions.end(), static_cast<size_t>(c.images), prompt);
  const auto total = static_cast<int64_t>(captions.size());
  const auto& network = generator.model().options.network;
  Progress progress("sample", total);
  std::vector<Tensor> all;
  for (int64_t start = 0; start < total; start += c.batch) {
    const int64_t count = std::min(c.batch, total - start);
    const Tensor noise = keyed_normal(static_cast<uint64_t>(c.seed), Purpose::kEvalNoise, 0, static_cast<uint64_t>(start), count,
                                      {network.channels, network.sample_size, network.sample_size});
    const Tensor x = (generator.generate({captions.begin() + start, captions.begin() + start + count}, noise, c.generator.aligned()) + 1) / 2;
    for (int64_t i = 0; i < count; ++i) {
      write_png(out / fmt::format("{:05}.png", start + i), image_grid(x.narrow(0, i, 1), 1, c.enlarge, 0),
                {{"prompt", captions[static_cast<size_t>(start + i)]}, {"seed", fmt::to_string(c.seed)}, {"sample", fmt::to_string(start + i)},
                 {"guidance", fmt::to_string(c.generator.guidance)}, {"steps", fmt::to_string(c.generator.time_grid.steps)}, {"lora", c.generator.lora}});
    }
    all.push_back(x);
    progress.advance(start + count);
  }
  write_png(out / "grid.png", image_grid(at::cat(all), std::min<int64_t>(8, total), 2));
  log_info("wrote {} images and grid.png to {}", total, out.string());
}

EvalSetup::EvalSetup(const EvalConfig& c, const NanoModel& model) : reward(make_reward(c.reward, c.reward_files.resources())), judge(Judge::load(c.judge)) {
  evaluator = std::make_unique<Evaluator>(c.eval, eval_prompts(c), *reward, *judge, load_panel(c.eval.panel, c.reward, c.reward_files.resources()),
                                          model.options.network.sample_size);
}

void run_eval(const EvalConfig& c) {
  set_threads(c.threads);
  const Generator generator(c.generator);
  const EvalSetup setup(c, generator.model());
  const auto with = [&](bool aligned) {
    return [&generator, aligned](const std::vector<std::string>& captions, const Tensor& noise) { return generator.generate(captions, noise, aligned); };
  };
  Json result{{"model", c.generator.model}, {"lora", c.generator.lora}, {"guide", c.generator.guide.kind}, {"reward", c.reward}, {"split", c.split},
              {"prompts", c.eval.prompts}, {"images_per_prompt", c.eval.images}, {"seed", c.eval.seed}};
  const Evaluation base = setup.evaluator->evaluate_base(with(false));
  log_info("{}", describe("base", base));
  result["base"] = base.to_json();
  if (c.generator.aligned()) {
    const Evaluation aligned = setup.evaluator->evaluate(with(true));
    log_info("{}", describe("aligned", aligned));
    log_info("the reward moved by {:+.2f} +- {:.2f} sd of the base within a prompt, the judge's accuracy by {:+.1f} +- {:.1f} points (paired by "
             "prompt); diversity kept: {:.0f} %",
             aligned.reward_change.mean / base.reward_sd_within_prompt, aligned.reward_change.se / base.reward_sd_within_prompt,
             100 * aligned.judge_change.mean, 100 * aligned.judge_change.se, 100 * aligned.diversity.mean / base.diversity.mean);
    for (const auto& [name, text] : complaints(base, aligned, c.eval.diversity_floor)) log_info("warning: {}", text);
    result["aligned"] = aligned.to_json();
  }
  if (!c.out.empty()) write_text(c.out, result.dump(2) + "\n");
}

}  // namespace vggflow
