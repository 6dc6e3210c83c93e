#pragma once
// `mobilenet-class`: how sure MobileNetV2 is that an image shows the class of CIFAR-10 that the prompt names ("a photo of a horse"),
//   r = log sum_{c in C(prompt)} softmax(logits)_c  <= 0,
// with C the classes of ImageNet that belong to it (cifar10_classes(); docs/rewards.md tells how they were chosen).

#include "vggflow/core/error.h"
#include "vggflow/models/mobilenet.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

/// A class of CIFAR-10 and ImageNet's classes, 0 to 999, that belong to it.
struct ImageNetClasses {
  std::string name;
  std::vector<int64_t> classes;
};
const std::vector<ImageNetClasses>& cifar10_classes();

/// The one class that the prompt names as a word; throws for none and for two.
const ImageNetClasses& class_in_prompt(const std::string& prompt);

class ClassReward : public Reward {
 public:
  /// Images are stretched to size x size (bilinear, antialiased).
  ClassReward(std::unique_ptr<MobileNet> net, int64_t size);
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override;
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override;
  std::string describe() const override { return fmt::format("stretched to {} x {}, bilinear, antialiased; pixels to [-1, 1]", size_, size_); }

 private:
  template <TensorLike T>
  T log_probability(const T& images, const std::vector<std::string>& prompts) const;
  std::unique_ptr<MobileNet> net_;
  int64_t size_;
  int64_t first_class_;  // 1 where class 0 is TensorFlow's background
};

std::unique_ptr<Reward> make_mobilenet_class(const RewardResources& resources);  ///< weights 'mobilenet-v2'

}  // namespace vggflow
