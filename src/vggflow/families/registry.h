#pragma once
// The families of flow models, a row each: a family is its folder and one row of registry.cpp.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/families/open_model.h"
#include "vggflow/flow/model_shape.h"
#include "vggflow/weights/lora_names.h"
#include "vggflow/weights/merged_model.h"

namespace vggflow {

struct Family {
  std::string name;
  std::string sign;  ///< for errors: what a folder of it holds, such as "vocabulary.txt (nano)"
  /// Whether a model's path is of this family; the first row that claims it has it.
  bool (*claims)(const std::filesystem::path& path);
  /// The model under these settings. `opened` is null, or the same model under others, whose files
  /// are taken.
  std::shared_ptr<const FamilyModel> (*model)(const ModelOptions& options,
                                              const FamilyModel* opened);
  /// Throws for settings that the family would ignore.
  void (*check)(const ModelOptions& options) = [](const ModelOptions&) {};
  /// Whether its models bring captions and a judge of their own.
  bool (*has_own_prompts)(const std::filesystem::path& path) = [](const auto&) { return false; };
  /// Writes the model's files again, checked by reading them back, and tells what was seen. Throws
  /// where `out` exists or the copy would not be what was meant; then nothing is left behind.
  WrittenModel (*write)(const ModelOptions& options, const std::filesystem::path& out,
                        const ModelCopy& copy) = nullptr;
  /// How its network's linear layers are called, where no other row says it.
  LoraNameTable lora_names = {};
};

/// Those of this program, and before them those that were added.
const std::vector<Family>& families();

/// Adds a family to this process, for tests and for programs that bring their own; before anything
/// else asks for models.
void add_family(const Family& family);

/// The family of a path; null where none claims it.
const Family* family_of(const std::filesystem::path& path);

}  // namespace vggflow
