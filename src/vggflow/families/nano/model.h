#pragma once
// The nano model: a word encoder and an MMDiT, in one folder with its vocabulary. Its states are
// pixels, or latents that TAESD3 decodes; the decoder's weights are not in the folder, which names
// them by their hash.

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/families/nano/word_encoder.h"
#include "vggflow/families/sd3/mmdit_network.h"
#include "vggflow/networks/autoencoders/taesd.h"
#include "vggflow/text/vocabulary.h"

namespace vggflow {

/// What makes images of states.
enum class NanoDecoder {
  kNone,  ///< nothing: states are images
  kTaesd3
};
inline OptionWords<NanoDecoder> option_words(NanoDecoder) {
  return {{"none", NanoDecoder::kNone}, {"taesd3", NanoDecoder::kTaesd3}};
}

struct NanoOptions {
  int64_t text_width = 96;
  NanoDecoder decoder = NanoDecoder::kNone;
  std::string decoder_hash = {};
  MmditOptions network;

  template <class V>
  void fields(V& v) {
    v("text_width", text_width,
      "channels of a word embedding; network.context_dim and pooled_dim must equal it");
    v("decoder", decoder, "decoder of the states: none (states are images), or taesd3");
    v("decoder_hash", decoder_hash, "of the decoder's weights that the model was trained for");
    v.section("network", network);
  }
};

class NanoModel : public Module, public OnMmdit<FlowModel> {
 public:
  NanoModel(const NanoOptions& options, Vocabulary vocabulary);
  /// Whether the folder holds a nano model.
  static bool is_folder(const std::filesystem::path& folder);
  /// Reads config.yaml, vocabulary.txt and model.safetensors. Parameters are frozen, in `dtype`.
  static std::unique_ptr<NanoModel> load(const std::filesystem::path& folder, at::ScalarType dtype);
  /// Writes the same three files into `folder`, weights in `dtype`.
  void save(const std::filesystem::path& folder, const std::map<std::string, std::string>& metadata,
            at::ScalarType dtype = at::kBFloat16);
  void init(uint64_t seed);
  /// Loads the decoder that the options name, from `taesd` (taesd_folder); before the first
  /// decode() of a model that has one. Other weights than those that it was trained for are
  /// refused.
  void open_decoder(const std::string& taesd);

  Mmdit& mmdit() override { return transformer; }
  const Mmdit& mmdit() const override { return transformer; }
  Conditioning encode(const std::vector<std::string>& captions) const override;
  Conditioning unconditional(int64_t count) const override;
  std::vector<int64_t> state_shape() const override;
  Tensor decode(const Tensor& x1) const override { return decoded(x1); }
  Dual decode(const Dual& x1) const override { return decoded(x1); }
  std::string description() const override;

  NanoOptions options;
  Vocabulary vocabulary;
  WordEncoder text;
  Mmdit transformer;

 private:
  template <TensorLike T>
  T decoded(const T& x1) const;
  std::unique_ptr<TaesdDecoder> decoder_;
};

}  // namespace vggflow
