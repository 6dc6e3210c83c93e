#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <string_view>

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/core/error.h"
#include "vggflow/core/result.h"
#include "vggflow/io/weights_file.h"

namespace vggflow::cli {
namespace {

// The endings under which weights are saved. A folder holds other files too: only these are opened.
constexpr std::array<std::string_view, 5> kWeights{".safetensors", ".bin", ".pt", ".pth", ".ckpt"};

bool is_weights_name(const std::filesystem::path& file) {
  return std::find(kWeights.begin(), kWeights.end(), file.extension().string()) != kWeights.end();
}

void inspect_file(const std::filesystem::path& path) {
  const WeightsListing file = list_weights(path);
  int64_t parameters = 0;
  print_result(path.string());
  for (const auto& [key, value] : file.metadata) {
    print_result(
        fmt::format("  {}: {}", key, value.size() > 120 ? value.substr(0, 117) + "..." : value));
  }
  for (const WeightsListing::Item& item : file.tensors) {
    int64_t count = 1;
    for (const int64_t d : item.shape) count *= d;
    parameters += count;
    print_result(fmt::format("  {:<70} {:<9} ({})", item.name, c10::toString(item.dtype),
                             fmt::join(item.shape, ", ")));
  }
  print_result(fmt::format("  {} tensors, {} numbers", file.tensors.size(), parameters));
}

struct InspectConfig {
  std::string path;
  template <class V>
  void fields(V& v) {
    v("path", path,
      "a file of weights (safetensors, or of torch.save), a model folder or a run folder");
  }
};

void inspect_path(const std::string& path) {
  if (!std::filesystem::is_directory(path)) return inspect_file(path);
  bool any = false;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    if (!entry.is_regular_file() || !is_weights_name(entry.path())) continue;
    inspect_file(entry.path());
    any = true;
  }
  VGGFLOW_CHECK(any,
                "[inspect] {} holds no file of weights ({}): expected a model folder, a run folder "
                "or a file",
                path, fmt::join(kWeights, ", "));
}

}  // namespace

int inspect(const Call& call) {
  InspectConfig config;
  if (!read_settings(call, {.positionals = {{"path"}}, .required = {"path"}}, config)) return kDone;
  inspect_path(config.path);
  return kDone;
}

}  // namespace vggflow::cli
