#pragma once
// The alignment run: updates of the policy's LoRA (and of the value network) by one of the methods,
// evaluation, logs, checkpoints.

#include <functional>

#include "vggflow/flow/model_shape.h"
#include "vggflow/train/align_config.h"

namespace vggflow {

/// How a run ended.
enum class RunEnd {
  kFinished,        ///< all updates are done; the LoRAs and summary.json are written
  kInterrupted,     ///< by Ctrl-C or SIGTERM, after saving
  kFinishedBefore,  ///< resume=true on a finished run: nothing was touched
};

/// A further refusal of a run, before anything is loaded: throws.
using RunCheck = std::function<void(const AlignConfig&, const ModelShape&)>;

/// Runs the alignment in the folder config.run, which it makes and locks (train/run_folder.h). With
/// config.init_lora set, lora_rank, lora_alpha and lora_targets become those of that file. Throws
/// Error where a setting, a model, a reward or a prompt file is refused (`check` is asked, too),
/// before there is a folder or taking it away again.
RunEnd align(AlignConfig& config, const RunCheck& check = {});

}  // namespace vggflow
