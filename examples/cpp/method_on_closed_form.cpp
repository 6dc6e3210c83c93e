// Trains a method on a problem whose optimum is known, and compares the two.
//   method_on_closed_form [UPDATES]

#include <cstdio>
#include <memory>
#include <string>

#include "vggflow/vggflow.h"

namespace problems = vggflow::analytic;

int main(int argc, char** argv) try {
  const int64_t updates = argc > 1 ? std::stoll(argv[1]) : 400;
  const double beta = 0.5;

  // v_base = A x and r(x) = -x^T R x / 2: the optimal control solves a Riccati equation. Any other
  // problem is a class that implements AlignmentProblem.
  const at::Tensor a = problems::matrix({{0.4, 0.8}, {-0.5, 0.1}});
  const at::Tensor r = problems::matrix({{1.5, 0.3}, {0.3, 0.8}});
  const auto times = problems::uniform_grid(/*steps=*/10);
  const auto base = std::make_shared<problems::LinearField>(a);
  const auto reward = std::make_shared<problems::Quadratic>(r, problems::vector({0, 0}));
  const auto control = std::make_shared<problems::BinnedLinear>(times, /*width=*/2);
  problems::Problem problem(base, reward, control);

  // A method by name, with the settings that a configuration would give it.
  vggflow::MethodOptions settings;
  settings.set("vgg-flow-pmp", "beta=0.5 bins=10");
  settings.reward_clip.kind = vggflow::ClipBound::kNone;
  const auto method = vggflow::make_method("vgg-flow-pmp", settings);

  // update() leaves the gradients of its losses in the parameters; the step is ours.
  problems::Adam adam;
  for (int64_t i = 0; i < updates; ++i) {
    vggflow::UpdateInput input{.seed = 1, .update = static_cast<uint64_t>(i), .times = times};
    input.x0 = problems::noise(input.seed, input.update, /*count=*/64, /*width=*/2);
    method->update(problem, input);
    const double left = 1 - static_cast<double>(i) / static_cast<double>(updates);
    adam.step(*control, /*learning_rate=*/0.05 * left);
  }

  const at::Tensor x0 = problems::noise(/*seed=*/2, /*update=*/0, /*count=*/512, /*width=*/2);
  const double best = problems::DiscreteRiccati(a, r, beta, times).objective(x0);
  const double found = problems::objective(problem, beta, x0, times);
  std::printf("objective %.5f after %lld updates, optimum %.5f, excess %.2f %%\n", found,
              static_cast<long long>(updates), best, 100 * (found / best - 1));
  return 0;
} catch (const vggflow::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
