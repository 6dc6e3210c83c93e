#include "vggflow/rewards/reward_check.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <filesystem>
#include <functional>
#include <iterator>
#include <limits>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/core/shipped_files.h"
#include "vggflow/io/files.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/ops/row_norms.h"

namespace vggflow {
namespace {

constexpr double kStoredBound = 1e-4;                       // fp32 against float64
constexpr double kExactBound = 1e-5, kRoundedBound = 2e-2;  // of slopes, in fp64 and in fp32
constexpr double kGradientBound =
    5e-2;  // fp32's gradient against fp64's: rounding moves units over kinks
const std::vector<std::string> kPrompts{"red heart", "ghost", "blue heart", "red apple"};

Tensor per_image(const Tensor& x) { return x.view({-1, 1, 1, 1}); }
// Directions with a root mean square of 1 in each image; zero where there is none.
Tensor unit(const Tensor& d) {
  return d / per_image(d.flatten(1).square().mean(1).sqrt().clamp_min(1e-30));
}

// Largest |got - want| / max(1, |want|); a missing score equals a missing score.
double score_error(const Tensor& got, const Tensor& want) {
  const Tensor both = at::isnan(got) & at::isnan(want);
  const Tensor error =
      at::where(both, at::zeros_like(want), (got - want).abs() / want.abs().clamp_min(1));
  return error.isnan().any().item<bool>() ? std::numeric_limits<double>::infinity()
                                          : error.max().item<double>();
}

// The member of a sequence of estimates f(steps[k]) whose halving, so to speak, changed it least:
// per image, by `distance` of neighbours. It does not know what the estimate is compared with.
Tensor settled(const std::vector<Tensor>& estimates,
               const std::function<Tensor(const Tensor&)>& distance) {
  std::vector<Tensor> changes;
  for (size_t k = 1; k < estimates.size(); ++k)
    changes.push_back(distance(estimates[k] - estimates[k - 1])
                          .nan_to_num(std::numeric_limits<double>::infinity()));
  const Tensor best = at::stack(changes).argmin(0) + 1;  // (B)
  std::vector<Tensor> rows;
  for (int64_t i = 0; i < best.size(0); ++i)
    rows.push_back(estimates[static_cast<size_t>(best[i].item<int64_t>())][i]);
  return at::stack(rows);
}

std::filesystem::path stored_file(const RewardCheckOptions& o) {
  const std::filesystem::path usual = "models/reward-scores.json";
  if (!o.stored.empty()) {
    VGGFLOW_CHECK(std::filesystem::exists(o.stored),
                  "[check] expected stored scores at stored={}, but no file is there; leave "
                  "stored= out to take {}",
                  o.stored, usual.string());
    return o.stored;
  }
  const std::filesystem::path found = find_shipped(usual);
  return std::filesystem::exists(found) ? found : std::filesystem::path();
}

// The scores that are known of a reward: of check_images(size), by weights of that hash (empty: it
// has none) and that preprocessing (empty: any).
struct StoredScores {
  std::vector<double> scores;
  std::vector<std::string> prompts = kPrompts;
  int64_t size = 0;
  std::string weights, preprocessing;
  std::string missing;  ///< why there are none
};

StoredScores read_stored(const RewardCheckOptions& o, const std::string& name) {
  StoredScores s;
  const std::filesystem::path path = stored_file(o);
  if (path.empty()) {
    s.missing = "no file is at " + places_of("models/reward-scores.json");
    return s;
  }
  const Json file = try_parse_json(read_text(path));
  const bool whole = file.is_object() && file.contains("scores") && file.contains("prompts") &&
                     file.contains("size");
  VGGFLOW_CHECK(whole, "[check] expected a JSON object with scores, prompts and size in {}",
                path.string());
  s.prompts = file["prompts"].get<std::vector<std::string>>();
  s.size = file["size"].get<int64_t>();
  if (!file["scores"].contains(name)) {
    s.missing = fmt::format("{} has none of {}", path.string(), name);
    return s;
  }
  const Json& entry = file["scores"][name];
  VGGFLOW_CHECK(entry.is_object() && entry.contains("values"),
                "[check] expected an object with values for {} in {}", name, path.string());
  s.scores = entry["values"].get<std::vector<double>>();
  s.prompts = entry.value("prompts", s.prompts);
  s.weights = entry.value("weights", "");
  s.preprocessing = entry.value("preprocessing", "");
  const auto images = std::ssize(s.prompts);
  VGGFLOW_CHECK(std::ssize(s.scores) == images, "[check] expected {} scores of {} in {}, got {}",
                images, name, path.string(), s.scores.size());
  return s;
}

class Check {
 public:
  Check(const Reward& reward, const std::string& name, const RewardCheckOptions& o)
      : reward_(reward),
        options_(o),
        stored_(read_stored(o, name)),
        prompts_(o.prompts.empty() ? stored_.prompts : o.prompts),
        dtype_(o.precision == CheckPrecision::kFp64 ? at::kDouble : at::kFloat),
        count_(static_cast<int64_t>(prompts_.size())) {
    VGGFLOW_CHECK(count_ > 0, "[check] expected at least one prompt");
    exact_random_ = at::sigmoid(normal(0));
    random_ = exact_random_.to(dtype_);
  }

