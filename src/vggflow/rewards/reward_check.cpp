#include "vggflow/rewards/reward_check.h"

#include <ATen/ATen.h>

#include <functional>
#include <limits>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/ops/random_tensor.h"

namespace vggflow {
namespace {

constexpr double kStoredBound = 1e-4;  // fp32 against float64

Tensor norms(const Tensor& x) { return at::linalg_vector_norm(x.flatten(1), 2, {1}); }
Tensor per_image(const Tensor& x) { return x.view({-1, 1, 1, 1}); }
// Directions with a root mean square of 1 in each image; zero where there is none.
Tensor unit(const Tensor& d) { return d / per_image(d.flatten(1).square().mean(1).sqrt().clamp_min(1e-30)); }

// Largest |got - want| / max(1, |want|); a missing score equals a missing score.
double score_error(const Tensor& got, const Tensor& want) {
  const Tensor both = at::isnan(got) & at::isnan(want);
  const Tensor error = at::where(both, at::zeros_like(want), (got - want).abs() / want.abs().clamp_min(1));
  return error.isnan().any().item<bool>() ? std::numeric_limits<double>::infinity() : error.max().item<double>();
}

// The member of a sequence of estimates f(steps[k]) whose halving, so to speak, changed it least: per image, by `distance` of neighbours.
// It does not know what the estimate is compared with.
Tensor settled(const std::vector<Tensor>& estimates, const std::function<Tensor(const Tensor&)>& distance) {
  std::vector<Tensor> changes;
  for (size_t k = 1; k < estimates.size(); ++k) changes.push_back(distance(estimates[k] - estimates[k - 1]).nan_to_num(std::numeric_limits<double>::infinity()));
  const Tensor best = at::stack(changes).argmin(0) + 1;  // (B)
  std::vector<Tensor> rows;
  for (int64_t i = 0; i < best.size(0); ++i) rows.push_back(estimates[static_cast<size_t>(best[i].item<int64_t>())][i]);
  return at::stack(rows);
}

class Check {
 public:
  Check(const Reward& reward, const RewardCheckOptions& o)
      : reward_(reward), options_(o), dtype_(o.precision == "fp64" ? at::kDouble : at::kFloat), count_(static_cast<int64_t>(o.prompts.size())) {
    VGGFLOW_CHECK(count_ > 0, "[check] expected at least one prompt");
    random_ = at::sigmoid(normal(0)).to(dtype_);
  }

  std::vector<RewardCheckRow> rows(const std::string& name) {
    stored(name);
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
    if (reward_.unscored() > 0) tell("images without a score", fmt::format("{} in this check", reward_.unscored()));
    return std::move(rows_);
  }

 private:
  void tell(const std::string& what, const std::string& found) { rows_.push_back({what, found, "", true}); }
  void judge(const std::string& what, double error, double bound) {
    rows_.push_back({what, fmt::format("{:.1e}", error), fmt::format("at most {:.0e}", bound), error <= bound});
  }
  double bound() const { return dtype_ == at::kDouble ? 1e-5 : 2e-2; }
  Tensor normal(uint64_t id) const {
    return keyed_normal(static_cast<uint64_t>(options_.seed), Purpose::kTest, 0, id * static_cast<uint64_t>(count_), count_, {3, options_.size, options_.size})
        .to(at::kDouble);
  }
  Tensor scores(const Tensor& images) const { return reward_.score(images.to(dtype_), options_.prompts).to(at::kDouble); }
  Tensor gradients(const Tensor& images) const { return reward_gradient(reward_, images.to(dtype_), options_.prompts).gradient.to(at::kDouble); }
  // (f(x + h d) - f(x - h d)) / 2h where it settles, in root mean square steps of pixels.
  Tensor difference(const std::function<Tensor(const Tensor&)>& f, const Tensor& d, const std::function<Tensor(const Tensor&)>& distance) const {
    std::vector<double> steps{3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4};
    if (dtype_ == at::kDouble) steps.insert(steps.end(), {1e-5, 1e-6});
    std::vector<Tensor> estimates;
    for (const double h : steps) estimates.push_back((f(random_ + h * d) - f(random_ - h * d)) / (2 * h));
    return settled(estimates, distance);
  }

  void stored(const std::string& name) {
    const std::string what = "stored scores";
    if (!std::filesystem::exists(options_.stored)) return tell(what, "left out: there is no " + options_.stored);
    const Json file = Json::parse(read_text(options_.stored), nullptr, /*allow_exceptions=*/false);
    const bool whole = file.is_object() && file.contains("scores") && file.contains("prompts") && file.contains("size");
    VGGFLOW_CHECK(whole, "[check] expected a JSON object with scores, prompts and size in {}", options_.stored);
    if (!file["scores"].contains(name)) return tell(what, fmt::format("left out: {} has none of {}", options_.stored, name));
    const auto want = file["scores"][name].get<std::vector<double>>();
    const Tensor got = reward_.score(check_images(file["size"].get<int64_t>()).to(dtype_), file["prompts"].get<std::vector<std::string>>()).to(at::kDouble);
    VGGFLOW_CHECK(static_cast<int64_t>(want.size()) == got.numel(), "[check] expected {} scores of {} in {}, got {}", got.numel(), name, options_.stored, want.size());
    judge(fmt::format("{} of {} images", what, want.size()), score_error(got, at::tensor(want, at::kDouble)), kStoredBound);
  }

