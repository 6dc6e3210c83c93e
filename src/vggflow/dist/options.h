#pragma once
// The settings of commands that may run in many processes.

#include "vggflow/core/field.h"

namespace vggflow {

/// How the processes of a command wait for one another.
struct DistOptions {
  double timeout = 600;

  template <class V>
  void fields(V& v) {
    v("timeout", timeout,
      "seconds after which a process that others wait for counts as gone, at the start and later",
      range(1, 1e6));
  }
};

}  // namespace vggflow
