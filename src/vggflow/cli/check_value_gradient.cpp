#include <fmt/format.h>

#include <string>
#include <vector>

#include "vggflow/cli/checks.h"
#include "vggflow/core/config.h"
#include "vggflow/core/duration.h"
#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/core/result.h"
#include "vggflow/data/prompt_source.h"
#include "vggflow/device/device.h"
#include "vggflow/flow/adapted_flow.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/proofs/value_gradient.h"
#include "vggflow/train/image_problem.h"

namespace vggflow::cli {
namespace {

// "KIND:STEPS:SHIFT".
TimeGridOptions grid_of(const std::string& text) {
  const size_t first = text.find(':'), second = text.find(':', first + 1);
  VGGFLOW_CHECK(first != std::string::npos && second != std::string::npos,
                "[check] expected gradient.grids as KIND:STEPS:SHIFT, got '{}'; an example is "
                "single_shift:20:1",
                text);
  TimeGridOptions grid;
  const Fields fields = fields_of(grid);
  apply_override(fields, "kind=" + text.substr(0, first));
  apply_override(fields, "steps=" + text.substr(first + 1, second - first - 1));
  apply_override(fields, "shift=" + text.substr(second + 1));
  return grid;
}

void print(const std::vector<ValueGradientRow>& rows) {
  print_result(fmt::format("  {:<20} {:>5} {:>6}  {:<14}  {:<14}  {:>7}  {:>6}", "g", "pulls",
                           "passes", "cosine", "gain", "|g|/|a|", "error"));
  for (const ValueGradientRow& r : rows) {
    print_result(fmt::format(
        "  {:<20} {:>5} {:>6.1f}  {:.3f} +- {:.3f}  {:.3f} +- {:.3f}  {:>7.2f}  {:>6.2f}", r.name,
        r.pulls, r.passes, r.cosine.mean, r.cosine.error, r.gain.mean, r.gain.error, r.ratio,
        r.error));
  }
}

}  // namespace

void check_value_gradient(const ValueGradientOptions& o, const RewardFiles& files) {
  const Stopwatch watch;
  std::vector<std::vector<double>> times;
  for (const std::string& grid : o.grids) times.push_back(time_grid(grid_of(grid)));
  const auto model = open_flow_model(o.flow);
  // Fresh adapters change nothing: the policy is the base.
  AdaptedFlow adapters(*model, LoraOptions{1, 1, {"transformer_blocks.*.attn.to_q"}}, 0);
  adapters.merge();
  const auto seed = static_cast<uint64_t>(o.seed);
  const auto prompts = captions_of(make_prompt_source(PromptFiles{}, EmojiOptions{})
                                       ->evaluation(Split::kHeldOut, seed, o.prompts));
  UpdateInput input{.seed = seed, .update = 0, .first_sample = 0, .x0 = {}, .times = {}};
  input.x0 = keyed_normal(seed, Purpose::kNoise, 0, 0, o.prompts, model->state_shape())
                 .to(current_device());
  print_result(fmt::format("{} trajectories of held-out prompts, {}", o.prompts, o.flow.model));
  LoadedValueNetwork value;
  if (!o.value.empty()) value = load_value_network(o.value, *model);
  for (const std::string& name : o.rewards) {
    const auto reward = make_reward(name, files.resources());
    require_differentiable(*reward, name);
    for (size_t i = 0; i < times.size(); ++i) {
      input.times = times[i];
      for (const double guidance : o.guidance) {
        print_result(fmt::format("{}, guidance {}, grid {}", name, guidance, o.grids[i]));
        ImageProblem problem({*model, adapters, *reward, value.network.get(), value.scale},
                             {.guidance = guidance}, prompts);
        print(measure_value_gradient(
            problem, input, problem.cost_shape(1, static_cast<int64_t>(input.times.size()) - 1),
            o.damping, o.value_guess));
      }
    }
  }
  print_result(duration_text(watch.seconds()));
}

}  // namespace vggflow::cli
