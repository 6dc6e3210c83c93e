#include "vggflow/train/next_commands.h"

#include <algorithm>
#include <system_error>

#include "vggflow/core/config.h"
#include "vggflow/core/help.h"
#include "vggflow/core/shell_word.h"
#include "vggflow/core/trust.h"
#include "vggflow/eval/sweep.h"
#include "vggflow/rewards/expression.h"
#include "vggflow/train/checks.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

// The settings that are not the command's defaults, as words of its command line.
template <class Settings>
std::string command_of(const char* name, Settings settings) {
  Settings fresh;
  std::vector<std::string> words{"vggflow", name};
  const std::vector<std::string> changed = differences(fields_of(fresh), fields_of(settings));
  for (const Field& field : fields_of(settings)) {
    if (std::find(changed.begin(), changed.end(), field.key) != changed.end())
      words.push_back(field.key + "=" + typed_text(field));
  }
  return shell_words(words);
}

GeneratorOptions generator_of(const AlignConfig& c, const fs::path& lora) {
  GeneratorOptions generator;
  generator.flow = c.flow;
  generator.flow.checkpointing = false;  // it is of use in training alone
  generator.lora = lora.string();
  // The run's own images are drawn so.
  generator.guidance =
      GuidanceIn(ResolvedMethod(c).problem.guidance_in).rollout ? c.problem.guidance : 1.0;
  generator.time_grid = c.time_grid;
  if (c.eval_steps > 0) generator.time_grid.steps = c.eval_steps;
  return generator;
}

}  // namespace

std::vector<NextCommand> next_commands(const AlignConfig& c, const fs::path& lora,
                                       const std::vector<std::string>& prompts) {
  const fs::path run = c.run;
  SampleConfig sample;
  sample.out = (run / "samples").string();
  sample.prompts = prompts;
  sample.device = c.device;
  sample.generator = generator_of(c, lora);
  SweepConfig sweep;
  sweep.eval.out = (run / "sweep").string();
  sweep.eval.reward_files = c.reward_files;
  for (const WeightedName& term : parse_expression(c.reward)) {
    if (has_scheme(term.name)) sweep.eval.reward = c.reward;  // a LoRA's word alone is refused
  }
  sweep.eval.judge = c.judge;
  sweep.eval.prompts = c.prompts;
  sweep.eval.device = c.device;
  sweep.eval.generator = sample.generator;
  sweep.eval.data = c.data;
  sweep.eval.eval = c.eval;
  const std::string comfy = (run / "comfyui.safetensors").string();
  return {{"Draw images with it", command_of("sample", sample)},
          {"Reward against diversity at several strengths", command_of("sweep", sweep)},
          {"Write it for ComfyUI",
           shell_words({"vggflow", "export", lora.string(), comfy, "--format", "kohya"})}};
}

std::string resume_command(AlignConfig config, const fs::path& run) {
  std::error_code ignored;
  std::vector<std::string> words{"vggflow", "align", "--config", (run / "config.yaml").string(),
                                 "resume=true"};
  if (!fs::equivalent(config.run, run, ignored)) words.push_back("run=" + run.string());
  return shell_words(words) + trust_setting(fields_of(config));
}

}  // namespace vggflow
