#pragma once
// `vggflow check --reward`: what a reward promises, asked of it. Scores of known images,
// repetition, independence of the batch, gradients against differences, Hessian products, and
// black, white and random images.

#include <string>
#include <vector>

#include "vggflow/rewards/reward.h"

namespace vggflow {

/// Of the images.
enum class CheckPrecision { kFp32, kFp64 };
inline OptionWords<CheckPrecision> option_words(CheckPrecision) {
  return {{"fp32", CheckPrecision::kFp32}, {"fp64", CheckPrecision::kFp64}};
}

struct RewardCheckOptions {
  int64_t size = 32;
  std::vector<std::string> prompts;
  CheckPrecision precision = CheckPrecision::kFp32;
  std::string stored;
  int64_t seed = 0;
  bool low_precision = false;  ///< the reward's products are bf16: differences of its scores are
                               ///< rounding, so slopes are told, not judged

  template <class V>
  void fields(V& v) {
    v("size", size, "size in pixels of the test images", range(2, 4096));
    v("prompts", prompts, "prompts, one per image; empty: those of the stored scores");
    v("precision", precision,
      "number format of the images; slopes use fp64 if the reward supports it");
    v("stored", stored,
      "JSON file of reference scores; empty: models/reward-scores.json here, or the program's own");
    v("seed", seed, "random seed of the images and directions", range(0, 1e15));
  }
};

/// One line of the table.
struct RewardCheckRow {
  std::string name;
  std::string found;
  std::string expected;  ///< empty: told, not judged
  bool ok = true;
  bool left_out = false;  ///< what it is about was not looked at; `found` says why
};

/// Four images (4, 3, size, size) in whole 255ths: ramps, a checkerboard, noise of whole numbers, a
/// grey ramp.
Tensor check_images(int64_t size);

/// The table of `reward`, called `name` in the file of stored scores.
std::vector<RewardCheckRow> check_reward(const Reward& reward, const std::string& name,
                                         const RewardCheckOptions& options);

}  // namespace vggflow
