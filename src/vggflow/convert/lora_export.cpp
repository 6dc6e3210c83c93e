#include "vggflow/convert/lora_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/families/open_model.h"
#include "vggflow/flow/network_probe.h"
#include "vggflow/io/staged_output.h"

namespace vggflow {
namespace {

std::string export_merged(const ExportOptions& options, const LoraFile& lora) {
  VGGFLOW_CHECK(!options.base.model.empty(),
                "[export] format merged needs the base model: pass --model FOLDER");
  Metadata metadata = lora.metadata;
  metadata.erase("lora_adapter_metadata");
  metadata["vggflow.merged_lora"] = std::filesystem::path(options.lora).filename();
  const WrittenModel seen = write_model(
      options.base, options.out,
      {.dtype = dtype_of(options.dtype), .adapters = lora.layers, .metadata = metadata});
  return fmt::format(
      "wrote {}: model with {} layers merged, {}; weights read back exactly, rounding moves a "
      "layer's change by at most {:.1e} of it ('{}'), the network's output by {:.1e}",
      options.out, lora.layers.size(), word_of(options.dtype), seen.worst_rounding, seen.worst_name,
      seen.output_error);
}

std::string export_layout(const ExportOptions& options, const LoraFile& lora, LoraLayout layout) {
  if (layout == LoraLayout::kPeft) expect_folder_name(options.out, "PEFT's layout");
  StagedOutput staged(options.out);
  const auto model =
      options.base.model.empty() ? nullptr : open_flow_model(options_of(options.base));
  const Denoiser denoiser = [&](const auto& adapters) { return probe_velocity(*model, adapters); };
  const LoadBack seen = write_lora(staged.path(), lora.layers, layout, dtype_of(options.dtype),
                                   lora.metadata, model ? denoiser : Denoiser{});
  staged.commit();
  std::string line = fmt::format(
      "wrote {}: {}, {}, {} tensors, {} layers{}; read back, the layers' outputs differ by at most "
      "{:.1e}",
      options.out, word_of(options.format), word_of(options.dtype), seen.tensors, seen.layers,
      seen.fresh ? ", fresh (changes nothing)" : "", seen.worst_layer);
  if (model)
    line += fmt::format(", the network's output by {:.1e} (the adapter changes it by {:.1e})",
                        seen.denoiser_error, seen.denoiser_change);
  return line;
}

}  // namespace

std::string export_lora(const ExportOptions& options) {
  VGGFLOW_CHECK(!std::filesystem::exists(options.out),
                "[export] {} exists already: choose another name or remove it", options.out);
  const LoraFile lora = read_lora(options.lora, options.lora_text_encoders);
  switch (options.format) {
    case ExportFormat::kDiffusers:
      return export_layout(options, lora, LoraLayout::kDiffusers);
    case ExportFormat::kPeft:
      return export_layout(options, lora, LoraLayout::kPeft);
    case ExportFormat::kKohya:
      return export_layout(options, lora, LoraLayout::kKohya);
    case ExportFormat::kMerged:
      return export_merged(options, lora);
  }
  fail("[export] no such format");
}

}  // namespace vggflow
