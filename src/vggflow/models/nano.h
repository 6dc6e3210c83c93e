#pragma once
// The nano model: a word encoder and an MMDiT in pixel space, in one folder with its vocabulary.

#include <filesystem>
#include <map>
#include <memory>

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

class NanoModel : public Module {
 public:
  NanoModel(const NanoOptions& options, Vocabulary vocabulary);
  /// Reads config.yaml, vocabulary.txt and model.safetensors. Parameters are frozen, in `dtype`.
  static std::unique_ptr<NanoModel> load(const std::filesystem::path& folder, at::ScalarType dtype);
  /// Writes the same three files into `folder`, weights in `dtype`.
  void save(const std::filesystem::path& folder, const std::map<std::string, std::string>& metadata, at::ScalarType dtype = at::kBFloat16);
  void init(uint64_t seed);

  Conditioning encode(const std::vector<std::string>& captions) const;
  /// `count` rows of the empty caption.
  Conditioning unconditional(int64_t count) const;

  NanoOptions options;
  Vocabulary vocabulary;
  WordEncoder text;
  Mmdit transformer;
};

/// bf16 where the processor multiplies it in hardware, else fp32.
at::ScalarType fast_dtype();
/// dtype of the setting "auto" (fast_dtype), "bf16" or "fp32".
at::ScalarType precision_dtype(const std::string& precision);

/// The flow's velocity v = -u(x, 1000 (1 - t)) of a prompt batch with classifier-free guidance,
/// v = v_unc + w (v_con - v_unc); w = 1 runs the conditional branch alone.
class GuidedVelocity {
 public:
  /// `conditioning` has one row a sample.
  GuidedVelocity(const Mmdit& network, Conditioning conditioning, Conditioning unconditional, double guidance,
                 bool detach_unconditional = true);
  /// x (B, C, S, S), t (B); both branches run as one batch unless the unconditional one is left out of the gradient.
  template <TensorLike T>
  T operator()(const T& x, const T& t) const;
  /// The same for a subset of the samples (row indices), x (M, ...), t (M).
  GuidedVelocity rows(const Tensor& indices) const;
  /// v_con, the conditional branch alone.
  Tensor conditional(const Tensor& x, const Tensor& t) const;
  void set_detach_unconditional(bool on) { detach_unconditional_ = on; }
  void set_guidance(double scale) { guidance_ = scale; }

 private:
  const Mmdit& network_;
  Conditioning conditioning_, unconditional_;
  double guidance_;
  bool detach_unconditional_;
};

}  // namespace vggflow
