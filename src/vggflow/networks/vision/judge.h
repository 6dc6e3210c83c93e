#pragma once
// The judge: a small vision transformer that names the subgroup of an emoji. Evaluation only, never
// a reward; another architecture, seed and set of augmentations than emoji-clip, so that what fools
// the one need not fool the other.

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/networks/vision/image_judge.h"
#include "vggflow/nn/module.h"

namespace vggflow {

struct JudgeOptions {
  int64_t size = 32;
  int64_t patch_size = 4;
  int64_t layers = 5;
  int64_t heads = 4;
  int64_t head_dim = 32;
  std::vector<std::string> classes;

  template <class V>
  void fields(V& v) {
    v("size", size, "side of an image");
    v("patch_size", patch_size, "side of a patch");
    v("layers", layers, "transformer blocks");
    v("heads", heads, "attention heads");
    v("head_dim", head_dim, "channels of a head");
    v("classes", classes, "names of the classes, in order");
  }
};

/// x + attention(LN(x)), then x + MLP(LN(x)).
class JudgeBlock : public Module {
 public:
  JudgeBlock(int64_t width, int64_t heads);
  Tensor forward(const Tensor& x) const;
  int64_t heads;
  LayerNorm norm1, norm2;
  Linear qkv, out, fc1, fc2;
};

class Judge : public Module, public ImageJudge {
 public:
  explicit Judge(const JudgeOptions& options);
  static std::unique_ptr<Judge> load(const std::filesystem::path& folder);
  void save(const std::filesystem::path& folder,
            const std::map<std::string, std::string>& metadata);
  void init(uint64_t seed);
  /// images (B, 3, S, S) in [0, 1].
  Judgement forward(const Tensor& images) const override;
  const std::vector<std::string>& classes() const override { return options.classes; }
  std::string name() const override { return "judge"; }

  JudgeOptions options;
  at::ScalarType compute = at::kFloat;
  Conv2d patches;
  Tensor positions;  ///< (1, N, D)
  std::vector<std::unique_ptr<JudgeBlock>> blocks;
  LayerNorm norm;
  Linear head;
};

}  // namespace vggflow
