#pragma once
// A linear classifier on the features of a frozen mobile network: logits = W f(resize(image)) + b.
// The folder holds W, b and the names of the classes; the network's weights are a public file's,
// which it names by their hash.

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/networks/vision/image_judge.h"
#include "vggflow/networks/vision/mobilenet.h"

namespace vggflow {

/// Whose features a head classifies.
enum class HeadNetwork { kEfficientnetLite0, kMobilenetV2 };
inline OptionWords<HeadNetwork> option_words(HeadNetwork) {
  return {{"efficientnet-lite0", HeadNetwork::kEfficientnetLite0},
          {"mobilenet-v2", HeadNetwork::kMobilenetV2}};
}

struct ClassHeadOptions {
  HeadNetwork network = HeadNetwork::kMobilenetV2;
  std::string network_hash = {};
  int64_t size = 128;
  std::vector<std::string> classes = {};

  template <class V>
  void fields(V& v) {
    v("network", network, "whose features are classified");
    v("network_hash", network_hash, "of its weights");
    v("size", size, "side in pixels at which it sees images (bilinear, antialiased)",
      range(32, 4096));
    v("classes", classes, "names of the classes, in order");
  }
};

/// Its parameters are W and b; the network is no part of them.
class ClassHead : public Module, public ImageJudge {
 public:
  ClassHead(const ClassHeadOptions& options, std::unique_ptr<MobileNet> network);
  /// Throws where the network that `find` gives has other weights than the head was trained on.
  static std::unique_ptr<ClassHead> load(const std::filesystem::path& folder,
                                         const FindWeights& find);
  void save(const std::filesystem::path& folder, std::map<std::string, std::string> metadata);
  /// (B, F) of images (B, 3, H, W) in [0, 1].
  template <TensorLike T>
  T features(const T& images) const;
  /// (B, classes).
  template <TensorLike T>
  T logits(const T& images) const {
    return head.forward(features(images));
  }
  Judgement forward(const Tensor& images) const override;
  const std::vector<std::string>& classes() const override { return options.classes; }
  std::string name() const override { return word_of(options.network); }

  ClassHeadOptions options;
  std::unique_ptr<MobileNet> network;
  Linear head;
};

/// The network that a head's options name.
MobileNetOptions head_network_options(HeadNetwork network);
/// The same from a file.
std::unique_ptr<MobileNet> load_head_network(HeadNetwork network,
                                             const std::filesystem::path& file);

}  // namespace vggflow
