#include "vggflow/io/weights_file.h"

#include <string>
#include <string_view>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/foreign_file.h"
#include "vggflow/io/mapped_file.h"
#include "vggflow/io/torch_pickle.h"

namespace vggflow {
namespace fs = std::filesystem;

WeightsFile read_weights(const fs::path& file) {
  const auto bytes = MappedFile::open(file, "weights");
  WeightsFile out;
  if (looks_like_torch({bytes->data(), bytes->size()})) {
    for (auto& [name, tensor] : read_torch_pickle(bytes)) out.tensors[name] = tensor;
  } else {
    const SafetensorsFile safetensors(bytes);
    out = {safetensors.views(), safetensors.metadata()};
  }
  std::vector<std::string> names;
  for (const auto& [name, tensor] : out.tensors) names.push_back(name);
  const std::string quantised = quantised_kind(names);
  VGGFLOW_CHECK(quantised.empty(), "[weights] {} holds quantised weights, {}", file.string(),
                quantised);
  return out;
}

WeightsListing list_weights(const fs::path& file) {
  const auto bytes = MappedFile::open(file, "weights");
  WeightsListing out;
  if (looks_like_torch({bytes->data(), bytes->size()})) {
    for (const auto& [name, tensor] : read_torch_pickle(bytes))
      out.tensors.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
    return out;
  }
  const SafetensorsFile safetensors(bytes);
  for (const auto& [name, entry] : safetensors.tensors())
    out.tensors.push_back({name, entry.dtype, entry.shape});
  out.metadata = safetensors.metadata();
  return out;
}

}  // namespace vggflow