  std::vector<RewardCheckRow> rows() {
    stored();
    repetition();
    batch();
    if (reward_.differentiable()) {
      gradient();
      hessian();
    } else {
      tell("derivatives", "none: this reward can judge, but not train");
    }
    extremes("random images", random_);
    extremes("black images", at::zeros_like(random_));
    extremes("white images", at::ones_like(random_));
    if (reward_.unscored() > 0)
      tell("images without a score", fmt::format("{} in this check", reward_.unscored()));
    return std::move(rows_);
  }

 private:
  void tell(const std::string& what, const std::string& found) {
    rows_.push_back({what, found, "", true});
  }
  void judge(const std::string& what, double error, double bound) {
    rows_.push_back(
        {what, fmt::format("{:.1e}", error), fmt::format("at most {:.0e}", bound), error <= bound});
  }
  void leave_out(const std::string& what, const std::string& why) {
    rows_.push_back({what, "left out: " + why, "", true, /*left_out=*/true});
  }
  Tensor normal(uint64_t id) const {
    return keyed_normal(static_cast<uint64_t>(options_.seed), Purpose::kTest, 0,
                        id * static_cast<uint64_t>(count_), count_,
                        {3, options_.size, options_.size})
        .to(at::kDouble);
  }
  Tensor scores(const Tensor& images, at::ScalarType dtype) const {
    return reward_.score(images.to(dtype), prompts_).to(at::kDouble);
  }
  Tensor gradients(const Tensor& images, at::ScalarType dtype) const {
    return reward_gradient(reward_, images.to(dtype), prompts_).gradient.to(at::kDouble);
  }
  // fp64 where every part of the reward computes in it, that is, sees what fp32 cannot tell from
  // the same image.
  at::ScalarType slope_type() const {
    const Tensor fine = reward_.parts(exact_random_, prompts_).to(at::kDouble);
    const Tensor coarse =
        reward_.parts(exact_random_.to(at::kFloat).to(at::kDouble), prompts_).to(at::kDouble);
    return !options_.low_precision && (fine != coarse).any(1).all().item<bool>() ? at::kDouble
                                                                                 : at::kFloat;
  }
  // (f(x + h d) - f(x - h d)) / 2h where it settles, in root mean square steps of pixels; in fp32
  // rounding forbids small ones.
  Tensor difference(const std::function<Tensor(const Tensor&)>& f, const Tensor& x, const Tensor& d,
                    const std::function<Tensor(const Tensor&)>& distance) const {
    const auto steps = slope_type_ == at::kDouble ? std::vector{1e-5, 1e-6, 1e-7, 1e-8}
                                                  : std::vector{3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4};
    std::vector<Tensor> estimates;
    for (const double h : steps) estimates.push_back((f(x + h * d) - f(x - h * d)) / (2 * h));
    return settled(estimates, distance);
  }

