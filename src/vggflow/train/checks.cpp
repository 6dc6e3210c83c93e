#include "vggflow/train/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/eval/run.h"

namespace vggflow {
namespace {

void check_method(const AlignConfig& c, const ModelShape& shape) {
  const ResolvedMethod resolved(c);
  const auto& [method, value, problem] = resolved;
  (void)GuidanceIn(problem.guidance_in);  // throws on a list of auto and others
  method->check(rollout_steps(c));
  VGGFLOW_CHECK(value.kind == ValueKind::kNone || method->trains_value(),
                "[align] {} trains no value network, got value.kind={}: expected none or auto",
                c.method, word_of(value.kind));
  VGGFLOW_CHECK(value.kind == ValueKind::kNone || value.inputs != ValueInputs::kGuess ||
                    method->shows_guess(),
                "[align] expected value.inputs=state with this vgg.consistency.kind, got guess: "
                "it differentiates nu, or evaluates it where no guess is known; step and return do "
                "not");
  check_value_options(value, shape.state);
  VGGFLOW_CHECK(!method->asks_spread() || c.eval.images > 1,
                "[align] expected eval.images=2 or more with {0}.lambda_unit=spread, got {1}: the "
                "reward's spread is that of the base's images of one prompt; or pass "
                "{0}.lambda_unit=reward, and lambda in its units",
                method_section(c.method), c.eval.images);
  VGGFLOW_CHECK(c.batch % method->group() == 0,
                "[align] expected a batch that {}'s groups of {} samples divide, got {}", c.method,
                method->group(), c.batch);
  VGGFLOW_CHECK(!method->lag() || c.problem.merge,
                "[align] expected merge=true with {}: its rollouts run on an average of the "
                "adapters, which is merged into weights of its own",
                c.method);
  VGGFLOW_CHECK(
      (c.beta.budget == 0 && c.monitor.action != MonitorAction::kLowerBeta) ||
          method->scales_with_beta(),
      "[align] {} has no beta to lower, got beta.budget={} and monitor.action={}: expected 0, and "
      "warn or stop",
      c.method, c.beta.budget, word_of(c.monitor.action));
}

void check_grid(const AlignConfig& c) {
  time_grid(c.time_grid);
  VGGFLOW_CHECK(
      c.eval_steps == 0 || c.time_grid.kind != GridKind::kExplicit,
      "[align] expected eval_steps=0 with an explicit time grid, got {}: its levels are the steps",
      c.eval_steps);
}

// Rewards by address ("plugin:...") are opened by `align` alone.
void check_rewards(const std::vector<std::string>& names) {
  const std::vector<std::string> known = reward_names();
  for (const std::string& name : names) {
    VGGFLOW_CHECK(name.find(':') != std::string::npos ||
                      std::find(known.begin(), known.end(), name) != known.end(),
                  "[reward] unknown reward '{}'; known are {}", name, fmt::join(known, ", "));
  }
}

void check_evaluation(const AlignConfig& c) {
  check_set_size(c.eval.prompts, c.eval.images);
  if (c.eval.panel != std::vector<std::string>{"auto"}) check_rewards(c.eval.panel);
  VGGFLOW_CHECK(c.prompts.eval.empty() || !c.prompts.train.empty(),
                "[align] expected prompts.train, the prompts to train on, besides prompts.eval={}",
                c.prompts.eval);
  c.prompts.check();
}

}  // namespace

int64_t rollout_steps(const AlignConfig& c) {
  return c.time_grid.kind == GridKind::kExplicit ? std::ssize(c.time_grid.sigmas)
                                                 : c.time_grid.steps;
}

bool refuses_rounding(const AlignConfig& config, int processes) {
  if (config.rounding != Rounding::kAuto) return config.rounding == Rounding::kRefuse;
  return processes > 1 || config.shares > 1;
}

namespace {

// A budget of control energy asks for it at every update.
MethodOptions measured(const AlignConfig& c) {
  MethodOptions options = c.methods;
  if (c.beta.budget > 0) options.norm_guard.every = 1;
  return options;
}

}  // namespace

ResolvedMethod::ResolvedMethod(const AlignConfig& c)
    : method(make_method(c.method, measured(c))), value(c.value), problem(c.problem) {
  if (problem.guidance_in == std::vector{GuidedCall::kAuto})
    problem.guidance_in = method->guides_rollouts_alone() ? std::vector{GuidedCall::kRollout}
                                                          : ImageProblemOptions{}.guidance_in;
  if (value.kind == ValueKind::kAuto)
    value.kind = method->trains_value() ? ValueKind::kSmall : ValueKind::kNone;
  value.resolve(method->shows_guess());
}

double ResolvedMethod::value_scale() const { return method->beta() > 0 ? 1 / method->beta() : 1.0; }

void check_settings(const AlignConfig& c, const ModelShape& shape) {
  check_model_options(c.flow);
  VGGFLOW_CHECK(c.flow.offload == Offload::kNone || c.flow.checkpointing,
                "[offload] expected checkpointing=true with offload={}: a backward pass runs each "
                "block again while its weights are on the GPU",
                word_of(c.flow.offload));
  VGGFLOW_CHECK(c.flow.weights == Weights::kResident || c.flow.checkpointing,
                "[weights] expected checkpointing=true with weights={}: a backward pass runs each "
                "block again while its weights are there",
                word_of(c.flow.weights));
  VGGFLOW_CHECK(
      c.flow.weights == Weights::kResident || c.flow.offload == Offload::kNone,
      "[weights] expected offload=none with weights={}, got {}: one of them holds the blocks",
      word_of(c.flow.weights), word_of(c.flow.offload));
  check_model_sizes(c.flow, shape);
  check_grid(c);
  check_method(c, shape);
  check_rewards(rewards_in(c.reward));
  check_evaluation(c);
  const auto network = shape.network->skeleton();
  const LoraSet adapters(*network, {c.lora_rank, c.lora_alpha, c.lora_targets}, 0);
}

std::shared_ptr<const FamilyModel> check_run(const AlignConfig& config, const RunCheck& check) {
  const ModelShape shape = read_model_shape(config.flow);
  check_settings(config, shape);
  if (check) check(config, shape);
  require_prompts(config.flow, config.prompts);
  return shape.model;
}

}  // namespace vggflow
