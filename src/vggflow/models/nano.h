#pragma once
// The nano model: a word encoder and an MMDiT in pixel space, in one folder with its vocabulary.

#include <filesystem>
#include <map>
#include <memory>

#include "vggflow/models/flow_model.h"
#include "vggflow/models/word_encoder.h"
#include "vggflow/text/vocabulary.h"

namespace vggflow {

struct NanoOptions {
  int64_t text_width = 96;
  MmditOptions network;

  template <class V>
  void fields(V& v) {
    v("text_width", text_width, "channels of a word embedding; network.context_dim and pooled_dim must equal it");
    v.section("network", network);
  }
};

class NanoModel : public Module, public FlowModel {
 public:
  NanoModel(const NanoOptions& options, Vocabulary vocabulary);
  /// Whether the folder holds a nano model.
  static bool is_folder(const std::filesystem::path& folder);
  /// Reads config.yaml, vocabulary.txt and model.safetensors. Parameters are frozen, in `dtype`.
  static std::unique_ptr<NanoModel> load(const std::filesystem::path& folder, at::ScalarType dtype);
  /// Writes the same three files into `folder`, weights in `dtype`.
  void save(const std::filesystem::path& folder, const std::map<std::string, std::string>& metadata, at::ScalarType dtype = at::kBFloat16);
  void init(uint64_t seed);

  Mmdit& network() override { return transformer; }
  const Mmdit& network() const override { return transformer; }
  Conditioning encode(const std::vector<std::string>& captions) const override;
  Conditioning unconditional(int64_t count) const override;
  std::vector<int64_t> state_shape() const override;
  /// Its states are the images.
  Tensor decode(const Tensor& x1) const override { return x1; }
  Dual decode(const Dual& x1) const override { return x1; }

  NanoOptions options;
  Vocabulary vocabulary;
  WordEncoder text;
  Mmdit transformer;
};

}  // namespace vggflow
