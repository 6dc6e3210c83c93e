#pragma once
// The settings of a run as its folder has them.

#include <filesystem>
#include <string>

#include "vggflow/io/jsonl.h"
#include "vggflow/train/align_config.h"

namespace vggflow {

struct RunSettings {
  AlignConfig config;
  /// Those that are not the default: [{"key", "value", "default"}].
  Json changed = Json::array();
  std::string problem = "there is no config.yaml yet";  ///< why there are none; empty: none
  std::string resume;                                   ///< the command that goes on with the run
};

/// Of `text`, the config.yaml of the run in folder `run`. One that does not read gives a problem.
RunSettings read_run_settings(const std::filesystem::path& run, const std::string& text);

}  // namespace vggflow
