#include "vggflow/networks/autoencoders/autoencoder_kl.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/nn/checkpoint.h"
#include "vggflow/weights/frozen_weights.h"

namespace vggflow {
namespace {

using Json = nlohmann::json;

constexpr double kEps = 1e-6;
constexpr double kTileOverlap = 0.25;  // of a tile's side

template <TensorLike T, class Block>
T run(const Block& block, const T& x, bool checkpointing) {
  return checkpointing ? checkpoint(block, x) : block.forward(x);
}

}  // namespace

// ---- options
// ---------------------------------------------------------------------------------------------------------

AutoencoderKlOptions AutoencoderKlOptions::read(const std::filesystem::path& config_json) {
  const Json json = read_json_file(config_json);
  VGGFLOW_CHECK(json.is_object(), "[autoencoder_kl] {}: expected an object", config_json.string());
  std::vector<std::string> problems;
  const auto expect = [&](const char* key, const Json& value) {
    if (json.contains(key) && json[key] != value)
      problems.push_back(fmt::format("{} is {}, expected {}", key, json[key].dump(), value.dump()));
  };
  const auto take = [&](const char* key, auto& value) {
    if (!json.contains(key)) return;
    try {
      json[key].get_to(value);
    } catch (const Json::exception&) {
      problems.push_back(fmt::format("{} is {}, which has the wrong type", key, json[key].dump()));
    }
  };
  AutoencoderKlOptions o;
  // diffusers' own defaults, which a config may leave out, are those of its class and not SD3's.
  o.latent_channels = 4;
  o.widths = {64};
  o.layers = 1;
  o.scaling_factor = 0.18215;
  o.shift_factor = 0;
  o.sample_size = 32;
  take("in_channels", o.image_channels);
  take("latent_channels", o.latent_channels);
  take("block_out_channels", o.widths);
  take("layers_per_block", o.layers);
  take("norm_num_groups", o.groups);
  take("scaling_factor", o.scaling_factor);
  if (json.contains("shift_factor") && !json["shift_factor"].is_null())
    take("shift_factor", o.shift_factor);
  take("sample_size", o.sample_size);
  expect("_class_name", "AutoencoderKL");
  expect("act_fn", "silu");
  expect("out_channels", o.image_channels);
  expect("down_block_types", std::vector<std::string>(o.widths.size(), "DownEncoderBlock2D"));
  expect("up_block_types", std::vector<std::string>(o.widths.size(), "UpDecoderBlock2D"));
  expect("mid_block_add_attention", true);
  expect("latents_mean", nullptr);
  expect("latents_std", nullptr);
  // Both are on where they are not mentioned, as in Stable Diffusion 1 and 2.
  for (const char* key : {"use_quant_conv", "use_post_quant_conv"}) {
    if (json.value(key, Json(true)) != Json(false))
      problems.push_back(fmt::format("{} is not false", key));
  }
  const auto positive = [](int64_t v) { return v > 0 && v <= 65536; };
  if (!positive(o.image_channels) || !positive(o.latent_channels) || !positive(o.layers) ||
      !positive(o.groups) || !positive(o.sample_size) || o.widths.empty() || o.widths.size() > 8 ||
      !std::all_of(o.widths.begin(), o.widths.end(),
                   [&](int64_t w) { return positive(w) && w % o.groups == 0; })) {
    problems.push_back(
        "sizes are out of range: expected positive numbers and channels that are multiples of "
        "norm_num_groups");
  }
  VGGFLOW_CHECK(problems.empty(), "[autoencoder_kl] {} describes a network that is not SD3's: {}",
                config_json.string(), examples_of(problems));
  return o;
}

// ---- blocks
// ----------------------------------------------------------------------------------------------------------

VaeResnet::VaeResnet(int64_t in, int64_t out, int64_t groups)
    : norm1(groups, in, kEps),
      norm2(groups, out, kEps),
      conv1(in, out, 3, 1, 1),
      conv2(out, out, 3, 1, 1) {
  add("norm1", norm1);
  add("conv1", conv1);
  add("norm2", norm2);
  add("conv2", conv2);
  if (in == out) return;
  conv_shortcut = std::make_unique<Conv2d>(in, out, 1);
  add("conv_shortcut", *conv_shortcut);
}

template <TensorLike T>
T VaeResnet::forward(const T& x) const {
  const T h = conv1.forward(ops::silu(norm1.forward(x)));
  const T y = conv2.forward(ops::silu(norm2.forward(h)));
  return (conv_shortcut ? conv_shortcut->forward(x) : x) + y;
}
template Tensor VaeResnet::forward(const Tensor&) const;
template Dual VaeResnet::forward(const Dual&) const;

VaeAttention::VaeAttention(int64_t width, int64_t groups)
    : group_norm(groups, width, kEps),
      to_q(width, width),
      to_k(width, width),
      to_v(width, width),
      to_out(width, width) {
  add("group_norm", group_norm);
  add("to_q", to_q);
  add("to_k", to_k);
  add("to_v", to_v);
  add("to_out.0", to_out);
}

template <TensorLike T>
T VaeAttention::forward(const T& x) const {
  const auto shape = primal(x).sizes().vec();
  const T tokens = ops::permute(ops::reshape(group_norm.forward(x), {shape[0], shape[1], -1}),
                                {0, 2, 1});  // (B, N, C)
  const T qkv = ops::cat(
      std::vector<T>{to_q.forward(tokens), to_k.forward(tokens), to_v.forward(tokens)}, -1);
  const T y = to_out.forward(ops::attention(qkv, /*heads=*/1));
  return x + ops::reshape(ops::permute(y, {0, 2, 1}), shape);
}
template Tensor VaeAttention::forward(const Tensor&) const;
template Dual VaeAttention::forward(const Dual&) const;

VaeMidBlock::VaeMidBlock(int64_t width, int64_t groups)
    : first(width, width, groups), attention(width, groups), second(width, width, groups) {
  add("resnets.0", first);
  add("attentions.0", attention);
  add("resnets.1", second);
}

VaeLevel::VaeLevel(int64_t in, int64_t out, int64_t layers, int64_t groups, Sampler kind) {
  for (int64_t i = 0; i < layers; ++i) {
    resnets.push_back(std::make_unique<VaeResnet>(i == 0 ? in : out, out, groups));
    add(fmt::format("resnets.{}", i), *resnets.back());
  }
  if (kind == Sampler::kNone) return;
  const bool down = kind == Sampler::kDown;
  sampler = std::make_unique<Conv2d>(out, out, 3, down ? 2 : 1, down ? 0 : 1);
  add(down ? "downsamplers.0.conv" : "upsamplers.0.conv", *sampler);
}

// ---- encoder and decoder
// -----------------------------------------------------------------------------------------------

VaeEncoder::VaeEncoder(const AutoencoderKlOptions& o)
    : conv_in(o.image_channels, o.widths.front(), 3, 1, 1),
      mid_block(o.widths.back(), o.groups),
      conv_norm_out(o.groups, o.widths.back(), kEps),
      conv_out(o.widths.back(), 2 * o.latent_channels, 3, 1, 1) {
  add("conv_in", conv_in);
  for (size_t i = 0; i < o.widths.size(); ++i) {
    const auto sampler =
        i + 1 < o.widths.size() ? VaeLevel::Sampler::kDown : VaeLevel::Sampler::kNone;
    down_blocks.push_back(std::make_unique<VaeLevel>(o.widths[i == 0 ? 0 : i - 1], o.widths[i],
                                                     o.layers, o.groups, sampler));
    add(fmt::format("down_blocks.{}", i), *down_blocks.back());
  }
  add("mid_block", mid_block);
  add("conv_norm_out", conv_norm_out);
  add("conv_out", conv_out);
}

Tensor VaeEncoder::forward(const Tensor& images) const {
  Tensor x = conv_in.forward(images);
  for (const auto& level : down_blocks) {
    for (const auto& resnet : level->resnets) x = resnet->forward(x);
    // The stride-2 convolution is padded on the right and below only.
    if (level->sampler) x = level->sampler->forward(at::constant_pad_nd(x, {0, 1, 0, 1}));
  }
  x = mid_block.second.forward(mid_block.attention.forward(mid_block.first.forward(x)));
  return conv_out.forward(ops::silu(conv_norm_out.forward(x)));
}

VaeDecoder::VaeDecoder(const AutoencoderKlOptions& o)
    : conv_in(o.latent_channels, o.widths.back(), 3, 1, 1),
      mid_block(o.widths.back(), o.groups),
      conv_norm_out(o.groups, o.widths.front(), kEps),
      conv_out(o.widths.front(), o.image_channels, 3, 1, 1) {
  add("conv_in", conv_in);
  add("mid_block", mid_block);
  int64_t width = o.widths.back();
  for (size_t i = 0; i < o.widths.size(); ++i) {
    const int64_t out = o.widths[o.widths.size() - 1 - i];
    const auto sampler =
        i + 1 < o.widths.size() ? VaeLevel::Sampler::kUp : VaeLevel::Sampler::kNone;
    up_blocks.push_back(std::make_unique<VaeLevel>(width, out, o.layers + 1, o.groups, sampler));
    add(fmt::format("up_blocks.{}", i), *up_blocks.back());
    width = out;
  }
  add("conv_norm_out", conv_norm_out);
  add("conv_out", conv_out);
}

template <TensorLike T>
T VaeDecoder::forward(const T& z, bool checkpointing) const {
  T x = run(mid_block.first, conv_in.forward(z), checkpointing);
  x = run(mid_block.attention, x, checkpointing);
  x = run(mid_block.second, x, checkpointing);
  for (const auto& level : up_blocks) {
    for (const auto& resnet : level->resnets) x = run(*resnet, x, checkpointing);
    if (level->sampler) x = level->sampler->forward(ops::upsample2x(x));
  }
  return conv_out.forward(ops::silu(conv_norm_out.forward(x)));
}
template Tensor VaeDecoder::forward(const Tensor&, bool) const;
template Dual VaeDecoder::forward(const Dual&, bool) const;

// ---- the autoencoder
// -------------------------------------------------------------------------------------------------

AutoencoderKl::AutoencoderKl(const AutoencoderKlOptions& o) : options(o), encoder(o), decoder(o) {
  add("encoder", encoder);
  add("decoder", decoder);
}

std::unique_ptr<AutoencoderKl> AutoencoderKl::load(const std::filesystem::path& folder,
                                                   const std::string& variant) {
  return load_frozen<AutoencoderKl>(AutoencoderKlOptions::read(folder / "config.json"),
                                    open_component(folder, variant), at::kFloat);
}

template <TensorLike T>
T AutoencoderKl::decode(const T& latents) const {
  VGGFLOW_CHECK(primal(latents).dim() == 4 && primal(latents).size(1) == options.latent_channels,
                "[autoencoder_kl] expected latents (B, {}, h, w), got {}", options.latent_channels,
                shape_string(primal(latents)));
  return decoder.forward(latents * (1 / options.scaling_factor) + options.shift_factor,
                         checkpointing);
}
template Tensor AutoencoderKl::decode(const Tensor&) const;
template Dual AutoencoderKl::decode(const Dual&) const;

namespace {

// `b`, whose first `extent` rows (columns) go over linearly from the last of its neighbour `a`.
template <TensorLike T>
T blend(const T& a, const T& b, int64_t dim, int64_t extent) {
  const int64_t from = primal(a).size(dim), to = primal(b).size(dim),
                n = std::min({from, to, extent});
  std::vector<int64_t> shape(4, 1);
  shape[static_cast<size_t>(dim)] = n;
  const Tensor weight = (at::arange(n, primal(b).options()) / static_cast<double>(n)).view(shape);
  const T seam =
      ops::narrow(a, dim, from - n, n) * (1 - weight) + ops::narrow(b, dim, 0, n) * weight;
  return ops::cat(std::vector<T>{seam, ops::narrow(b, dim, n, to - n)}, dim);
}

template <TensorLike T>
T crop(const T& x, int64_t limit) {
  return ops::narrow(ops::narrow(x, 2, 0, std::min(limit, primal(x).size(2))), 3, 0,
                     std::min(limit, primal(x).size(3)));
}

}  // namespace

template <TensorLike T>
T AutoencoderKl::decode_tiled(const T& latents) const {
  const int64_t tile = options.sample_size / options.downscale(), h = primal(latents).size(2),
                w = primal(latents).size(3);
  if (h <= tile && w <= tile) return decode(latents);
  const auto step = static_cast<int64_t>(static_cast<double>(tile) * (1 - kTileOverlap));
  const auto seam = static_cast<int64_t>(static_cast<double>(options.sample_size) * kTileOverlap);
  VGGFLOW_CHECK(step > 0,
                "[autoencoder_kl] expected tiles of at least 2 latent pixels, got sample_size {}",
                options.sample_size);
  std::vector<T> above, rows;
  for (int64_t y = 0; y < h; y += step) {
    std::vector<T> row, cropped;
    for (int64_t x = 0; x < w; x += step) {
      T piece = decode(ops::narrow(ops::narrow(latents, 2, y, std::min(tile, h - y)), 3, x,
                                   std::min(tile, w - x)));
      if (y > 0) piece = blend(above[row.size()], piece, 2, seam);
      if (x > 0) piece = blend(row.back(), piece, 3, seam);
      row.push_back(piece);
      cropped.push_back(crop(piece, options.sample_size - seam));
    }
    rows.push_back(ops::cat(cropped, 3));
    above = std::move(row);
  }
  return ops::cat(rows, 2);
}
template Tensor AutoencoderKl::decode_tiled(const Tensor&) const;
template Dual AutoencoderKl::decode_tiled(const Dual&) const;

VaePosterior AutoencoderKl::posterior(const Tensor& images) const {
  const int64_t unit = options.downscale();
  VGGFLOW_CHECK(
      images.dim() == 4 && images.size(1) == options.image_channels && images.size(2) % unit == 0 &&
          images.size(3) % unit == 0,
      "[autoencoder_kl] expected images (B, {}, H, W) with H and W multiples of {}, got {}",
      options.image_channels, unit, shape_string(images));
  const auto halves = encoder.forward(images).chunk(2, 1);
  return {halves[0], halves[1].clamp(-30, 20)};
}

Tensor AutoencoderKl::encode(const Tensor& images) const {
  return (posterior(images).mean - options.shift_factor) * options.scaling_factor;
}

}  // namespace vggflow
