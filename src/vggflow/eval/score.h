#pragma once
// The job behind `vggflow score`: scores of any images by any rewards, as scores.jsonl and as a
// sheet of thumbnails, the best first.

#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/device/device.h"
#include "vggflow/dist/group.h"
#include "vggflow/dist/options.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/metrics/image_sets.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

struct ScoreOptions {
  std::vector<std::string> images;
  std::vector<std::string> rewards;
  RewardFiles files;
  std::string prompt;  ///< of images that have none
  std::string out = "scores";
  int64_t size = 0;  ///< side that images are resized to; 0: as they are
  int64_t batch = 32;
  int64_t most_thumbnails =
      400;  ///< on the sheet; of more images, the best and the worst halves of it
  int64_t threads = 0;
  DeviceOptions device;
  DistOptions dist;

  template <class V>
  void fields(V& v) {
    v("images", images,
      "folders, image files, or lists (CSV, JSON lines) with the columns image and prompt");
    v("rewards", rewards,
      "rewards or weighted sums, one column each; images are sorted by the first");
    v("prompt", prompt,
      "prompt for images that have none in their PNG metadata, a text file beside them, or a list");
    v("out", out, "folder of scores.jsonl and scores.html");
    v("size", size, "size in pixels that images are resized to first; 0: no resizing",
      range(0, 8192));
    v("batch", batch, "batch size for scoring", range(1, 100000));
    v("thumbnails", most_thumbnails, "maximum number of thumbnails on the sheet", range(2, 1e6));
    v("threads", threads, "CPU threads; 0: all", range(0, 1024));
    device.fields(v);
    v.section("dist", dist);
    files.fields(v);
  }
};

/// Scores of images, best first by the first reward; images without a score (NaN) come last.
struct ScoredImages {
  std::vector<std::string> rewards;
  std::vector<int64_t> order;                        ///< places in the set
  Tensor scores;                                     ///< (R, N) by place in the set
  std::vector<std::vector<std::string>> part_names;  ///< of each reward; empty where it is no sum
  std::vector<Tensor> parts;                         ///< (P, N) each
};
/// The processes of `group` score the images between them, and all get the scores.
ScoredImages score_images(const ImageSet& set, const std::vector<std::string>& expressions,
                          const RewardResources& resources, int64_t batch, const Group& group = {});

/// One object per image, in order: rank, image, prompt, scores by reward (null for none), parts of
/// sums.
std::vector<Json> score_lines(const ImageSet& set, const ScoredImages& scored);

/// A self-contained page.
std::string score_sheet(const ImageSet& set, const ScoredImages& scored, int64_t most_thumbnails);

/// Reads, scores, writes out/scores.jsonl and out/scores.html; of several processes, which score
/// the images between them, rank 0 writes.
void run_score(const ScoreOptions& options, const Group& group = {});

}  // namespace vggflow
