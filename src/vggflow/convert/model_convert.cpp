#include "vggflow/convert/model_convert.h"

#include <fmt/format.h>

#include <optional>

#include "vggflow/core/error.h"

namespace vggflow {

namespace {

std::optional<at::ScalarType> dtype_of(CopyFormat format) {
  switch (format) {
    case CopyFormat::kKeep:
      return std::nullopt;
    case CopyFormat::kFp32:
      return at::kFloat;
    case CopyFormat::kFp16:
      return at::kHalf;
    case CopyFormat::kBf16:
      return at::kBFloat16;
  }
  fail("[convert] no such number format");
}

}  // namespace

std::string convert_model(const ConvertOptions& o) {
  const WrittenModel seen = write_model(o.files, o.out, {.dtype = dtype_of(o.dtype)});
  return fmt::format(
      "wrote {}: {}, {} tensors ({}), {}; read back exactly", o.out, seen.layout, seen.tensors,
      fmt::join(seen.components, ", "),
      o.dtype == CopyFormat::kKeep ? "each number format as it was" : word_of(o.dtype));
}

}  // namespace vggflow
