#pragma once
// A network that names the class of an image, for evaluations alone: the emoji's judge
// (networks/vision/judge.h), or a classifier of photographs (networks/vision/class_head.h).

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/ops/dual.h"

namespace vggflow {

struct Judgement {
  Tensor features;  ///< (B, F), the pooled representation
  Tensor logits;    ///< (B, classes)
};

class ImageJudge {
 public:
  virtual ~ImageJudge() = default;
  /// images (B, 3, H, W) in [0, 1].
  virtual Judgement forward(const Tensor& images) const = 0;
  /// Names of the classes, in the order of the logits.
  virtual const std::vector<std::string>& classes() const = 0;
  /// What reports call its features.
  virtual std::string name() const = 0;
};

/// The path of the weights of a network that is not ours, by its name; throws where none is given.
using FindWeights = std::function<std::filesystem::path(const std::string& name)>;

/// Whichever judge the folder holds, the program's own too (core/shipped_files.h); `find` is asked
/// for the network below a class head.
std::unique_ptr<ImageJudge> open_judge(const std::filesystem::path& place, const FindWeights& find);

}  // namespace vggflow
