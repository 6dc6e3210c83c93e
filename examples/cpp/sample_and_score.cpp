// Draws images of prompts with a flow model and scores them with a reward.
//   sample_and_score [OUT.png [STEPS]]

#include <cstdio>
#include <string>
#include <vector>

#include "vggflow/vggflow.h"

int main(int argc, char** argv) try {
  const std::string out = argc > 1 ? argv[1] : "samples.png";

  // A model of any family: a nano folder, a Stable Diffusion 3 folder, "org/name" in the Hugging
  // Face cache. The fields are the settings of `vggflow sample`, section `generator`.
  vggflow::GeneratorOptions options;
  options.flow.model = MODELS "/nano";
  options.guidance = 3;
  options.time_grid.steps = argc > 2 ? std::stoi(argv[2]) : 20;
  const vggflow::Generator generator(options);

  // Row i of the noise depends on the seed and on i alone, never on the batch or the device.
  const std::vector<std::string> prompts{"red heart", "red heart", "ghost", "ghost"};
  const at::Tensor noise =
      vggflow::keyed_normal(/*seed=*/1, vggflow::Purpose::kNoise, /*update=*/0, /*first_sample=*/0,
                            std::ssize(prompts), generator.model().state_shape());
  // Models decode to about [-1, 1]; rewards and files take [0, 1].
  const at::Tensor images =
      ((generator.generate(prompts, noise, /*aligned=*/false) + 1) / 2).clamp(0, 1);

  // A weighted sum of rewards by name. Where their weights lie is said as in a configuration.
  vggflow::RewardFiles files;
  files.reward_model = MODELS "/emoji-clip";
  const auto reward = vggflow::make_reward("emoji-clip + 0.05*colorfulness", files.resources());
  const at::Tensor scores = reward->score(images, prompts);
  const at::Tensor parts = reward->parts(images, prompts);
  for (int64_t i = 0; i < std::ssize(prompts); ++i)
    std::printf("%-10s %7.3f = %7.3f + 0.05 * %7.3f\n", prompts[i].c_str(),
                scores[i].item<double>(), parts[0][i].item<double>(), parts[1][i].item<double>());

  vggflow::write_png(out, vggflow::image_grid(images, /*columns=*/4, /*enlarge=*/4));
  std::printf("images: %s\n", out.c_str());
  return 0;
} catch (const vggflow::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
