#include "vggflow/networks/vision/vit.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "vggflow/core/error.h"
#include "vggflow/nn/checkpoint.h"

namespace vggflow {

VitBlock::VitBlock(const VitOptions& o)
    : heads(o.heads),
      quick_gelu(o.quick_gelu),
      norm1(o.width, o.eps),
      norm2(o.width, o.eps),
      qkv(o.width, 3 * o.width),
      proj(o.width, o.width),
      fc1(o.width, 4 * o.width),
      fc2(4 * o.width, o.width) {
  add("norm1", norm1);
  add("attn.qkv", qkv);
  add("attn.proj", proj);
  add("norm2", norm2);
  add("mlp.fc1", fc1);
  add("mlp.fc2", fc2);
}

template <TensorLike T>
T VitBlock::forward(const T& x) const {
  const T attended = x + proj.forward(ops::attention(qkv.forward(norm1.forward(x)), heads));
  const T hidden = fc1.forward(norm2.forward(attended));
  return attended + fc2.forward(quick_gelu ? ops::quick_gelu(hidden) : ops::gelu(hidden));
}
template Tensor VitBlock::forward(const Tensor&) const;
template Dual VitBlock::forward(const Dual&) const;

Vit::Vit(const VitOptions& o)
    : options(o),
      cls_token(new_parameter({1, 1, o.width})),
      pos_embed(new_parameter({1, o.tokens(), o.width})),
      patch_embed(3, o.width, o.patch, o.patch),
      norm(o.width, o.eps) {
  VGGFLOW_CHECK(o.image % o.patch == 0 && o.width % o.heads == 0,
                "[vit] expected images of whole patches and a width that the heads divide, got "
                "images of {} in patches of {}, width {}, {} heads",
                o.image, o.patch, o.width, o.heads);
  add("cls_token", cls_token);
  add("pos_embed", pos_embed);
  add("patch_embed.proj", patch_embed);
  if (o.pre_norm) {
    pos_drop = std::make_unique<LayerNorm>(o.width, o.eps);
    add("pos_drop", *pos_drop);
  }
  for (int64_t i = 0; i < o.layers; ++i) {
    blocks.push_back(std::make_unique<VitBlock>(o));
    add(fmt::format("blocks.{}", i), *blocks.back());
  }
  add("norm", norm);
}

template <TensorLike T>
T Vit::tokens(const T& images) const {
  const Tensor& v = primal(images);
  const int64_t side = options.image;
  VGGFLOW_CHECK(v.dim() == 4 && v.size(1) == 3 && v.size(2) == side && v.size(3) == side,
                "[vit] expected images (B, 3, {}, {}), got {}", side, side, shape_string(v));
  const int64_t b = v.size(0), n = options.tokens(), d = options.width;
  const T patches = ops::permute(ops::reshape(patch_embed.forward(images), {b, d, n - 1}),
                                 {0, 2, 1});  // (B, N - 1, D)
  const T first = lift<T>(cls_token.to(v.scalar_type()).expand({b, 1, d}));
  T x = ops::cat(std::vector<T>{first, patches}, 1) + pos_embed.to(v.scalar_type());
  if (pos_drop) x = pos_drop->forward(x);
  for (const auto& block : blocks) x = recompute ? checkpoint(*block, x) : block->forward(x);
  return x;
}
template Tensor Vit::tokens(const Tensor&) const;
template Dual Vit::tokens(const Dual&) const;

}  // namespace vggflow
