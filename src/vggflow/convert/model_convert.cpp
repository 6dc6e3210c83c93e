#include "vggflow/convert/model_convert.h"

#include <fmt/format.h>

#include <optional>

#include "vggflow/weights/lora_formats.h"

namespace vggflow {

std::string convert_model(const ConvertOptions& o) {
  const bool keep = o.dtype == "keep";
  const WrittenModel seen = write_model(
      o.files, o.out, {.dtype = keep ? std::nullopt : std::optional(dtype_of(o.dtype))});
  return fmt::format("wrote {}: {}, {} tensors ({}), {}; read back exactly", o.out, seen.layout,
                     seen.tensors, fmt::join(seen.components, ", "),
                     keep ? "each number format as it was" : o.dtype);
}

}  // namespace vggflow
