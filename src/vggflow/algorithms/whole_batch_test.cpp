// An update of a batch in shares is the update of the batch.
#include "vggflow/algorithms/whole_batch.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "vggflow/algorithms/registry.h"
#include "vggflow/dist/take_turns.h"
#include "vggflow/proofs/analytic_claims.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using namespace analytic;
using ::testing::HasSubstr;

// A reward without a value on one side of a line.
class Holey : public Reward {
 public:
  explicit Holey(double edge) : edge_(edge) {}
  Tensor operator()(const Tensor& x1) const override { return inner_(x1) + hole(x1); }
  Dual operator()(const Dual& x1) const override {
    const Dual r = inner_(x1);
    return {r.value + hole(x1.value), r.tangent};
  }

 private:
  Tensor hole(const Tensor& x1) const {
    return at::zeros({x1.size(0)}, x1.options())
        .masked_fill(x1.detach().select(1, 0) > edge_, std::numeric_limits<double>::quiet_NaN());
  }
  LogCosh inner_{0.8, at::full({2}, 0.3, at::kDouble), /*offset=*/0.7};
  double edge_;
};

constexpr int64_t kBatch = 12;

struct Found {
  Tensor policy, value;
  std::vector<MethodReport> reports;
};

Tensor gradient_of(const Trainable& field) {
  return field.parameters.grad().defined() ? field.parameters.grad()
                                           : at::zeros_like(field.parameters);
}

Found update_in_shares(const Method& method, int64_t shares, double edge) {
  const auto control = std::make_shared<Mlp>(2, 8, 11, /*last=*/0.7),
             nu = std::make_shared<Mlp>(2, 8, 12, /*last=*/0.5);
  const int64_t each = kBatch / shares;
  Found out;
  out.reports.resize(static_cast<size_t>(shares));
  take_turns(
      static_cast<size_t>(shares), [](const std::vector<Tensor>& all) { return at::cat(all); },
      [](size_t) {},
      [&](size_t i, const Meet& meet) {
        Problem problem(mixture(2), std::make_shared<Holey>(edge), control,
                        method.trains_value() ? nu : nullptr);
        UpdateInput input = update_input(3, 5, each, 2, uniform_grid(6),
                                         static_cast<uint64_t>(i) * static_cast<uint64_t>(each));
        if (shares > 1) input.whole = WholeBatch(meet);
        out.reports[i] = method.update(problem, input);
      });
  out.policy = gradient_of(*control);
  out.value = gradient_of(*nu);
  return out;
}

void expect_close(double a, double b, const std::string& what) {
  // One figure, a share of factors, is a mean in fp32.
  EXPECT_LE(std::abs(a - b), 1e-7 * (std::abs(b) + 1e-3)) << what << ": " << a << " and " << b;
}

void expect_same_report(const MethodReport& a, const MethodReport& b, const std::string& what) {
  for (const auto& [name, value] : b.loss) expect_close(a.loss.at(name), value, what + " " + name);
  for (const auto& [name, value] : b.values)
    expect_close(a.values.at(name), value, what + " " + name);
  for (const auto& [name, values] : b.series) {
    for (size_t k = 0; k < values.size(); ++k)
      expect_close(a.series.at(name).at(k), values[k], what + " " + name);
  }
  EXPECT_EQ(a.dropped, b.dropped) << what;
  EXPECT_TRUE(at::allclose(a.rewards, b.rewards, 1e-9, 1e-9, /*equal_nan=*/true)) << what;
}

double gap(const Tensor& a, const Tensor& b) {
  return (a - b).norm().item<double>() / std::max(b.norm().item<double>(), 1e-12);
}

// With the clip by a quantile, which looks at all samples.
void expect_no_difference(double edge) {
  for (const std::string& name : method_names()) {
    const MethodTrials trials = method_trials(name);
    std::vector<MethodTrial> all{{"", ""}};
    all.insert(all.end(), trials.variants.begin(), trials.variants.end());
    for (const MethodTrial& trial : all) {
      MethodOptions options;
      options.set(name, trials.small);
      if (name == "adjoint-matching") options.set(name, "clip=quantile");
      options.set(name, trial.settings);
      const auto method = make_method(name, options);
      const std::string what = name + " " + trial.label;
      const Found whole = update_in_shares(*method, 1, edge);
      for (const int64_t shares : {3, 12}) {
        const Found cut = update_in_shares(*method, shares, edge);
        const double bound = 1e-11 * trial.rounding;
        EXPECT_LE(gap(cut.policy, whole.policy), bound) << what << " in " << shares;
        EXPECT_LE(gap(cut.value, whole.value), bound) << what << " in " << shares;
        for (const MethodReport& report : cut.reports)
          expect_same_report(report, whole.reports.front(), what);
      }
    }
  }
}

TEST(WholeBatch, InSharesGivesTheSameGradientsAndFiguresByEveryMethod) {
  expect_no_difference(/*edge=*/1e9);
}

TEST(WholeBatch, MayHaveSharesWithoutAFiniteSample) { expect_no_difference(/*edge=*/0.4); }

TEST(WholeBatch, IsGuardedInSharesAsInOne) {
  for (const std::string& name : method_names()) {
    MethodOptions options;
    options.norm_guard.weight = 3;
    options.set(name, method_trials(name).small);
    if (name == "adjoint-matching") options.set(name, "clip=quantile");
    const auto method = make_method(name, options);
    const Found whole = update_in_shares(*method, 1, 1e9), cut = update_in_shares(*method, 3, 1e9);
    EXPECT_LE(gap(cut.policy, whole.policy), 1e-11) << name;
    expect_same_report(cut.reports.back(), whole.reports.front(), name);
    EXPECT_GT(whole.reports.front().values.at("norm_ratio"), 0) << name;
  }
}

TEST(WholeBatch, WithoutAFiniteSampleIsRefused) {
  const auto method = make_method("vgg-flow-pmp", [] {
    MethodOptions o;
    o.set("vgg-flow-pmp", "bins=3");
    return o;
  }());
  EXPECT_THAT(testing::message_of([&] { update_in_shares(*method, 3, -1e9); }),
              HasSubstr("no sample of this update has a finite reward"));
}

TEST(WholeBatch, OfOneShareIsWhatItIsGiven) {
  const WholeBatch one;
  const Tensor x = at::arange(5, at::kFloat);
  EXPECT_TRUE(one.rows(x).is_same(x));
  EXPECT_EQ(one.sum(1.5), 1.5);
  EXPECT_EQ(one.count(3), 3);
  EXPECT_EQ(one.mean(x), 2);
  EXPECT_EQ(one.quantile(x, 0.5), 2);
}

TEST(WholeBatch, TimesAShareWithoutItsWaits) {
  const WholeBatch slow([](const Tensor& rows) {
    const Stopwatch watch;
    while (watch.seconds() < 0.05) {
    }
    return rows;
  });
  PhaseWatch watch(slow);
  slow.sum(1);
  EXPECT_LT(watch.lap(), 0.04);
  EXPECT_GE(slow.seconds_away(), 0.05);
}

}  // namespace
}  // namespace vggflow
