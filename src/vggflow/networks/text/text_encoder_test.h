#pragma once
// What the tests of the text encoders share: the values of
// tools/reference/text_encoder_reference.py, and copies of its tiny model folder that a test may
// change.

#include <filesystem>
#include <string>

#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow::testing {

/// Values of one variant: "quick" and "gelu" of CLIP, "t5" and "t5_far".
class TextEncoderReference {
 public:
  explicit TextEncoderReference(const std::string& variant)
      : variant_(variant), file_(models_testdata("text_encoder_reference.safetensors")) {}
  Tensor get(const std::string& name) const { return file_.load(variant_ + "." + name); }
  /// transformers' state dict.
  ComponentWeights weights() const { return weights_under(file_, variant_ + ".weights."); }

 private:
  std::string variant_;
  SafetensorsFile file_;
};

/// One component of the tiny model, "text_encoder", in a folder of the test's own.
class ComponentCopy {
 public:
  explicit ComponentCopy(const std::string& component) {
    std::filesystem::copy(models_testdata("sd3_tiny") / component, folder_.path());
  }
  const std::filesystem::path& path() const { return folder_.path(); }
  std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }
  /// Its weights, to be changed and written again.
  TensorList tensors() const {
    TensorList all;
    for (const auto& [name, tensor] : open_component(path()).tensors)
      all.emplace_back(name, tensor.clone());
    return all;
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace vggflow::testing
