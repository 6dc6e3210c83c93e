#pragma once
// `class-head`: r = log softmax(logits)_c of a linear classifier on a frozen network's features
// (networks/vision/class_head.h), c its class that the prompt names. `mobilenet-class`: how sure
// MobileNetV2 is that an image shows the class of CIFAR-10 that the prompt names ("a photo of a
// horse"),
//   r = log sum_{c in C(prompt)} softmax(logits)_c  <= 0,
// with C the classes of ImageNet that belong to it (cifar10_classes(); docs/rewards.md tells how
// they were chosen).

#include <fmt/format.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/networks/vision/class_head.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

/// A class of CIFAR-10 and ImageNet's classes, 0 to 999, that belong to it.
struct ImageNetClasses {
  std::string name;
  std::vector<int64_t> classes;
};
const std::vector<ImageNetClasses>& cifar10_classes();

/// The place of the one class that the prompt names as a word; throws for none and for two, in the
/// name of `reward`.
int64_t place_in_prompt(const std::string& prompt, const std::vector<std::string>& classes,
                        const std::string& reward);

/// The same of CIFAR-10's.
const ImageNetClasses& class_in_prompt(const std::string& prompt);

class ClassReward : public Reward {
 public:
  /// Images are stretched to size x size (bilinear, antialiased).
  ClassReward(std::unique_ptr<MobileNet> net, int64_t size);
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override;
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override;
  std::string describe() const override {
    return fmt::format("stretched to {} x {}, bilinear, antialiased; pixels to [-1, 1]", size_,
                       size_);
  }
  std::string weights_hash() const override { return net_->options.hash; }

 private:
  template <TensorLike T>
  T log_probability(const T& images, const std::vector<std::string>& prompts) const;
  std::unique_ptr<MobileNet> net_;
  int64_t size_;
  int64_t first_class_;  // 1 where class 0 is TensorFlow's background
};

class ClassHeadReward : public Reward {
 public:
  explicit ClassHeadReward(std::unique_ptr<ClassHead> head) : head_(std::move(head)) {}
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override {
    return log_probability(images, prompts);
  }
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override {
    return log_probability(images, prompts);
  }

 private:
  template <TensorLike T>
  T log_probability(const T& images, const std::vector<std::string>& prompts) const;
  std::unique_ptr<ClassHead> head_;
};

std::unique_ptr<Reward> make_class_head(
    const RewardResources& resources);  ///< weights 'class-head', a folder, and its network's
std::unique_ptr<Reward> make_mobilenet_class(
    const RewardResources& resources);  ///< weights 'mobilenet-v2'

}  // namespace vggflow
