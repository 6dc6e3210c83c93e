#pragma once
// Sets of images that are still to be made: a flow model, or a LoRA on one, stands for the images
// it draws for held-out prompts.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "vggflow/data/prompt_source.h"
#include "vggflow/eval/run.h"

namespace vggflow {

/// What the name of a set stands for. `base` is the model of the generator's settings itself.
enum class SetSource { kImages, kModel, kLora, kBase };
SetSource source_of(const std::string& name);

struct ModelSetOptions {
  PromptFiles prompts;
  Split split = Split::kHeldOut;
  int64_t prompt_count = 20;
  int64_t images = 16;
  int64_t seed = 1000;
  int64_t batch = 0;
  EmojiOptions data;
  GeneratorOptions generator;

  template <class V>
  void fields(V& v) {
    v.section("prompts", prompts);
    v("split", split, "split of the emoji prompts");
    v("prompt_count", prompt_count, "number of prompts to sample from models", range(1, 100000));
    v("images", images, "images per prompt to sample from models", range(2, 100000));
    v("seed", seed,
      "random seed of the prompts and of each prompt's first image; the second base set continues "
      "after the last seed",
      range(0, 1e15));
    v("batch", batch,
      "batch size for sampling; 0: 64, and for latents fewer: as many as have the pixels of 64 "
      "images of 128 x 128",
      range(0, 100000));
    v.section("data", data);
    v.section("generator", generator);
  }
};

/// Throws where the model of a source that is no set of images would be given no prompts.
void check_set(const std::string& source, const ModelSetOptions& options);

/// Draws the images of a source that is no set of images, as `vggflow sample` does, into `out`. The
/// seeds of a prompt's images begin `skip` after options.seed.
void draw_set(const std::string& source, const ModelSetOptions& options, int64_t skip,
              const std::filesystem::path& out, const Group& group = {});

}  // namespace vggflow
