#pragma once
// Command lines and settings that cannot be understood: the program ends with another exit code
// than after a failure of its work.

#include "vggflow/core/error.h"

namespace vggflow {

class UsageError : public Error {
 public:
  using Error::Error;
};

}  // namespace vggflow
