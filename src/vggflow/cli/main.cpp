// The one place that catches, prints and exits.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <malloc.h>
#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/cli/commands.h"
#include "vggflow/convert/lora_export.h"
#include "vggflow/convert/sd3_write.h"
#include "vggflow/core/config.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/log.h"
#include "vggflow/core/version.h"
#include "vggflow/device/device.h"
#include "vggflow/device/error_text.h"
#include "vggflow/device/warnings.h"
#include "vggflow/eval/metrics_run.h"
#include "vggflow/eval/score.h"
#include "vggflow/eval/sweep.h"
#include "vggflow/experiments/comparison_config.h"
#include "vggflow/pretrain/prepare.h"
#include "vggflow/pretrain/pretrain.h"
#include "vggflow/train/align.h"

namespace vggflow::cli {
namespace {

// A setting under a name of its own: "--lora FILE" is generator.lora=FILE.
struct Shorthand {
  const char *option, *key, *help;
};

void add_shorthands(CLI::App& command, const std::shared_ptr<ConfigArguments>& arguments,
                    const std::vector<Shorthand>& all) {
  for (const Shorthand& s : all) {
    const std::string key = s.key;
    command.add_option_function<std::string>(
        s.option,
        [arguments, key](const std::string& value) {
          arguments->overrides.push_back(key + "=" + yaml_scalar(value));
        },
        fmt::format("{} ({})", s.help, s.key));
  }
}

const std::vector<Shorthand>& sample_shorthands() {
  static const std::vector<Shorthand> all{
      {"--model", "generator.model",
       "flow model: a folder, org/name in the Hugging Face cache, or a single file"},
      {"--prompts", "prompts_file", "file of prompts"},
      {"--lora", "generator.lora", "LoRA in any layout"},
      {"--lora-scale", "generator.lora_scale", "its strength"},
      {"--negative-prompt", "generator.sd3.negative_prompt", "what guidance leads away from"},
      {"--guidance", "generator.guidance", "guidance scale"},
      {"--steps", "generator.time_grid.steps", "Euler steps"},
      {"--height", "generator.sd3.height", "in pixels"},
      {"--width", "generator.sd3.width", "in pixels"},
      {"--images", "images", "images a prompt"},
      {"--seed", "seed", "seed of a prompt's first image"},
      {"--batch", "batch", "images sampled at once"},
      {"--out", "out", "folder of the images"}};
  return all;
}

template <class Config>
void add_configured(CLI::App& app, const char* name, const char* description,
                    void (*run)(const ConfigArguments&),
                    const std::vector<Shorthand>& shorthands = {}) {
  auto* command = app.add_subcommand(name, description);
  auto arguments = std::make_shared<ConfigArguments>();
  command->add_option("--config", arguments->file, "YAML file of settings")
      ->check(CLI::ExistingFile);
  command->add_option("settings", arguments->overrides, "key=value overrides");
  add_shorthands(*command, arguments, shorthands);
  Config defaults;
  command->footer("Settings:\n" + help_text(fields_of(defaults)));
  command->callback([arguments, run] { run(*arguments); });
}

void add_compare(CLI::App& app, CompareArguments& arguments, bool& complete) {
  auto* command = app.add_subcommand(
      "compare", "run methods x settings x seeds, resumable, and compare them in one report");
  command->add_option("config", arguments.file, "YAML file of the comparison")
      ->required()
      ->check(CLI::ExistingFile);
  command->add_option("settings", arguments.settings, "key=value overrides");
  command->add_flag("--dry-run", arguments.dry_run,
                    "list the runs, their state and their commands");
  command->add_flag("--report-only", arguments.report_only, "write the report from what is there");
  command->footer(schema_help());
  command->callback([&] { complete = compare(arguments); });
}

void add_sd3_files(CLI::App& command, Sd3Options& options) {
  command.add_option(
      "--config", options.config,
      "of a single-file SD3 model: a diffusers folder with its configurations and tokenizers");
  command.add_option(
      "--variant", options.variant,
      "variant of the weight files, such as fp16; components without it give their plain files");
  command.add_option("--revision", options.revision, "of a model in the Hugging Face cache")
      ->capture_default_str();
}

void add_convert(CLI::App& app, ConvertOptions& options) {
  auto* command = app.add_subcommand(
      "convert", "write a Stable Diffusion 3 model in another layout or number format");
  command
      ->add_option("model", options.model,
                   "a folder in diffusers' layout (shards, variants, pickles), org/name in the "
                   "Hugging Face cache, or a single file")
      ->required();
  command
      ->add_option("out", options.out,
                   "NAME.safetensors: one file in Stability's layout; else a folder in diffusers' "
                   "layout. What exists is not overwritten")
      ->required();
  command->add_option("--dtype", options.dtype, "numbers")
      ->check(CLI::IsMember({"keep", "fp32", "fp16", "bf16"}))
      ->capture_default_str();
  add_sd3_files(*command, options.sd3);
  command->callback([&options] { convert_command(options); });
}

void add_export(CLI::App& app, ExportOptions& options) {
  auto* command = app.add_subcommand(
      "export", "write a LoRA for diffusers, PEFT or ComfyUI, or merge it into a model folder");
  command
      ->add_option(
          "lora", options.lora,
          "LoRA in any layout. A run holds lora.safetensors (the last update's weights), "
          "lora_ema.safetensors "
          "(their average, what its evaluations show) and lora_best.safetensors: you choose")
      ->required();
  command
      ->add_option("out", options.out,
                   "file to write; a folder for peft and merged (of an SD3 model also "
                   "NAME.safetensors: one file in Stability's layout). "
                   "What exists is not overwritten")
      ->required();
  command->add_option("--format", options.format, "layout")
      ->check(CLI::IsMember({"diffusers", "peft", "kohya", "merged"}))
      ->capture_default_str();
  command
      ->add_option("--dtype", options.dtype,
                   "numbers; fp16 and bf16 round A and B (merged: every weight) once")
      ->check(CLI::IsMember({"fp32", "fp16", "bf16"}))
      ->capture_default_str();
  command->add_option("--model", options.model,
                      "the base model, nano or Stable Diffusion 3 (a folder, org/name in the "
                      "Hugging Face cache, a single file): merged "
                      "needs it; with it the check compares the network's output too");
  command
      ->add_option("--lora-text-encoders", options.lora_text_encoders,
                   "adapters of text encoders in the LoRA, which are not adapted here: refuse the "
                   "file, or skip them")
      ->check(CLI::IsMember({"refuse", "skip"}))
      ->capture_default_str();
  add_sd3_files(*command, options.sd3);
  command->footer(
      "Every file is read back and compared before the command succeeds. Layouts and who reads "
      "them: docs/lora.md.");
  command->callback([&options] { export_command(options); });
}

void add_plan(CLI::App& app, PlanArguments& arguments) {
  auto* command = app.add_subcommand("plan",
                                     "predict parameters, memory and time of `align` with these "
                                     "settings, and what would make them fit");
  command->add_option("config", arguments.config.file, "YAML file of settings, those of align")
      ->required()
      ->check(CLI::ExistingFile);
  command->add_option("settings", arguments.config.overrides, "key=value overrides");
  command->add_flag("--json", arguments.json, "for programs: bytes, operations and seconds");
  command
      ->add_option("--gflops", arguments.gflops,
                   "rate of this machine's matrix products in GFLOP/s; without it, it is measured")
      ->check(CLI::PositiveNumber);
  command->footer(
      "Nothing is loaded: configurations and the headers of weight files are read. How far it can "
      "be trusted: docs/plan.md.");
  command->callback([&] { plan(arguments); });
}

void add_score(CLI::App& app, ScoreOptions& options) {
  auto* command = app.add_subcommand(
      "score", "score images by rewards: JSON lines and a sheet, the best first");
  command
      ->add_option("images", options.images,
                   "folders, image files, or lists (CSV, JSON lines) with the columns image and "
                   "prompt; and key=value settings")
      ->required();
  command
      ->add_option("--reward", options.rewards,
                   "reward, or a weighted sum; several times: more columns, the first one sorts")
      ->required()
      ->allow_extra_args(false);
  command->add_option(
      "--prompt", options.prompt,
      "prompt of the images that have none in their PNG, in a text file beside them or in a list");
  command->add_option("--out", options.out, "folder of scores.jsonl and scores.html")
      ->capture_default_str();
  command
      ->add_option("--size", options.size, "side that images are resized to first; 0: as they are")
      ->check(CLI::Range(0, 8192))
      ->capture_default_str();
  command->add_option("--batch", options.batch, "images scored together")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--thumbnails", options.most_thumbnails, "most pictures on the sheet")
      ->check(CLI::Range(2, 1000000))
      ->capture_default_str();
  command->add_option("--reward-model", options.files.reward_model, "folder of emoji-clip")
      ->capture_default_str();
  command
      ->add_option("--reward-weights", options.files.reward_weights,
                   "weights of other rewards, name=path: docs/rewards.md")
      ->allow_extra_args(false);
  command->footer("Settings:\n" + score_help());
  command->callback([&options] { score(options); });
}

std::string version_text() {
  return fmt::format("vggflow {} (commit {})\nLibTorch {}\ninstruction sets of this machine: {}",
                     version(), commit(), TORCH_VERSION, environment()["instruction sets"]);
}

int run(int argc, char** argv) {
  CLI::App app{"vggflow: align flow-matching image models with differentiable rewards"};
  app.require_subcommand(1);
  app.set_version_flag("--version", version_text, "release, commit, LibTorch, instruction sets");
  add_configured<PrepareConfig>(
      app, "prepare", "encode photographs into the latents that a flow model is trained on",
      prepare);
  add_configured<PretrainConfig>(
      app, "pretrain", "train the nano flow model, a reward model or the judge", pretrain);
  add_configured<AlignConfig>(
      app, "align", "align a flow model with a reward, evaluate it, write the report", align);
  add_configured<SampleConfig>(app, "sample", "write images of prompts as PNG files", sample,
                               sample_shorthands());
  add_configured<EvalConfig>(
      app, "eval", "compare a LoRA or a guided base with the base on held-out prompts", eval);
  add_configured<SweepConfig>(
      app, "sweep",
      "evaluate a LoRA at several strengths: reward against diversity without training", sweep);
  add_configured<MetricsConfig>(
      app, "metrics",
      "compare two sets of images: metrics A B [key=value ...]; folders, images or lists of them",
      metrics);
  std::vector<std::string> runs;
  auto* report_command = app.add_subcommand(
      "report", "write RUN/report.html; of several runs, print a Markdown comparison");
  report_command->add_option("runs", runs, "run folders")->required();
  report_command->callback([&] { report(runs); });
  std::string path;
  auto* inspect_command =
      app.add_subcommand("inspect", "list what is in a safetensors file, a model folder or a run");
  inspect_command->add_option("path", path, "file or folder")->required();
  inspect_command->callback([&] { inspect(path); });
  PlanArguments planned;
  add_plan(app, planned);
  ExportOptions exported;
  add_export(app, exported);
  ConvertOptions converted;
  add_convert(app, converted);
  ScoreOptions scored;
  add_score(app, scored);
  CompareArguments comparison;
  bool healthy = true, complete = true;
  add_compare(app, comparison, complete);
  bool analytic = false;
  std::string figures, checked_reward;
  std::vector<std::string> check_settings;
  DeviceOptions check_device;
  auto* check_command = app.add_subcommand(
      "check", "prove this installation: kernels against plain twins, a gradient check");
  auto* analytic_flag = check_command->add_flag(
      "--analytic", analytic, "hold every method against closed forms instead (about a minute)");
  check_command->add_option("--figures", figures, "folder for the analytic suite's figures")
      ->needs(analytic_flag);
  check_command->add_option("--device", check_device.device, "auto, cpu, cuda or cuda:N")
      ->capture_default_str()
      ->excludes(analytic_flag);
  auto* reward_option =
      check_command
          ->add_option("--reward", checked_reward,
                       "hold a reward against stored scores and differences instead")
          ->excludes(analytic_flag);
  check_command->add_option("settings", check_settings, "key=value settings of --reward")
      ->needs(reward_option);
  check_command->footer("Settings of --reward:\n" + check_reward_help());
  check_command->callback([&] {
    healthy = analytic                  ? check_analytic(figures)
              : !checked_reward.empty() ? check_reward(checked_reward, check_settings)
                                        : check(check_device);
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e);
  }
  return healthy && complete ? 0 : 1;
}

// Tensors come and go every step: keep their pages instead of returning them to the system each
// time. Those of 32 MiB and more, a large decoder's, are mapped on their own: in the heap they
// leave holes of gigabytes, and the work on them is long against new pages.
void keep_pages() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 2000 << 20);
  mallopt(M_TOP_PAD, 64 << 20);
}

}  // namespace
}  // namespace vggflow::cli

int main(int argc, char** argv) {
  vggflow::cli::keep_pages();
  vggflow::refuse_changed_numbers();
  try {
    return vggflow::cli::run(argc, argv);
  } catch (const vggflow::Interrupted&) {
    return 130;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "vggflow: %s\n", vggflow::error_text(e).c_str());
    return 1;
  }
}
