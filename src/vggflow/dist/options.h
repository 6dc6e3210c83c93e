#pragma once
// The settings of commands that may run in many processes.

#include "vggflow/core/field.h"

namespace vggflow {

/// How what lies on GPUs is gathered. Small messages go through Gloo always.
enum class Backend {
  kAuto,  ///< NCCL where each rank has a GPU of its own, else Gloo
  kGloo,  ///< through the hosts' memory
  kNccl   ///< from GPU to GPU
};
inline OptionWords<Backend> option_words(Backend) {
  return {{"auto", Backend::kAuto}, {"gloo", Backend::kGloo}, {"nccl", Backend::kNccl}};
}

/// How the processes of a command wait for one another.
struct DistOptions {
  double timeout = 600;
  Backend backend = Backend::kAuto;

  template <class V>
  void fields(V& v) {
    v("timeout", timeout,
      "timeout in seconds after which a process that others wait for is considered dead, at the "
      "start and later",
      range(1, 1e6));
    v("backend", backend,
      "communication of gradients and sharded weights between GPUs: nccl (GPU to GPU, one GPU per "
      "process), gloo (through host memory), or auto: nccl if available");
  }
};

}  // namespace vggflow
