#pragma once
// The alignment run: updates of the policy's LoRA (and of the value network) by one of the methods,
// evaluation, logs, checkpoints.

#include "vggflow/dist/group.h"
#include "vggflow/train/align_config.h"
#include "vggflow/train/checks.h"
#include "vggflow/train/run_control.h"

namespace vggflow {

/// How a run ended.
enum class RunEnd {
  kFinished,        ///< all updates are done; the LoRAs and summary.json are written
  kInterrupted,     ///< by Ctrl-C or SIGTERM, after saving
  kFinishedBefore,  ///< resume=true on a run with all its updates and summary: nothing was touched
};

/// Runs the alignment in the folder config.run, which it makes and locks (train/run_folder.h). With
/// config.init_lora set, lora_rank, lora_alpha and lora_targets become those of that file. Throws
/// Error where a setting, a model, a reward or a prompt file is refused (`check` is asked, too),
/// before there is a folder or taking it away again. config.shares becomes the run's. All processes
/// of `group` call it with the same settings; rank 0 alone writes, but for log.rankN.txt of each
/// other one. Processes that were started again go on with the run that they began. `control` is
/// rank 0's, where there is one.
RunEnd align(AlignConfig& config, const Group& group = {}, const RunCheck& check = {},
             RunControl* control = nullptr);

}  // namespace vggflow
