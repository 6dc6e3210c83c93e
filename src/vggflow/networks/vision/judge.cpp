#include "vggflow/networks/vision/judge.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <optional>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/networks/model_folder.h"

namespace vggflow {

JudgeBlock::JudgeBlock(int64_t width, int64_t h)
    : heads(h),
      norm1(width),
      norm2(width),
      qkv(width, 3 * width),
      out(width, width),
      fc1(width, 4 * width),
      fc2(4 * width, width) {
  add("norm1", norm1);
  add("attn.qkv", qkv);
  add("attn.out", out);
  add("norm2", norm2);
  add("mlp.fc1", fc1);
  add("mlp.fc2", fc2);
}

Tensor JudgeBlock::forward(const Tensor& x) const {
  const Tensor h = x + out.forward(ops::attention(qkv.forward(norm1.forward(x)), heads));
  return h + fc2.forward(ops::gelu_tanh(fc1.forward(norm2.forward(h))));
}

Judge::Judge(const JudgeOptions& o)
    : options(o),
      patches(3, o.heads * o.head_dim, o.patch_size, o.patch_size),
      positions(new_parameter(
          {1, (o.size / o.patch_size) * (o.size / o.patch_size), o.heads * o.head_dim})),
      norm(o.heads * o.head_dim),
      head(o.heads * o.head_dim, static_cast<int64_t>(o.classes.size())) {
  add("patches", patches);
  add("positions", positions);
  for (int64_t i = 0; i < o.layers; ++i) {
    blocks.push_back(std::make_unique<JudgeBlock>(o.heads * o.head_dim, o.heads));
    add(fmt::format("blocks.{}", i), *blocks.back());
  }
  add("norm", norm);
  add("head", head);
}

void Judge::init(uint64_t seed) {
  init_layers(*this, seed);
  RandomStream random({seed, Purpose::kInit, /*update=*/4, 0});
  fill_on_host(positions, [&](std::span<float> values) { random.fill_normal(values); });
  positions.mul_(0.05);
}

std::unique_ptr<Judge> Judge::load(const std::filesystem::path& folder) {
  JudgeOptions options;
  load_yaml(fields_of(options), folder / "config.yaml");
  auto model = std::make_unique<Judge>(options);
  load_weights(*model, folder);
  return model;
}

void Judge::save(const std::filesystem::path& folder,
                 const std::map<std::string, std::string>& metadata) {
  save_model(*this, fields_of(options), std::nullopt, folder, metadata);
}

Judgement Judge::forward(const Tensor& images) const {
  VGGFLOW_CHECK(images.dim() == 4 && images.size(1) == 3 && images.size(2) == options.size &&
                    images.size(3) == options.size,
                "[judge] expected images (B, 3, {}, {}), got {}", options.size, options.size,
                shape_string(images));
  Tensor x = patches.forward(images * 2 - 1).flatten(2).transpose(1, 2) +
             positions.to(images.scalar_type());
  x = x.to(compute);
  for (const auto& block : blocks) x = block->forward(x);
  const Tensor features = norm.forward(x.to(at::kFloat)).mean(1);
  return {features, head.forward(features)};
}

}  // namespace vggflow
