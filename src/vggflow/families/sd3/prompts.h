#pragma once
// Prompts as Stable Diffusion 3 takes them, put together as diffusers'
// StableDiffusion3Pipeline.encode_prompt does:
//
//   context = [ CLIP-L (77, 768) ++ CLIP-G (77, 1280), zeros up to D ]     pooled = CLIP-L (768) ++
//   CLIP-G (1280)
//             [ T5 (t5_tokens, D), or zeros where T5 is left out     ]
//
// so context is (B, 77 + t5_tokens, D). Results are kept in a folder; the encoders are loaded for
// the first prompt that is not there.

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vggflow/families/sd3/mmdit.h"
#include "vggflow/networks/clip/clip_text.h"
#include "vggflow/networks/text/t5_encoder.h"
#include "vggflow/text/clip_tokenizer.h"
#include "vggflow/text/t5_tokenizer.h"

namespace vggflow {

/// The encoders, owned: to destroy this is to free their memory.
struct Sd3TextEncoders {
  std::unique_ptr<ClipTextModel> clip_l, clip_g;
  std::unique_ptr<T5Encoder> t5;  ///< null: left out
};

struct Sd3PromptOptions {
  int64_t t5_tokens = 256;     ///< length of the T5 part, also where T5 is left out
  int64_t context_dim = 4096;  ///< D, the transformer's joint_attention_dim
  bool use_t5 = true;
  at::ScalarType dtype = at::kFloat;  ///< of weights, activations and results
  int64_t batch = 8;                  ///< prompts that go through the encoders at once
  std::filesystem::path cache = {};   ///< folder of results; empty: none are kept
  std::string variant = "";  ///< of the weights' files, such as "fp16"; see io/model_files.h
};

/// Opens the weights of "text_encoder", "text_encoder_2" or "text_encoder_3".
using OpenWeights = std::function<ComponentWeights(const std::string& component)>;

/// Embeddings, and what the caller should log of how they came about: what was cut (one warning for
/// all), which kept results were of no use.
struct Sd3Prompt {
  Conditioning embeddings;
  std::vector<std::string> warnings;
};

/// The prompt encoders of one SD3 model folder (tokenizer, tokenizer_2, tokenizer_3, text_encoder,
/// text_encoder_2, text_encoder_3).
class Sd3PromptEncoder {
 public:
  /// Reads the tokenizers and looks at the weights' files; the encoders themselves come later.
  /// `open` is for weights that lie elsewhere, as in a single-file checkpoint; without one they are
  /// in the folders of their configurations.
  Sd3PromptEncoder(const std::filesystem::path& folder, const Sd3PromptOptions& options,
                   OpenWeights open = {});

  /// One row a prompt, in their order; a prompt that comes twice is encoded once.
  Sd3Prompt encode(const std::vector<std::string>& prompts);
  /// Frees the encoders' memory; the next prompt that is not kept loads them again.
  void drop_encoders() { encoders_.reset(); }
  bool holds_encoders() const { return encoders_.has_value(); }

  /// How often encoders were loaded and prompts went through them.
  int64_t loads() const { return loads_; }
  int64_t encoded() const { return encoded_; }

 private:
  struct Ids {
    TokenizedPrompt clip_l, clip_g, t5;
  };
  Ids tokenize(const std::string& prompt,
               std::vector<std::string>& cuts) const;  ///< notes the encoders that cut it
  Conditioning run(std::span<const Ids> ids);
  const Sd3TextEncoders& encoders();
  std::filesystem::path entry(const std::string& prompt) const;
  std::optional<Conditioning> read_entry(const std::string& prompt,
                                         std::vector<std::string>& warnings) const;
  void write_entry(const std::string& prompt, const Conditioning& value) const;
  Conditioning checked_entry(const std::string& prompt) const;

  std::filesystem::path folder_;
  Sd3PromptOptions options_;
  OpenWeights open_;
  ClipTokenizer tokenizer_l_, tokenizer_g_;
  std::optional<T5Tokenizer> tokenizer_t5_;
  std::string weights_;  ///< where results are kept: of all weights, configurations and
                         ///< vocabularies, and of the options that decide about the result
  int64_t pooled_dim_ = 0;
  std::optional<Sd3TextEncoders> encoders_;
  int64_t loads_ = 0, encoded_ = 0;
};

/// Puts the encoders' results for B prompts together; t5 undefined: left out.
Conditioning sd3_conditioning(const ClipTextOutput& clip_l, const ClipTextOutput& clip_g,
                              const Tensor& t5, const Sd3PromptOptions& options);

}  // namespace vggflow
