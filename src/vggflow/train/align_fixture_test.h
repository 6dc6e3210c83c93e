#pragma once
// Runs on tiny random models, and what the tests of runs compare of them.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "vggflow/core/random.h"
#include "vggflow/data/captions.h"
#include "vggflow/data/emoji.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/families/nano/tiny_fixture_test.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/networks/vision/emoji_clip.h"
#include "vggflow/networks/vision/judge.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/train/align.h"

namespace vggflow::testing {

// Random models of every kind in one folder, made once.
inline const std::filesystem::path& models() {
  static const TemporaryFolder scratch;
  static const std::filesystem::path folder = [] {
    const std::filesystem::path& f = scratch.path();
    const EmojiSet set = load_emoji({.size = 16});
    NanoModel model(tiny_options(), build_vocabulary(set));
    model.init(1);
    // Random modulations and output, so that the velocity is not zero.
    uint64_t id = 0;
    for (const NamedTensor& p : model.transformer.parameters()) {
      Tensor noise = at::empty(p.tensor->sizes());
      RandomStream({2, Purpose::kTest, 0, id++})
          .fill_normal({noise.mutable_data_ptr<float>(), static_cast<size_t>(noise.numel())});
      *p.tensor = *p.tensor + 0.05 * noise;
    }
    model.save(f / "nano", {});
    EmojiClip clip({.pool = 2, .widths = {8, 16}, .text_width = 8, .embedding = 8},
                   build_vocabulary(set));
    clip.init(2);
    clip.save(f / "clip", {});
    JudgeOptions judge_options{
        .size = 16, .layers = 1, .heads = 2, .head_dim = 8, .classes = set.subgroups};
    Judge judge(judge_options);
    judge.init(3);
    judge.save(f / "judge", {});
    return f;
  }();
  return folder;
}

inline AlignConfig tiny_config(const std::string& name) {
  AlignConfig c;
  c.run = (models() / name).string();
  c.flow.model = (models() / "nano").string();
  c.reward_files.reward_model = (models() / "clip").string();
  c.judge = (models() / "judge").string();
  c.flow.precision = Precision::kFp32;
  c.data.size = 16;
  c.updates = 4;
  c.batch = 3;
  c.micro_batch = 4;
  c.eval_every = 4;
  c.checkpoint_every = 2;
  c.time_grid.steps = 6;
  for (const char* matched : {"vgg-flow", "vgg-flow-pmp", "fitted-adjoint"})
    c.methods.set(matched, "bins=3 beta=5");
  c.methods.set("refl", "k_min=3 k_max=5");
  c.methods.set("ram", "group=3");
  c.value.width = 32;
  c.value.layers = 1;
  c.grid_images = 8;
  c.eval.prompts = 3;
  c.eval.images = 4;
  c.lora_rank = 2;
  return c;
}

inline std::vector<Json> lines_of(const std::string& run, const std::string& kind) {
  std::vector<Json> out;
  for (Json line : read_json_lines(std::filesystem::path(run) / "metrics.jsonl")) {
    if (line["kind"] != kind) continue;
    for (const char* clock : {"seconds", "images_per_second", "rss_gib"}) line.erase(clock);
    out.push_back(line);
  }
  return out;
}

inline void expect_same_tensors(const std::filesystem::path& a, const std::filesystem::path& b) {
  const SafetensorsFile x(a), y(b);
  ASSERT_EQ(x.tensors().size(), y.tensors().size());
  for (const auto& [name, entry] : x.tensors())
    EXPECT_TRUE(at::equal(x.load(name), y.load(name))) << name;
}

}  // namespace vggflow::testing
