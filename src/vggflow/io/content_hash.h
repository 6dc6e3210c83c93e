#pragma once
// A hash of weights: figures made with different weights must not be compared.

#include <string>
#include <string_view>

#include "vggflow/io/safetensors.h"

namespace vggflow {

/// 64 bits in hexadecimal over names, dtypes, shapes and every byte of the tensors, in the order of
/// their names: FNV-1a over words of eight bytes. The same tensors in another file or layout in
/// memory have the same hash. Not cryptographic.
std::string content_hash(const TensorMap& tensors);
/// The same of bytes, their number among them: any flipped bit changes it.
std::string bytes_hash(std::string_view bytes);

}  // namespace vggflow
