#pragma once
// The job behind `vggflow score`: scores of any images by any rewards, as scores.jsonl and as a sheet of thumbnails, the best first.

#include <string>
#include <vector>

#include "vggflow/eval/image_sets.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

struct ScoreOptions {
  std::vector<std::string> images;   ///< folders, image files, lists
  std::vector<std::string> rewards;  ///< expressions; the first one sorts
  RewardFiles files;
  std::string prompt;                ///< of images that have none
  std::string out = "scores";
  int64_t size = 0;                  ///< side that images are resized to; 0: as they are
  int64_t batch = 32;
  int64_t most_thumbnails = 400;     ///< on the sheet; of more images, the best and the worst halves of it
};

/// Scores of images, best first by the first reward; images without a score (NaN) come last.
struct ScoredImages {
  std::vector<std::string> rewards;
  std::vector<int64_t> order;        ///< places in the set
  Tensor scores;                     ///< (R, N) by place in the set
  std::vector<std::vector<std::string>> part_names;  ///< of each reward; empty where it is no sum
  std::vector<Tensor> parts;                         ///< (P, N) each
};
ScoredImages score_images(const ImageSet& set, const std::vector<std::string>& expressions, const RewardResources& resources, int64_t batch);

/// One object an image, in order: rank, image, prompt, scores by reward (null for none), parts of sums.
std::vector<Json> score_lines(const ImageSet& set, const ScoredImages& scored);

/// A self-contained page.
std::string score_sheet(const ImageSet& set, const ScoredImages& scored, int64_t most_thumbnails);

/// Reads, scores, writes out/scores.jsonl and out/scores.html.
void run_score(const ScoreOptions& options);

}  // namespace vggflow
