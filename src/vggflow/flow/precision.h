#pragma once
// The number format of frozen weights and matrix products.

#include <c10/core/ScalarType.h>

#include "vggflow/core/field.h"

namespace vggflow {

enum class Precision {
  kAuto,  ///< fast_dtype
  kBf16,
  kFp32
};
inline OptionWords<Precision> option_words(Precision) {
  return {{"auto", Precision::kAuto}, {"bf16", Precision::kBf16}, {"fp32", Precision::kFp32}};
}

/// bf16 where the current device multiplies it in hardware, else fp32.
at::ScalarType fast_dtype();
at::ScalarType precision_dtype(Precision precision);

}  // namespace vggflow
