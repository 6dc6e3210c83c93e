// Aligns the nano model with a reward of this program's own.
//   align_with_own_reward [key=value ...], the settings of `vggflow align`

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/vggflow.h"

namespace {

// How much redder than blue an image is. Methods want r(x), its gradient and, where they train a
// value network, its second derivatives: ops:: has each function for tensors and for pairs of a
// value and its directional derivative (Dual), so that one template is all.
class Warmth : public vggflow::Reward {
 public:
  using Prompts = std::vector<std::string>;
  at::Tensor score(const at::Tensor& images, const Prompts&) const override { return of(images); }
  vggflow::Dual score(const vggflow::Dual& images, const Prompts&) const override {
    return of(images);
  }

 private:
  template <vggflow::TensorLike T>
  static T of(const T& images) {  // (B, 3, H, W) in [0, 1] -> (B)
    const T red = vggflow::ops::narrow(images, /*dim=*/1, 0, 1);
    const T blue = vggflow::ops::narrow(images, /*dim=*/1, 2, 1);
    return vggflow::ops::mean(red - blue, {1, 2, 3}, /*keepdim=*/false);
  }
};

}  // namespace

int main(int argc, char** argv) try {
  vggflow::add_reward("warmth", [](const auto&) { return std::make_unique<Warmth>(); });

  vggflow::AlignConfig config;
  config.run = "runs/warmth";
  config.flow.model = MODELS "/nano";
  config.judge = MODELS "/judge";
  config.reward_files.reward_model = MODELS "/emoji-clip";
  config.reward = "warmth";
  for (int i = 1; i < argc; ++i) vggflow::apply_override(vggflow::fields_of(config), argv[i]);

  const vggflow::DeviceScope device(config.device);
  vggflow::align(config);
  std::printf("LoRA: %s/lora_ema.safetensors\n", config.run.c_str());
  return 0;
} catch (const vggflow::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