  void repetition() { judge("the same scores again", score_error(scores(random_), scores(random_)), 0); }

  void batch() {
    const Tensor alone = reward_.score(random_.narrow(0, 0, 1), {options_.prompts.front()}).to(at::kDouble);
    judge("an image alone as in a batch", score_error(alone, scores(random_).narrow(0, 0, 1)), kStoredBound);
  }

  // Differences along d against <g, d>, relative to the larger of the slope and the gradient's norm (the size of a random slope).
  void slope(const char* what, const Tensor& g, const Tensor& d) {
    const Tensor want = (g * d).sum({1, 2, 3});
    const Tensor got = difference([this](const Tensor& x) { return scores(x); }, d, [](const Tensor& x) { return x.abs(); });
    const Tensor error = (got - want).abs() / at::maximum(want.abs(), norms(g)).clamp_min(1e-12);
    const double worst = error.isnan().any().item<bool>() ? std::numeric_limits<double>::infinity() : error.max().item<double>();
    if (options_.low_precision) return tell(fmt::format("slopes {}", what), fmt::format("{:.1e}, not judged: bf16 rounds the differences", worst));
    judge(fmt::format("slopes {}", what), worst, bound());
  }

  void gradient() {
    const Tensor g = gradients(random_);
    tell("mean norm of the gradient", fmt::format("{:.3g}", norms(g).mean().item<double>()));
    slope("along the gradient", g, unit(g));
    slope("along a random half of it", g, unit(g * (normal(1) > 0)));
    slope("in random directions", g, unit(normal(2)));
  }

  // Finite is asked. Equality with differences is told alone: a network of straight pieces has kinks where there is no second derivative.
  void hessian() {
    const Tensor d = unit(normal(2));
    const Tensor got = reward_hessian_product(reward_, random_, d.to(dtype_), options_.prompts).to(at::kDouble);
    const Tensor want = difference([this](const Tensor& x) { return gradients(x); }, d, norms);
    rows_.push_back({"Hessian products", fmt::format("{} not finite", at::isfinite(got).logical_not().sum().item<int64_t>()), "all finite",
                     at::isfinite(got).all().item<bool>()});
    tell("  off differences of the gradient", fmt::format("{:.1e}", (norms(got - want) / norms(want).clamp_min(1e-12)).max().item<double>()));
  }

  void extremes(const std::string& what, const Tensor& images) {
    const Tensor r = scores(images), there = r.index({at::isfinite(r)});
    const auto missing = r.numel() - there.numel();
    std::string found = there.numel() == 0 ? "no scores" : fmt::format("{:.4g} to {:.4g}", there.min().item<double>(), there.max().item<double>());
    if (missing > 0) found += fmt::format(", {} of {} not finite", missing, r.numel());
    const bool judges = !reward_.differentiable();
    bool ok = missing == 0 || (judges && there.numel() > 0 && !at::isinf(r).any().item<bool>());
    if (!judges) {
      const auto bad = at::isfinite(gradients(images)).logical_not().sum().item<int64_t>();
      const Tensor product = reward_hessian_product(reward_, images, unit(normal(3)).to(dtype_), options_.prompts);
      const auto bad_products = at::isfinite(product).logical_not().sum().item<int64_t>();
      if (bad + bad_products > 0) found += fmt::format(", {} entries of gradients and {} of Hessian products not finite", bad, bad_products);
      ok = ok && bad + bad_products == 0;
    }
    rows_.push_back({what, found, judges ? "some scores, none infinite" : "all finite", ok});
  }

  const Reward& reward_;
  const RewardCheckOptions& options_;
  at::ScalarType dtype_;
  int64_t count_;
  Tensor random_;
  std::vector<RewardCheckRow> rows_;
};

}  // namespace

Tensor check_images(int64_t s) {
  const Tensor x = at::arange(s).view({1, s}).expand({s, s}), y = at::arange(s).view({s, 1}).expand({s, s});
  const auto ratio = [](const Tensor& a, int64_t b) { return at::div(a, b, "floor"); };
  const Tensor even = at::remainder(ratio(x, 4) + ratio(y, 4), 2) == 0;
  const auto noise = [&](int64_t c) { return at::remainder(7 * x * x + 13 * y * y + 3 * x * y + 29 * c, 256); };
  const auto checker = [&](int64_t a, int64_t b) { return at::where(even, at::full_like(even, a, at::kLong), at::full_like(even, b, at::kLong)); };
  const Tensor grey = ratio(255 * (x + y), 2 * s - 2);
  return at::stack({at::stack({ratio(255 * x, s - 1), ratio(255 * y, s - 1), at::full({s, s}, 128, at::kLong)}),
                    at::stack({checker(255, 16), checker(64, 32), checker(0, 192)}), at::stack({noise(0), noise(1), noise(2)}), at::stack({grey, grey, grey})})
             .to(at::kDouble) / 255;
}

std::vector<RewardCheckRow> check_reward(const Reward& reward, const std::string& name, const RewardCheckOptions& options) {
  return Check(reward, options).rows(name);
}

}  // namespace vggflow
