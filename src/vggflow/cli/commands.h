#pragma once
// The commands of the binary: each parses its arguments and makes one call into the libraries.

#include <string>
#include <vector>

namespace vggflow {
struct ConvertOptions;
struct DeviceOptions;
struct ExportOptions;
struct ScoreOptions;
}  // namespace vggflow

namespace vggflow::cli {

/// Arguments that every configured command takes: --config FILE and key=value overrides.
struct ConfigArguments {
  std::string file;
  std::vector<std::string> overrides;
};

/// Encodes photographs into the latents that a flow model is trained on.
void prepare(const ConfigArguments& arguments);
void pretrain(const ConfigArguments& arguments);
void align(const ConfigArguments& arguments);
void sample(const ConfigArguments& arguments);
void eval(const ConfigArguments& arguments);
void sweep(const ConfigArguments& arguments);
/// Compares two sets of images; arguments that are no settings are the sets.
void metrics(const ConfigArguments& arguments);
/// The report of one run, or a Markdown comparison of several.
void report(const std::vector<std::string>& runs);

struct CompareArguments {
  std::string file;
  std::vector<std::string> settings;
  bool dry_run = false, report_only = false;
};
/// Runs methods x settings x seeds and writes one report; returns whether every run is finished.
bool compare(const CompareArguments& arguments);
struct PlanArguments {
  ConfigArguments config;
  bool json = false;
  double gflops = 0;  ///< rate of this machine's products; 0: measured
};
/// What a run of `align` with these settings will need, before anything is loaded.
void plan(const PlanArguments& arguments);
/// A LoRA in another program's layout, or merged into a model folder (convert/lora_export.h).
void export_command(const ExportOptions& options);
/// A Stable Diffusion 3 model in another layout or number format (convert/sd3_write.h).
void convert_command(const ConvertOptions& options);
/// Scores of images by rewards, as JSON lines and as a sheet (eval/score.h).
void score(const ScoreOptions& options);
/// Its settings.
std::string score_help();
/// What is in a safetensors file or a model folder.
void inspect(const std::string& path);
/// Proves the installation on a device; returns whether everything held.
bool check(const DeviceOptions& device);
/// Holds every method against closed forms, prints each claim's numbers and their bounds, and
/// writes the figures to a folder unless it is empty; returns whether everything held.
bool check_analytic(const std::string& figures);
/// Asks of a reward what rewards promise, and prints the table; returns whether everything held.
/// Settings are key=value.
bool check_reward(const std::string& name, const std::vector<std::string>& settings);
/// The settings of check_reward.
std::string check_reward_help();

}  // namespace vggflow::cli
