#include "vggflow/networks/autoencoders/taesd.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstdlib>
#include <string>

#include "vggflow/core/error.h"
#include "vggflow/io/model_files.h"
#include "vggflow/nn/checkpoint.h"
#include "vggflow/weights/frozen_weights.h"

namespace vggflow {
namespace {

constexpr int64_t kStages = 3, kBlocks = 3;  // halvings of the side; blocks a stage

namespace fs = std::filesystem;

// diffusers' AutoencoderTiny holds both sides under "<side>.layers.", where the decoder's places
// are one less: its soft clamp is no layer there.
TensorMap from_diffusers(const TensorMap& tensors, const std::string& side, int64_t shift) {
  const std::string prefix = side + ".layers.";
  TensorMap out;
  for (const auto& [name, tensor] : tensors) {
    if (!name.starts_with(prefix)) continue;
    const std::string rest = name.substr(prefix.size());
    const size_t end = rest.find_first_not_of("0123456789");
    const bool indexed = end > 0 && end <= 3;  // no place has more digits
    out[indexed ? std::to_string(std::stoll(rest.substr(0, end)) + shift) + rest.substr(end)
                : rest] = tensor;
  }
  return out;
}

// One side's tensors by their places: of the file that `path` is, of TAESD's own file in the folder
// that it is, or of diffusers' file there.
ComponentWeights side_weights(const fs::path& path, const std::string& side, int64_t shift) {
  const auto of_file = [](const fs::path& file) {
    return ComponentWeights{open_weights(file), {file}, fmt::format("[taesd] {}", file.string())};
  };
  if (fs::is_regular_file(path)) return of_file(path);
  for (const char* ending : {".safetensors", ".pth"}) {
    const fs::path file = path / ("taesd3_" + side + ending);
    if (fs::exists(file)) return of_file(file);
  }
  VGGFLOW_CHECK(has_component(path),
                "[taesd] {} holds no TAESD3: looked for taesd3_{}.safetensors, taesd3_{}.pth and "
                "diffusers' diffusion_pytorch_model.safetensors",
                path.string(), side, side);
  ComponentWeights all = open_component(path);
  all.tensors = from_diffusers(all.tensors, side, shift);
  return all;
}

template <class Network>
std::unique_ptr<Network> load_side(const fs::path& path, const std::string& side, int64_t shift) {
  return load_frozen<Network>(TaesdOptions{}, side_weights(path, side, shift), at::kFloat);
}

// bf16 convolutions with 64 channels take six to ten times as long on images stored channel by
// channel as on pixel by pixel (oneDNN with AMX).
Tensor packed(const Tensor& x) {
  return x.scalar_type() == at::kBFloat16 ? x.contiguous(at::MemoryFormat::ChannelsLast) : x;
}
Dual packed(const Dual& x) { return {packed(x.value), packed(x.tangent)}; }

std::unique_ptr<Conv2d> resampler(int64_t width, int64_t stride) {
  return std::make_unique<Conv2d>(width, width, 3, stride, 1, /*groups=*/1, /*with_bias=*/false);
}

}  // namespace

std::filesystem::path taesd_folder(const std::string& given) {
  if (!given.empty()) return fs::is_regular_file(given) ? fs::path(given) : resolve_model(given);
  const char* assets = std::getenv("VGGFLOW_ASSETS");
  VGGFLOW_CHECK(
      assets,
      "[taesd] expected the folder of TAESD3, got none: pass it (sd3.taesd=DIR of a model, "
      "taesd=DIR "
      "of prepare; also org/name in the Hugging Face cache), or let VGGFLOW_ASSETS name the folder "
      "that holds it as taesd3");
  return std::filesystem::path(assets) / "taesd3";
}

TaesdBlock::TaesdBlock(int64_t width)
    : conv_0(width, width, 3, 1, 1), conv_2(width, width, 3, 1, 1), conv_4(width, width, 3, 1, 1) {
  add("conv.0", conv_0);
  add("conv.2", conv_2);
  add("conv.4", conv_4);
}

template <TensorLike T>
T TaesdBlock::forward(const T& x) const {
  return ops::relu(x + conv_4.forward(ops::relu(conv_2.forward(ops::relu(conv_0.forward(x))))));
}
template Tensor TaesdBlock::forward(const Tensor&) const;
template Dual TaesdBlock::forward(const Dual&) const;

// Places: 0 the soft clamp, 1 the first convolution, 2 its relu; then, a stage, three blocks, the
// doubling and its convolution.
TaesdDecoder::TaesdDecoder(const TaesdOptions& o)
    : options(o), conv_in(o.latent_channels, o.width, 3, 1, 1), conv_out(o.width, 3, 3, 1, 1) {
  add("1", conv_in);
  int64_t place = 3;
  const auto add_block = [&] {
    blocks.push_back(std::make_unique<TaesdBlock>(options.width));
    add(std::to_string(place++), *blocks.back());
  };
  for (int64_t stage = 0; stage < kStages; ++stage) {
    for (int64_t i = 0; i < kBlocks; ++i) add_block();
    upsamplers.push_back(resampler(o.width, /*stride=*/1));
    add(std::to_string(place + 1), *upsamplers.back());
    place += 2;
  }
  add_block();
  add(std::to_string(place), conv_out);
}

std::unique_ptr<TaesdDecoder> TaesdDecoder::load(const std::filesystem::path& folder) {
  return load_side<TaesdDecoder>(folder, "decoder", /*shift=*/1);
}

template <TensorLike T>
T TaesdDecoder::decode(const T& latents) const {
  VGGFLOW_CHECK(primal(latents).dim() == 4 && primal(latents).size(1) == options.latent_channels,
                "[taesd] expected latents (B, {}, h, w), got {}", options.latent_channels,
                shape_string(primal(latents)));
  T x = ops::relu(conv_in.forward(packed(ops::tanh(latents * (1.0 / 3)) * 3.0)));
  for (size_t i = 0; i < blocks.size(); ++i) {
    x = checkpointing ? checkpoint(*blocks[i], x) : blocks[i]->forward(x);
    if ((i + 1) % kBlocks == 0) x = upsamplers[i / kBlocks]->forward(packed(ops::upsample2x(x)));
  }
  return conv_out.forward(x);
}
template Tensor TaesdDecoder::decode(const Tensor&) const;
template Dual TaesdDecoder::decode(const Dual&) const;

// Places: 0 the first convolution, 1 a block; then, a stage, the halving convolution and three
// blocks.
TaesdEncoder::TaesdEncoder(const TaesdOptions& o)
    : options(o), conv_in(3, o.width, 3, 1, 1), conv_out(o.width, o.latent_channels, 3, 1, 1) {
  add("0", conv_in);
  int64_t place = 1;
  const auto add_block = [&] {
    blocks.push_back(std::make_unique<TaesdBlock>(options.width));
    add(std::to_string(place++), *blocks.back());
  };
  add_block();
  for (int64_t stage = 0; stage < kStages; ++stage) {
    downsamplers.push_back(resampler(o.width, /*stride=*/2));
    add(std::to_string(place++), *downsamplers.back());
    for (int64_t i = 0; i < kBlocks; ++i) add_block();
  }
  add(std::to_string(place), conv_out);
}

std::unique_ptr<TaesdEncoder> TaesdEncoder::load(const std::filesystem::path& folder) {
  return load_side<TaesdEncoder>(folder, "encoder", /*shift=*/0);
}

Tensor TaesdEncoder::encode(const Tensor& images) const {
  constexpr int64_t kUnit = 1 << kStages;
  VGGFLOW_CHECK(images.dim() == 4 && images.size(1) == 3 && images.size(2) % kUnit == 0 &&
                    images.size(3) % kUnit == 0,
                "[taesd] expected images (B, 3, H, W) with H and W multiples of {}, got {}", kUnit,
                shape_string(images));
  Tensor x = blocks[0]->forward(conv_in.forward(images));
  for (size_t i = 1; i < blocks.size(); ++i) {
    if ((i - 1) % kBlocks == 0) x = downsamplers[(i - 1) / kBlocks]->forward(x);
    x = blocks[i]->forward(x);
  }
  return conv_out.forward(x);
}

}  // namespace vggflow
