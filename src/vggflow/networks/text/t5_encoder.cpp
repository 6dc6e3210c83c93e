#include "vggflow/networks/text/t5_encoder.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

// fp16 overflows in the larger T5s; transformers clamps the residual stream likewise.
Tensor clamp_half(const Tensor& x) {
  if (x.scalar_type() != at::kHalf) return x;
  const double top = std::numeric_limits<at::Half>::max();
  const double bound = at::isinf(x).any().item<bool>() ? top - 1000 : top;
  return x.clamp(-bound, bound);
}

}  // namespace

T5Options T5Options::read(const std::filesystem::path& folder) {
  const auto config = read_model_config(folder);
  const auto file = (folder / "config.json").string();
  T5Options o;
  try {
    const std::string kind = config.value("feed_forward_proj", "relu");
    VGGFLOW_CHECK(
        kind == "gated-gelu",
        "[t5_encoder] expected the feed_forward_proj gated-gelu (T5 v1.1) in {}, got '{}'", file,
        kind);
    o.vocabulary = config.at("vocab_size");
    o.width = config.at("d_model");
    o.head_dim = config.at("d_kv");
    o.heads = config.at("num_heads");
    o.mlp_width = config.at("d_ff");
    o.layers = config.at("num_layers");
    o.buckets = config.value("relative_attention_num_buckets", o.buckets);
    o.max_distance = config.value("relative_attention_max_distance", o.max_distance);
    o.eps = config.value("layer_norm_epsilon", o.eps);
  } catch (const nlohmann::json::exception& e) {
    fail("[t5_encoder] expected the configuration of a T5 model in {}, got: {}", file, e.what());
  }
  return o;
}

Tensor t5_position_buckets(int64_t tokens, const T5Options& o) {
  const int64_t n = o.buckets / 2, exact = n / 2;
  const Tensor position = at::arange(tokens, at::kLong);
  const Tensor relative = position.unsqueeze(0) - position.unsqueeze(1);  // (T, T), j - i
  const Tensor distance = relative.abs();
  // In single precision and in this order: the floor of a rounded logarithm has to fall as it does
  // in transformers.
  const Tensor scaled = at::log(distance.clamp_min(1).to(at::kFloat) / exact) /
                        std::log(static_cast<double>(o.max_distance) / exact) * (n - exact);
  const Tensor far = (exact + scaled.to(at::kLong)).clamp_max(n - 1);
  return (relative > 0).to(at::kLong) * n + at::where(distance < exact, distance, far);
}

T5Block::T5Block(const T5Options& o, bool has_bias)
    : heads_(o.heads),
      attention_norm_(o.width, o.eps),
      mlp_norm_(o.width, o.eps),
      q_(o.width, o.heads * o.head_dim, false),
      k_(o.width, o.heads * o.head_dim, false),
      v_(o.width, o.heads * o.head_dim, false),
      o_(o.heads * o.head_dim, o.width, false),
      wi_0_(o.width, o.mlp_width, false),
      wi_1_(o.width, o.mlp_width, false),
      wo_(o.mlp_width, o.width, false) {
  add("layer.0.SelfAttention.q", q_);
  add("layer.0.SelfAttention.k", k_);
  add("layer.0.SelfAttention.v", v_);
  add("layer.0.SelfAttention.o", o_);
  if (has_bias) {
    relative_attention_bias = new_parameter({o.buckets, o.heads});
    add("layer.0.SelfAttention.relative_attention_bias.weight", relative_attention_bias);
  }
  add("layer.0.layer_norm", attention_norm_);
  add("layer.1.DenseReluDense.wi_0", wi_0_);
  add("layer.1.DenseReluDense.wi_1", wi_1_);
  add("layer.1.DenseReluDense.wo", wo_);
  add("layer.1.layer_norm", mlp_norm_);
}

Tensor T5Block::attention(const Tensor& x, const Tensor& bias) const {
  const auto heads_of = [&](const Linear& layer) {
    return layer.forward(x)
        .view({x.size(0), x.size(1), heads_, -1})
        .transpose(1, 2);  // (B, H, T, head_dim)
  };
  const Tensor out = at::scaled_dot_product_attention(heads_of(q_), heads_of(k_), heads_of(v_),
                                                      bias, /*dropout_p=*/0.0, /*is_causal=*/false,
                                                      /*scale=*/1.0);
  return o_.forward(out.transpose(1, 2).flatten(2));
}

Tensor T5Block::forward(const Tensor& x, const Tensor& bias) const {
  const Tensor attended = clamp_half(x + attention(attention_norm_.forward(x), bias));
  const Tensor h = mlp_norm_.forward(attended);
  return clamp_half(attended + wo_.forward(at::gelu(wi_0_.forward(h), "tanh") * wi_1_.forward(h)));
}

T5Encoder::T5Encoder(const T5Options& o)
    : options(o),
      shared_(new_parameter({o.vocabulary, o.width})),
      final_layer_norm_(o.width, o.eps) {
  VGGFLOW_CHECK(
      o.layers > 0 && o.buckets >= 4 && o.buckets % 4 == 0 && o.max_distance > o.buckets / 4,
      "[t5_encoder] expected layers > 0, buckets a multiple of 4 and a max_distance above a "
      "quarter of them, got {}, {} and {}",
      o.layers, o.buckets, o.max_distance);
  add("shared.weight", shared_);
  add("encoder.final_layer_norm", final_layer_norm_);
  for (int64_t i = 0; i < o.layers; ++i) {
    blocks_.push_back(std::make_unique<T5Block>(o, /*has_bias=*/i == 0));
    add(fmt::format("encoder.block.{}", i), *blocks_.back());
  }
}

std::unique_ptr<T5Encoder> T5Encoder::load(const T5Options& options,
                                           const ComponentWeights& weights, at::ScalarType dtype) {
  // Some checkpoints hold the shared embedding a second time.
  return load_frozen<T5Encoder>(options, weights, dtype,
                                /*unused=*/{"encoder.embed_tokens.weight"});
}

Tensor T5Encoder::forward(const Tensor& ids) const {
  VGGFLOW_CHECK(ids.dim() == 2 && ids.size(1) > 0, "[t5_encoder] expected ids (B, T), got {}",
                shape_string(ids));
  const Tensor& table = blocks_[0]->relative_attention_bias;
  const Tensor bias =
      at::embedding(table, t5_position_buckets(ids.size(1), options).to(table.device()))
          .permute({2, 0, 1})
          .unsqueeze(0)
          .contiguous();  // (1, H, T, T)
  Tensor x = at::embedding(shared_, ids.to(shared_.device()));
  for (const auto& block : blocks_) x = block->forward(x, bias);
  return final_layer_norm_.forward(x);
}

}  // namespace vggflow
