#pragma once
// What a user does next with a run and its adapters, as commands to copy.

#include <filesystem>
#include <string>
#include <vector>

#include "vggflow/train/align_config.h"

namespace vggflow {

struct NextCommand {
  std::string what;     ///< for people
  std::string command;  ///< with quotes where the shell needs them
};

/// Draw images with `lora`, try its strengths, write it for ComfyUI. Settings of the run that
/// differ from the commands' defaults are passed on. `prompts`: some to draw; none are named where
/// the model brings its own.
std::vector<NextCommand> next_commands(const AlignConfig& config, const std::filesystem::path& lora,
                                       const std::vector<std::string>& prompts);

/// Goes on with the run in folder `run`, which its settings may name otherwise where it was moved.
std::string resume_command(AlignConfig config, const std::filesystem::path& run);

}  // namespace vggflow
