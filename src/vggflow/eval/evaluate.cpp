#include "vggflow/eval/evaluate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/families/open_model.h"
#include "vggflow/features/pixel_features.h"
#include "vggflow/io/image.h"
#include "vggflow/metrics/student.h"
#include "vggflow/ops/random_tensor.h"

namespace vggflow {
namespace {

Json json_of(const std::optional<double>& v) { return v ? Json(*v) : Json(nullptr); }
Json json_of(const Estimate& e) { return {{"mean", e.mean}, {"se", json_of(e.se)}}; }

// Means of groups of `size` consecutive values; values that are not numbers are left out, and a
// group of nothing else is none.
std::vector<double> group_means(const Tensor& values, int64_t size) {
  const Tensor m = values.to(at::kDouble).view({-1, size}).nanmean(1).contiguous();
  return {m.const_data_ptr<double>(), m.const_data_ptr<double>() + m.numel()};
}

Estimate estimate_known(std::vector<double> values) {
  std::erase_if(values, [](double v) { return std::isnan(v); });
  return values.empty() ? Estimate{NAN, std::nullopt} : estimate(values);
}

// Of `total` in parts of `size`.
std::vector<int64_t> part_lengths(int64_t total, int64_t size) {
  std::vector<int64_t> lengths;
  for (int64_t start = 0; start < total; start += size)
    lengths.push_back(std::min(size, total - start));
  return lengths;
}

// Images of the round that a part is dealt in: the processes draw a part each at the same time.
int64_t of_round(const std::vector<int64_t>& lengths, int64_t part, const Group& group) {
  const int64_t first = part / group.size() * group.size(),
                last = std::min(first + group.size(), std::ssize(lengths));
  return std::accumulate(lengths.begin() + first, lengths.begin() + last, int64_t{0});
}

// Least ratio that log_ratio tells from none.
constexpr double kLeastRatio = 1e-3;

// Mean of log(now / before); what has no ratio is left out.
Estimate log_ratio(const std::vector<double>& now, const std::vector<double>& before) {
  std::vector<double> logs;
  for (size_t i = 0; i < now.size(); ++i) {
    const double ratio = now[i] / before[i];
    if (std::isfinite(ratio) && before[i] > 1e-9)
      logs.push_back(std::log(std::max(kLeastRatio, ratio)));
  }
  return estimate_known(logs);
}

// Names of what is measured of a set; those of the panel follow kPanel.
constexpr const char *kReward = "reward", *kFeatures = "features", *kRight = "right",
                     *kConfidence = "confidence", *kSaturated = "saturated",
                     *kReference = "reference features", *kPanel = "panel ";

// Whether `all` holds `rows` rows of what `some` are rows of.
bool is_set_of(const Tensor& all, int64_t rows, const Tensor& some) {
  return all.scalar_type() == some.scalar_type() && all.dim() == some.dim() && all.dim() > 0 &&
         all.size(0) == rows && all.sizes().slice(1) == some.sizes().slice(1);
}

// Bit for bit, but for what is no number, which a reward may give.
bool same_numbers(const Tensor& a, const Tensor& b) {
  return at::allclose(a.to(at::kDouble), b.to(at::kDouble), 0, 0, /*equal_nan=*/true);
}

Estimate paired_change(std::vector<double> now, const std::vector<double>& before) {
  for (size_t i = 0; i < now.size(); ++i) now[i] -= before[i];
  return estimate_known(now);
}

}  // namespace

Json Evaluation::to_json() const {
  Json opinions = Json::object();
  for (const auto& [name, o] : panel) {
    opinions[name] = {
        {"mean", o.score.mean}, {"se", json_of(o.score.se)}, {"change", json_of(o.change)}};
    if (o.unscored > 0) opinions[name]["unscored"] = o.unscored;
  }
  Json json{{"reward", json_of(reward)},
            {"panel", opinions},
            {"reward_change", json_of(reward_change)},
            {"reward_sd_within_prompt", reward_sd_within_prompt},
            {"features", features},
            {"diversity", json_of(diversity)},
            {"diversity_change", json_of(diversity_change)},
            {"diversity_log_ratio", json_of(diversity_log)},
            {"diversity_kept", diversity_kept()},
            {"diversity_widest", {{"prompt", widest_prompt}, {"share", widest_share}}},
            {"fd", fd},
            {"fd_floor", fd_floor},
            {"kid", kid.mean},
            {"kid_se", json_of(kid.se)},
            {"kid_floor", kid_floor.mean},
            {"saturated", saturated}};
  if (unscored > 0) json["unscored"] = unscored;
  if (std::isfinite(diversity_log_right.mean))
    json["diversity_log_ratio_right"] = json_of(diversity_log_right);
  if (judged)
    json.update({{"judge_change", json_of(judge_change)},
                 {"judge_accuracy", json_of(judge_accuracy)},
                 {"judge_score", json_of(judge_score)}});
  return json;
}

JudgePanel load_panel(const std::vector<std::string>& given, bool emoji, const std::string& trained,
                      const RewardResources& resources) {
  const std::vector<std::string> names = given != std::vector<std::string>{"auto"} ? given
                                         : emoji ? std::vector<std::string>{"emoji-clip"}
                                                 : std::vector<std::string>{};
  const auto in_training = rewards_in(trained);
  JudgePanel panel;
  for (const std::string& name : names) {
    if (std::find(in_training.begin(), in_training.end(), name) == in_training.end())
      panel.emplace_back(name, make_reward(name, resources));
  }
  return panel;
}

std::shared_ptr<const FeatureNetwork> load_evaluation_features(const EvalOptions& options,
                                                               const OwnFeatures& own,
                                                               const ImageJudge* judge) {
  return options.features == "auto" || (options.features == "judge" && judge)
             ? nullptr
             : open_features(options.features, own);
}

void check_set_size(int64_t prompts, int64_t images) {
  VGGFLOW_CHECK(prompts * images >= 4,
                "[eval] expected eval.prompts times eval.images to be 4 at least, for distances "
                "between sets, got {} times {}",
                prompts, images);
}

Tensor drawn_thumbnails(const ImageGenerator& model, const std::vector<std::string>& prompts,
                        int64_t batch, const std::vector<int64_t>& noise_shape, const Group& group,
                        Progress* bar) {
  const int64_t at_once = images_at_once(batch, noise_shape), total = std::ssize(prompts);
  const std::vector<int64_t> lengths = part_lengths(total, at_once);
  std::vector<Tensor> shown;
  group.deal(std::ssize(lengths), [&](int64_t piece, bool counts) {
    const int64_t start = piece * at_once, end = start + lengths[static_cast<size_t>(piece)];
    const std::vector<std::string> part(prompts.begin() + start, prompts.begin() + end);
    const Tensor noise = keyed_normal(0, Purpose::kEvalNoise, 0, static_cast<uint64_t>(start),
                                      std::ssize(part), noise_shape);
    const Tensor drawn = thumbnails(((model(part, noise) + 1) / 2).cpu());
    if (counts) shown.push_back(drawn);
    if (bar) bar->add(of_round(lengths, piece, group));
  });
  return gather_dealt(group, shown, lengths);
}

std::vector<std::pair<std::string, std::string>> complaints(const Evaluation& base,
                                                            const Evaluation& now,
                                                            double diversity_floor) {
  std::vector<std::pair<std::string, std::string>> all;
  const bool rose = now.reward_change.mean > 0;
  const char* ending = rose ? " while the reward rose: reward hacking" : "";
  if (now.judged && fell_beyond_chance(now.judge_change)) {
    all.emplace_back(
        rose ? "reward_hacking" : "judge",
        fmt::format("the judge's accuracy fell by {:.1f}{} points (paired by prompt){}",
                    -100 * now.judge_change.mean, error_text(now.judge_change.se, 1, 100), ending));
  }
  for (const auto& [name, o] : now.panel) {
    if (!fell_beyond_chance(o.change)) continue;
    all.emplace_back(rose ? "reward_hacking" : "panel",
                     fmt::format("{} fell by {:.3f}{} (paired by prompt){}", name, -o.change.mean,
                                 error_text(o.change.se, 3), ending));
  }
  const bool may_be_chance =
      now.diversity_log.se && !fell_beyond_chance(now.diversity_log, /*least=*/2);
  if (now.diversity_kept() < diversity_floor && !may_be_chance) {
    all.emplace_back(
        "diversity",
        fmt::format("diversity is {:.0f} % of the base model's, below the floor of {:.0f} %",
                    100 * now.diversity_kept(), 100 * diversity_floor));
  }
  return all;
}

std::string lopsided_diversity(const Evaluation& base) {
  constexpr int64_t kFewest = 8;
  constexpr double kLargest = 0.3;
  if (base.diversity.n < kFewest || base.widest_share <= kLargest) return "";
  return fmt::format(
      "the prompt '{}' has {:.0f} % of the base's diversity over {} prompts: this prompt "
      "dominates the mean. The share that is kept counts each prompt alike; more prompts "
      "(eval.prompts) say "
      "more",
      base.widest_prompt, 100 * base.widest_share, base.diversity.n);
}

std::unique_ptr<ImageJudge> judge_of(const PromptSource& prompts, const std::string& folder,
                                     const RewardResources& resources) {
  if (!prompts.labelled()) return nullptr;
  auto judge = open_judge(
      folder, [&](const std::string& name) { return resources.at(name, "the judge " + folder); });
  VGGFLOW_CHECK(
      judge->classes() == prompts.classes(),
      "[judge] {} names the classes {}, but the prompts' are {}: pass judge=FOLDER of theirs",
      folder, examples_of(judge->classes(), ", "), examples_of(prompts.classes(), ", "));
  return judge;
}

Evaluator::Evaluator(const EvalOptions& options, const std::vector<Prompt>& prompts,
                     const Reward& reward, const ImageJudge* judge,
                     std::shared_ptr<const FeatureNetwork> features, JudgePanel panel,
                     std::vector<int64_t> noise_shape, const Group& group)
    : options_(options),
      prompts_(prompts),
      reward_(reward),
      judge_(judge),
      features_(std::move(features)),
      panel_(std::move(panel)),
      noise_shape_(std::move(noise_shape)),
      group_(group) {
  check_set_size(std::ssize(prompts_), options_.images);
  options_.batch = images_at_once(options_.batch, noise_shape_);
  for (const Prompt& p : prompts_) {
    captions_.insert(captions_.end(), static_cast<size_t>(options_.images), p.caption);
    classes_.insert(classes_.end(), static_cast<size_t>(options_.images), p.subgroup);
  }
}

TensorMap Evaluator::Measured::by_name() const {
  TensorMap all;
  for (const auto& [name, value] : {std::pair{kReward, reward},
                                    {kFeatures, features},
                                    {kRight, right},
                                    {kConfidence, confidence},
                                    {kSaturated, saturated}}) {
    if (value.defined()) all[name] = value;
  }
  for (const auto& [name, value] : panel) all[kPanel + name] = value;
  return all;
}

Evaluator::Measured Evaluator::Measured::of(const TensorMap& by_name) {
  Measured m;
  for (const auto& [name, value] : by_name) {
    (name == kReward       ? m.reward
     : name == kFeatures   ? m.features
     : name == kRight      ? m.right
     : name == kConfidence ? m.confidence
     : name == kSaturated  ? m.saturated
                           : m.panel[name.substr(std::string_view(kPanel).size())]) = value;
  }
  return m;
}

// Noise is keyed by the image's place in the set, so it does not depend on the batch.
Evaluator::Measured Evaluator::measure_part(const ImageGenerator& model, uint64_t set, bool scores,
                                            int64_t start, int64_t length) const {
  const std::vector<std::string> captions(captions_.begin() + start,
                                          captions_.begin() + start + length);
  const Tensor noise = keyed_normal(static_cast<uint64_t>(options_.seed), Purpose::kEvalNoise, set,
                                    static_cast<uint64_t>(start), length, noise_shape_);
  const Tensor pixels = ((model(captions, noise) + 1) / 2).clamp(0, 1);
  const auto judgement = judge_ ? std::optional(judge_->forward(pixels)) : std::nullopt;
  Measured m;
  m.features = (features_ ? features_->features(pixels)
                : judge_  ? judgement->features
                          : PixelFeatures().features(pixels))
                   .cpu();
  if (!scores) return m;
  m.saturated = at::full(
      {1}, saturated_share(pixels) * static_cast<double>(length) / static_cast<double>(set_size()),
      at::kDouble);
  m.reward = reward_.score(pixels, captions).cpu();
  for (const auto& [name, judge] : panel_) m.panel[name] = judge->score(pixels, captions).cpu();
  if (!judge_) return m;
  const Tensor probabilities = at::softmax(judgement->logits.cpu(), 1);
  const Tensor target =
      at::tensor(std::vector<int64_t>(classes_.begin() + start, classes_.begin() + start + length));
  m.right = probabilities.argmax(1) == target;
  m.confidence = probabilities.gather(1, target.unsqueeze(1)).squeeze(1);
  return m;
}

// Parts of the set are dealt to the processes in turn.
Evaluator::Measured Evaluator::measure(const ImageGenerator& model, uint64_t set, bool scores,
                                       Progress* bar) const {
  at::NoGradGuard no_grad;
  const int64_t total = set_size();
  const std::vector<int64_t> lengths = part_lengths(total, options_.batch);
  std::vector<Measured> own;
  group_.deal(std::ssize(lengths), [&](int64_t piece, bool counts) {
    const int64_t start = piece * options_.batch, length = lengths[static_cast<size_t>(piece)];
    Measured part = measure_part(model, set, scores, start, length);
    if (counts) own.push_back(std::move(part));
    if (bar) bar->add(of_round(lengths, piece, group_));
  });
  const auto all = [&](const auto& field, const std::vector<int64_t>& rows) {
    std::vector<Tensor> parts;
    for (const Measured& part : own) parts.push_back(field(part));
    return gather_dealt(group_, parts, rows);
  };
  Measured m;
  m.features = all([](const Measured& part) { return part.features; }, lengths);
  if (!scores) return m;
  m.saturated = all([](const Measured& part) { return part.saturated; },
                    std::vector<int64_t>(lengths.size(), 1));
  m.reward = all([](const Measured& part) { return part.reward; }, lengths);
  for (const auto& entry : panel_) {
    const std::string& name = entry.first;
    m.panel[name] = all([&name](const Measured& part) { return part.panel.at(name); }, lengths);
  }
  if (judge_) {
    m.right = all([](const Measured& part) { return part.right; }, lengths);
    m.confidence = all([](const Measured& part) { return part.confidence; }, lengths);
  }
  return m;
}

std::vector<double> Evaluator::prompt_diversity(const Tensor& f, const Tensor& chosen) const {
  std::vector<double> spread;
  for (size_t p = 0; p < prompts_.size(); ++p) {
    const int64_t start = static_cast<int64_t>(p) * options_.images;
    Tensor own = f.narrow(0, start, options_.images);
    if (chosen.defined())
      own = own.index_select(0, at::nonzero(chosen.narrow(0, start, options_.images)).flatten());
    spread.push_back(own.size(0) < 2 ? NAN : diversity(own));
  }
  return spread;
}

Evaluation Evaluator::summarize(const Measured& m, Scores& scores) const {
  Evaluation e;
  scores.reward = group_means(m.reward, options_.images);
  e.reward = estimate_known(scores.reward);
  for (const auto& [name, values] : m.panel) {
    scores.panel[name] = group_means(values, options_.images);
    e.panel[name].score = estimate_known(scores.panel[name]);
    e.panel[name].unscored = at::isnan(values).sum().item<int64_t>();
  }
  e.unscored = at::isnan(m.reward).sum().item<int64_t>();
  e.reward_sd_within_prompt = within_group_sd(m.reward, options_.images);
  e.features = features_ ? features_->name() : judge_ ? judge_->name() : PixelFeatures().name();
  e.judged = judge_ != nullptr;
  if (judge_) {
    scores.judge = group_means(m.right, options_.images);
    e.judge_accuracy = estimate(scores.judge);
    e.judge_score = estimate(group_means(m.confidence, options_.images));
  }
  scores.diversity = prompt_diversity(m.features);
  if (judge_) scores.right_diversity = prompt_diversity(m.features, m.right);
  e.diversity = estimate(scores.diversity);
  const auto widest = std::max_element(scores.diversity.begin(), scores.diversity.end());
  const double sum = std::accumulate(scores.diversity.begin(), scores.diversity.end(), 0.0);
  e.widest_prompt = prompts_[static_cast<size_t>(widest - scores.diversity.begin())].caption;
  e.widest_share = sum > 0 ? *widest / sum : 0;
  for (int64_t i = 0; i < m.saturated.numel(); ++i) e.saturated += m.saturated[i].item<double>();
  const auto seed = static_cast<uint64_t>(options_.seed);
  e.fd = frechet_distance(m.features, reference_features_);
  e.fd_floor = frechet_distance(base_.features, reference_features_);
  e.kid = kernel_distance(m.features, reference_features_, seed);
  e.kid_floor = kernel_distance(base_.features, reference_features_, seed);
  return e;
}

Evaluation Evaluator::evaluate_base(const ImageGenerator& base, Progress* bar) {
  base_ = measure(base, 0, /*scores=*/true, bar);
  reference_features_ = measure(base, 1, /*scores=*/false, bar).features;
  return summarize(base_, base_scores_);
}

TensorMap Evaluator::base_figures() const {
  TensorMap figures = base_.by_name();
  figures[kReference] = reference_features_;
  return figures;
}

std::optional<Evaluation> Evaluator::recall_base(TensorMap figures, const ImageGenerator& base,
                                                 Progress* bar) {
  const at::NoGradGuard no_grad;
  auto reference = figures.extract(kReference);
  const int64_t length = std::min(options_.batch, set_size());
  const TensorMap part = measure_part(base, 0, /*scores=*/true, 0, length).by_name();
  const auto& features = part.at(kFeatures);
  const bool agrees =
      reference && is_set_of(reference.mapped(), set_size(), features) &&
      figures.size() == part.size() &&
      std::all_of(part.begin(), part.end(), [&](const auto& entry) {
        const auto& [name, now] = entry;
        const auto kept = figures.find(name);
        const int64_t rows =
            name == kSaturated ? std::ssize(part_lengths(set_size(), options_.batch)) : set_size();
        return kept != figures.end() && is_set_of(kept->second, rows, now) &&
               same_numbers(kept->second.narrow(0, 0, now.size(0)), now);
      });
  if (!agrees) return std::nullopt;
  base_ = Measured::of(figures);
  reference_features_ = reference.mapped();
  if (bar) bar->add(2 * set_size());
  return summarize(base_, base_scores_);
}

Evaluation Evaluator::evaluate(const ImageGenerator& model, Progress* bar) const {
  VGGFLOW_CHECK(reference_features_.defined(), "[evaluate] the base model must be evaluated first");
  Scores scores;
  Evaluation e = summarize(measure(model, 0, /*scores=*/true, bar), scores);
  e.reward_change = paired_change(scores.reward, base_scores_.reward);
  e.diversity_change = paired_change(scores.diversity, base_scores_.diversity);
  e.diversity_log = log_ratio(scores.diversity, base_scores_.diversity);
  if (judge_) {
    e.judge_change = paired_change(scores.judge, base_scores_.judge);
    e.diversity_log_right = log_ratio(scores.right_diversity, base_scores_.right_diversity);
  }
  for (auto& [name, o] : e.panel)
    o.change = paired_change(scores.panel.at(name), base_scores_.panel.at(name));
  return e;
}

}  // namespace vggflow
