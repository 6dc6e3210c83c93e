#pragma once
// A taste learned from votes: h(image) = 10 <w, e(image)>, linear in the unit vector e of a frozen
// image network. By Bradley and Terry (1952) image a is preferred to b with probability
// sigmoid(h(a) - h(b)). The folder holds w; the network's weights are a file or folder of its own,
// which it names by their hash.

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "vggflow/core/field.h"
#include "vggflow/networks/clip/clip_encoders.h"
#include "vggflow/networks/vision/emoji_clip.h"
#include "vggflow/networks/vision/image_judge.h"

namespace vggflow {

/// Whose vectors a taste is linear in.
enum class VoteNetwork { kEmojiClip, kClipVitL14 };
inline OptionWords<VoteNetwork> option_words(VoteNetwork) {
  return {{"emoji-clip", VoteNetwork::kEmojiClip}, {"clip-vit-l14", VoteNetwork::kClipVitL14}};
}

struct VoteHeadOptions {
  VoteNetwork network = VoteNetwork::kEmojiClip;
  std::string network_hash = {};
  int64_t width = 128;

  template <class V>
  void fields(V& v) {
    v("network", network, "whose vectors the votes are learned on");
    v("network_hash", network_hash, "of its weights");
    v("width", width, "numbers in a vector", range(1, 65536));
  }
};

/// A frozen image network that gives unit vectors.
class VoteVectors {
 public:
  /// `place`: emoji-clip's folder, or a file of CLIP's weights.
  VoteVectors(VoteNetwork network, const std::filesystem::path& place);
  /// Unit vectors (B, width) of images (B, 3, H, W) in [0, 1] of any size; emoji-clip sees 32 x 32.
  template <TensorLike T>
  T embed(const T& images) const;
  int64_t width() const;
  const std::string& hash() const { return hash_; }

 private:
  std::unique_ptr<EmojiClip> emoji_;  // one of the two
  std::unique_ptr<ClipImageEncoder> clip_;
  std::string hash_;
};

/// Its parameter is w; the network is no part of it.
class VoteHead : public Module {
 public:
  VoteHead(const VoteHeadOptions& options, std::unique_ptr<VoteVectors> vectors);
  /// Throws where the network that `find` gives has other weights than the head was trained on.
  static std::unique_ptr<VoteHead> load(const std::filesystem::path& folder,
                                        const FindWeights& find);
  void save(const std::filesystem::path& folder,
            const std::map<std::string, std::string>& metadata);
  /// h (B) of unit vectors (B, width).
  template <TensorLike T>
  T score_vectors(const T& unit) const;
  /// h (B) of images.
  template <TensorLike T>
  T score(const T& images) const {
    return score_vectors(vectors->embed(images));
  }

  VoteHeadOptions options;
  std::unique_ptr<VoteVectors> vectors;
  Linear head;  ///< w (1, width), without a bias: it would cancel between two images
};

}  // namespace vggflow
