#pragma once
// What all configured commands do first: read the settings, make the run folder, save the effective
// configuration.

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/cli/commands.h"
#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/device/device.h"
#include "vggflow/eval/run.h"
#include "vggflow/io/files.h"

namespace vggflow::cli {

template <class Config>
void read_config(Config& config, const ConfigArguments& arguments) {
  if (!arguments.file.empty()) load_yaml(fields_of(config), arguments.file);
  for (const std::string& o : arguments.overrides) apply_override(fields_of(config), o);
}

/// Settings that are no part of what a run is: a resume may change them. A run that was begun on a
/// GPU may go on on a CPU, and back; its numbers then differ by rounding.
inline bool may_change(const std::string& key) {
  return key == "resume" || key == "run" || key == "threads" || key == "device" ||
         key == "deterministic" || key == "tf32" || key == "kernels" || key == "checkpoint_every" ||
         key == "eval_every" || key == "fit.log_every" || key == "fit.preview_every" ||
         key == "fit.checkpoint_every";
}

/// Throws when a resumed run was started with other settings, naming them.
template <class Config>
void check_same_settings(Config& config, const std::filesystem::path& saved) {
  Config before;
  load_yaml(fields_of(before), saved);
  std::vector<std::string> changed;
  for (const std::string& key : differences(fields_of(config), fields_of(before))) {
    if (!may_change(key)) changed.push_back(key);
  }
  VGGFLOW_CHECK(changed.empty(),
                "[resume] {} was started with other settings: {} differ. Start a new run, or leave "
                "them as they were",
                saved.parent_path().string(), fmt::join(changed, ", "));
}

/// The device of a command, for as long as the value lives; says in the log which one it is.
inline std::unique_ptr<DeviceScope> open_device(const DeviceOptions& options) {
  auto scope = std::make_unique<DeviceScope>(options);
  log_info("device: {}", scope->description());
  return scope;
}

/// Makes the folder config.run and saves config.yaml there. A folder that already holds a run is
/// refused unless config.resume is set, and then the settings must be the same.
template <class Config>
void open_run(Config& config) {
  const std::filesystem::path run = config.run, saved = run / "config.yaml";
  if (std::filesystem::exists(saved)) {
    VGGFLOW_CHECK(config.resume,
                  "[run] {} already holds a run. Choose another folder with run=..., or go on with "
                  "resume=true",
                  run.string());
    check_same_settings(config, saved);
  }
  make_writable_folder(run);
  open_log(run / "log.txt");
  write_text(saved, to_yaml(fields_of(config)));
  set_threads(config.threads);
  catch_interrupts();
}

}  // namespace vggflow::cli
