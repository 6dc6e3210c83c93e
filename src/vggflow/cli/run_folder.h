#pragma once
// What commands with a run folder or a device do first.

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/core/shell_word.h"
#include "vggflow/device/device.h"

namespace vggflow::cli {

/// The device of a command, for as long as the value lives; says in the log which one it is.
inline std::unique_ptr<DeviceScope> open_device(const DeviceOptions& options) {
  auto scope = std::make_unique<DeviceScope>(options);
  log_info("device: {}", scope->description());
  return scope;
}

/// What Ctrl-C says at once in commands that train.
inline constexpr const char* kStopping =
    "stopping after this update, which is saved; Ctrl-C again ends now";

/// Throws where `file`, the settings of a run that is to go on, lies in another folder than the run
/// that it names: the folder was moved, and the settings lead back to the old place.
inline void check_not_moved(const std::string& file, const std::string& run) {
  const std::filesystem::path settings = file, folder = settings.parent_path();
  std::error_code ignored;
  if (settings.filename() != "config.yaml" || !std::filesystem::exists(folder / "log.txt") ||
      std::filesystem::equivalent(folder, run, ignored))
    return;
  fail(
      "[resume] {} is the configuration of the run in {}, but says run={}: the folder was moved or "
      "copied. To go on where it is now, pass run={} too",
      file, folder.string(), run, shell_word(folder.string()));
}

}  // namespace vggflow::cli