  void stored() {
    const std::string what = "stored scores";
    if (!stored_.missing.empty()) return leave_out(what, stored_.missing);
    const std::string weights = reward_.weights_hash(), preprocessing = reward_.describe();
    if (stored_.weights != weights)
      return leave_out(
          what, fmt::format("they are of the weights {}, these are {}", stored_.weights, weights));
    if (!stored_.preprocessing.empty() && stored_.preprocessing != preprocessing)
      return leave_out(what, "they are of images " + stored_.preprocessing);
    const Tensor got =
        reward_.score(check_images(stored_.size).to(dtype_), stored_.prompts).to(at::kDouble);
    VGGFLOW_CHECK(std::ssize(stored_.scores) == got.numel(),
                  "[check] expected {} stored scores, got {}", got.numel(), stored_.scores.size());
    judge(fmt::format("{} of {} images", what, stored_.scores.size()),
          score_error(got, at::tensor(stored_.scores, at::kDouble)), kStoredBound);
  }

  void repetition() {
    judge("the same scores again", score_error(scores(random_, dtype_), scores(random_, dtype_)),
          0);
  }

  void batch() {
    const Tensor alone = reward_.score(random_.narrow(0, 0, 1), {prompts_.front()}).to(at::kDouble);
    judge("an image alone as in a batch",
          score_error(alone, scores(random_, dtype_).narrow(0, 0, 1)), kStoredBound);
  }

  // Differences along d against <g, d>, relative to the larger of the slope and the gradient's norm
  // (the size of a random slope).
  Tensor rounded_error(const Tensor& want, const Tensor& scale, const Tensor& d) const {
    const Tensor got = difference([this](const Tensor& x) { return scores(x, at::kFloat); },
                                  random_, d, [](const Tensor& x) { return x.abs(); });
    return (got - want).abs() / scale;
  }

  // The same in fp64, of the step that agrees best: a wrong gradient agrees at none. Where a unit
  // has its kink within the smallest steps, the difference is a mean of the slopes on both sides,
  // so it is held against what lies between them.
  Tensor exact_error(const Tensor& want, const Tensor& scale, const Tensor& d) const {
    Tensor best = at::full_like(want, std::numeric_limits<double>::infinity());
    for (const bool kinks : {false, true}) {
      for (const double h : {1e-6, 1e-7, 1e-8, 1e-9}) {
        if ((best <= kExactBound).all().item<bool>() || (kinks && h > 1e-8)) continue;
        const Tensor after = exact_random_ + h * d, before = exact_random_ - h * d;
        const Tensor got = (scores(after, at::kDouble) - scores(before, at::kDouble)) / (2 * h);
        Tensor low = want, high = want;
        for (const Tensor& side : kinks ? std::vector{before, after} : std::vector<Tensor>()) {
          const Tensor slope = (gradients(side, at::kDouble) * d).sum({1, 2, 3});
          low = at::minimum(low, slope);
          high = at::maximum(high, slope);
        }
        best = at::fmin(best,
                        at::maximum((low - got).clamp_min(0), (got - high).clamp_min(0)) / scale);
      }
    }
    return best;
  }

  void slope(const char* what, const Tensor& g, const Tensor& d) {
    const Tensor want = (g * d).sum({1, 2, 3}),
                 scale = at::maximum(want.abs(), row_norms(g)).clamp_min(1e-12);
    const Tensor error =
        slope_type_ == at::kDouble ? exact_error(want, scale, d) : rounded_error(want, scale, d);
    const double worst = error.isnan().any().item<bool>() ? std::numeric_limits<double>::infinity()
                                                          : error.max().item<double>();
    const auto name = fmt::format("slopes {}", what);
    if (options_.low_precision)
      return leave_out(name, fmt::format("{:.1e}, not judged: bf16 rounds the differences", worst));
    judge(name, worst, slope_type_ == at::kDouble ? kExactBound : kRoundedBound);
  }

  void gradient() {
    slope_type_ = slope_type();
    const Tensor g = gradients(slope_images(), slope_type_);
    tell("slopes are taken in", slope_type_ == at::kDouble ? "fp64" : "fp32");
    tell("mean norm of the gradient", fmt::format("{:.3g}", row_norms(g).mean().item<double>()));
    slope("along the gradient", g, unit(g));
    slope("along a random half of it", g, unit(g * (normal(1) > 0)));
    slope("in random directions", g, unit(normal(2)));
    if (slope_type_ == at::kFloat || dtype_ == at::kDouble) return;
    const Tensor error =
        row_norms(gradients(slope_images(), at::kFloat) - g) / row_norms(g).clamp_min(1e-12);
    judge("the gradient in fp32 against fp64", error.max().item<double>(), kGradientBound);
  }

