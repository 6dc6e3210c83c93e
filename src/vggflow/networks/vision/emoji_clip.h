#pragma once
// emoji-clip: a two-tower contrastive image-text model (Radford et al. 2021) over emoji, the reward
// of the nano model. The image tower is a residual convolutional network with group norm and SiLU,
// smooth in its input; the text tower a bag of words.

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/nn/module.h"
#include "vggflow/text/vocabulary.h"

namespace vggflow {

struct EmojiClipOptions {
  int64_t pool = 2;  ///< mean over pool x pool pixels before the first layer
  std::vector<int64_t> widths{48, 96, 192};  ///< one stage each; all but the first halve the side
  int64_t text_width = 128;
  int64_t embedding = 128;

  template <class V>
  void fields(V& v) {
    v("pool", pool,
      "mean over pool x pool pixels before the first layer: keeps gradients out of the highest "
      "frequencies",
      range(1, 8));
    v("widths", widths, "channels of the image tower's stages; all but the first halve the side",
      range(8, 4096));
    v("text_width", text_width, "channels of a word embedding", range(1, 4096));
    v("embedding", embedding, "dimension of the common space", range(1, 4096));
  }
};

/// y = x + conv2(silu(norm2(conv1(silu(norm1(x)))))).
class ResidualBlock : public Module {
 public:
  explicit ResidualBlock(int64_t width);
  template <TensorLike T>
  T forward(const T& x) const;
  GroupNorm norm1, norm2;
  Conv2d conv1, conv2;
};

class EmojiClip : public Module {
 public:
  EmojiClip(const EmojiClipOptions& options, Vocabulary vocabulary);
  static std::unique_ptr<EmojiClip> load(const std::filesystem::path& folder);
  void save(const std::filesystem::path& folder,
            const std::map<std::string, std::string>& metadata);
  void init(uint64_t seed);

  /// Unit vectors (B, E) of images (B, 3, H, W) in [0, 1].
  template <TensorLike T>
  T embed_images(const T& images) const;
  /// Unit vectors (B, E) of token ids (B, T).
  Tensor embed_text(const Tensor& ids) const;
  /// exp(logit_scale), at most 100 as in CLIP.
  Tensor scale() const;

  EmojiClipOptions options;
  Vocabulary vocabulary;
  std::vector<std::unique_ptr<Conv2d>> transitions;
  std::vector<std::unique_ptr<ResidualBlock>> blocks;
  GroupNorm norm_out;
  Linear image_projection;
  Tensor words;  ///< (V, text_width)
  Linear text_hidden, text_projection;
  Tensor logit_scale;  ///< (1)
};

}  // namespace vggflow
