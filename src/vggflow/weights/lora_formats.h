#pragma once
// LoRA files in the layouts of diffusers, PEFT and kohya/ComfyUI (docs/lora.md has the key tables).
// One rule: every file that is written has alpha = rank, the trained scale folded into B, and every
// tensor of a file that is read has its place or is an error. The names of a network's layers are
// its family's; families/lora.h has these functions with those of all families.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/nn/lora.h"
#include "vggflow/weights/lora_names.h"

namespace vggflow {

enum class LoraLayout {
  kDiffusers,  ///< one file, "transformer.<path>.lora_A.weight", settings in the header entry
               ///< lora_adapter_metadata
  kPeft,       ///< a folder: adapter_config.json, adapter_model.safetensors with
               ///< "base_model.model.<path>.lora_A.weight"
  kKohya       ///< one file by the original network's names with q, k, v fused:
               ///< "lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight"
};

/// "diffusers", "peft", "kohya".
const char* name_of(LoraLayout layout);
/// "fp32", "fp16", "bf16".
const char* name_of(at::ScalarType dtype);

/// The number format of a file that is written.
enum class NumberFormat { kFp32, kFp16, kBf16 };
inline OptionWords<NumberFormat> option_words(NumberFormat) {
  return {
      {"fp32", NumberFormat::kFp32}, {"fp16", NumberFormat::kFp16}, {"bf16", NumberFormat::kBf16}};
}
at::ScalarType dtype_of(NumberFormat format);

/// What becomes of a LoRA's adapters of text encoders, which are not adapted here.
enum class TextAdapters {
  kRefuse,  ///< an error that names them
  kSkip     ///< left out, and listed in the log
};
inline OptionWords<TextAdapters> option_words(TextAdapters) {
  return {{"refuse", TextAdapters::kRefuse}, {"skip", TextAdapters::kSkip}};
}

/// What a LoRA file says, by the paths of diffusers' modules.
struct LoraFile {
  LoraLayout layout = LoraLayout::kDiffusers;
  std::vector<LoraLayer> layers;  ///< fp32, sorted by path
  Metadata metadata;              ///< of the safetensors header
  size_t tensors = 0;             ///< in the file; alpha counts
  /// Whether every B is zero: the adapter changes nothing yet.
  bool fresh() const;
};

/// Reads a file or folder of any layout, told apart by its keys. Rank and targets come from the
/// tensors; alpha from ".alpha" tensors, the header's lora_adapter_metadata or adapter_config.json,
/// else it is the rank. A fused q/k/v adapter becomes three: exact parts where its `up` is
/// block-diagonal, else three that share `down` at the full rank. One error lists every tensor that
/// has no place.
LoraFile read_lora(const LoraNames& names, const std::filesystem::path& path,
                   TextAdapters text = TextAdapters::kRefuse);

/// The file of tensors in a folder that PEFT or diffusers wrote; none where it is no such folder.
std::optional<std::filesystem::path> lora_file_in(const std::filesystem::path& folder);

/// A denoiser's output with adapters merged (none: the base), for a fixed input.
using Denoiser = std::function<Tensor(const std::vector<LoraLayer>&)>;

/// What the load-back check saw.
struct LoadBack {
  size_t tensors = 0, layers = 0;
  double worst_layer =
      0;  ///< largest relative error of an adapted layer's low-rank output on random inputs
  double denoiser_error = 0;   ///< the same of the denoiser's output, where one was given
  double denoiser_change = 0;  ///< relative change of the denoiser's output from the base's
  bool fresh = false;
};

/// Largest |got - want| over the largest |want|.
double largest_relative_error(const Tensor& got, const Tensor& want);

/// Bound of a layer's relative error: rounding A and B costs each entry half a unit in the last
/// place. The denoiser's is five times it.
double load_back_tolerance(at::ScalarType dtype);

/// Bound of the relative error that rounding may make in the network's output, where the layers'
/// errors add up: five times load_back_tolerance.
double denoiser_tolerance(at::ScalarType dtype);

/// Writes `layers` (file, or folder for PEFT) with A and B rounded to fp32, fp16 or bf16 once, and
/// checks it by reading it back.
LoadBack write_lora(const LoraNames& names, const std::filesystem::path& path,
                    const std::vector<LoraLayer>& layers, LoraLayout layout, at::ScalarType dtype,
                    const Metadata& metadata = {}, const Denoiser& denoiser = {});

/// Reads `path` and holds it against `layers`: `tensors` tensors, every layer's low-rank output on
/// random inputs, and the denoiser's output where one is given; an adapter that is not fresh must
/// change something. An error names what differs.
LoadBack check_load_back(const LoraNames& names, const std::filesystem::path& path,
                         const std::vector<LoraLayer>& layers, size_t tensors, at::ScalarType dtype,
                         const Denoiser& denoiser = {});

}  // namespace vggflow