  // Finite is asked. Equality with differences is told alone: a network of straight pieces has
  // kinks where there is no second derivative.
  void hessian() {
    const Tensor d = unit(normal(2));
    const Tensor got =
        reward_hessian_product(reward_, slope_images().to(slope_type_), d.to(slope_type_), prompts_)
            .to(at::kDouble);
    const Tensor want = difference([this](const Tensor& x) { return gradients(x, slope_type_); },
                                   slope_images(), d, row_norms);
    rows_.push_back(
        {"Hessian products",
         fmt::format("{} not finite", at::isfinite(got).logical_not().sum().item<int64_t>()),
         "all finite", at::isfinite(got).all().item<bool>()});
    tell("  off differences of the gradient",
         fmt::format(
             "{:.1e}",
             (row_norms(got - want) / row_norms(want).clamp_min(1e-12)).max().item<double>()));
  }

  void extremes(const std::string& what, const Tensor& images) {
    const Tensor r = scores(images, dtype_), there = r.index({at::isfinite(r)});
    const auto missing = r.numel() - there.numel();
    std::string found = there.numel() == 0
                            ? "no scores"
                            : fmt::format("{:.4g} to {:.4g}", there.min().item<double>(),
                                          there.max().item<double>());
    if (missing > 0) found += fmt::format(", {} of {} not finite", missing, r.numel());
    const bool judges = !reward_.differentiable();
    bool ok = missing == 0 || (judges && there.numel() > 0 && !at::isinf(r).any().item<bool>());
    if (!judges) {
      const auto bad = at::isfinite(gradients(images, dtype_)).logical_not().sum().item<int64_t>();
      const Tensor product =
          reward_hessian_product(reward_, images, unit(normal(3)).to(dtype_), prompts_);
      const auto bad_products = at::isfinite(product).logical_not().sum().item<int64_t>();
      if (bad + bad_products > 0)
        found += fmt::format(", {} entries of gradients and {} of Hessian products not finite", bad,
                             bad_products);
      ok = ok && bad + bad_products == 0;
    }
    rows_.push_back({what, found, judges ? "some scores, none infinite" : "all finite", ok});
  }

  const Tensor& slope_images() const {
    return slope_type_ == at::kDouble ? exact_random_ : random_;
  }

  const Reward& reward_;
  const RewardCheckOptions& options_;
  StoredScores stored_;
  std::vector<std::string> prompts_;
  at::ScalarType dtype_, slope_type_ = at::kFloat;
  int64_t count_;
  Tensor random_, exact_random_;
  std::vector<RewardCheckRow> rows_;
};

}  // namespace

Tensor check_images(int64_t s) {
  const Tensor x = at::arange(s).view({1, s}).expand({s, s}),
               y = at::arange(s).view({s, 1}).expand({s, s});
  const auto ratio = [](const Tensor& a, int64_t b) { return at::div(a, b, "floor"); };
  const Tensor even = at::remainder(ratio(x, 4) + ratio(y, 4), 2) == 0;
  const auto noise = [&](int64_t c) {
    return at::remainder(7 * x * x + 13 * y * y + 3 * x * y + 29 * c, 256);
  };
  const auto checker = [&](int64_t a, int64_t b) {
    return at::where(even, at::full_like(even, a, at::kLong), at::full_like(even, b, at::kLong));
  };
  const Tensor grey = ratio(255 * (x + y), 2 * s - 2);
  return at::stack({at::stack({ratio(255 * x, s - 1), ratio(255 * y, s - 1),
                               at::full({s, s}, 128, at::kLong)}),
                    at::stack({checker(255, 16), checker(64, 32), checker(0, 192)}),
                    at::stack({noise(0), noise(1), noise(2)}), at::stack({grey, grey, grey})})
             .to(at::kDouble) /
         255;
}

std::vector<RewardCheckRow> check_reward(const Reward& reward, const std::string& name,
                                         const RewardCheckOptions& options) {
  return Check(reward, name, options).rows();
}

}  // namespace vggflow
