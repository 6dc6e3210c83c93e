#include "vggflow/networks/vision/conv_layer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/device/device.h"
#include "vggflow/io/content_hash.h"
#include "vggflow/io/finite.h"
#include "vggflow/io/model_files.h"

namespace vggflow {

ConvLayer::ConvLayer(const ConvShape& s, Activation a)
    : shape(s),
      activation(a),
      weight(new_parameter({s.out, s.in / s.groups, s.height, s.width})),
      bias(new_parameter({s.out})) {
  add("weight", weight);
  add("bias", bias);
}

namespace {

// Zeros before and after a side: max(0, (ceil(side / stride) - 1) stride + kernel - side), the odd
// one after.
std::pair<int64_t, int64_t> same_padding(int64_t side, int64_t kernel, int64_t stride) {
  const int64_t total =
      std::max<int64_t>(0, ((side + stride - 1) / stride - 1) * stride + kernel - side);
  return {total / 2, total - total / 2};
}

ops::Padding padding_of(const ConvShape& s, int64_t height, int64_t width) {
  if (s.padding == ConvPadding::kSymmetric)
    return {s.pad_height, s.pad_height, s.pad_width, s.pad_width};
  const auto [top, bottom] = same_padding(height, s.height, s.stride);
  const auto [left, right] = same_padding(width, s.width, s.stride);
  return {top, bottom, left, right};
}

}  // namespace

template <TensorLike T>
T ConvLayer::forward(const T& x) const {
  const Tensor& p = primal(x);
  const auto dtype = p.scalar_type();
  const T y = ops::padded_conv2d(x, weight.to(dtype), bias.to(dtype), shape.stride,
                                 padding_of(shape, p.size(2), p.size(3)), shape.groups);
  switch (activation) {
    case Activation::kRelu:
      return ops::relu(y);
    case Activation::kRelu6:
      return ops::relu6(y);
    case Activation::kNone:
      break;
  }
  return y;
}
template Tensor ConvLayer::forward(const Tensor&) const;
template Dual ConvLayer::forward(const Dual&) const;

ConvWeights::ConvWeights(const std::filesystem::path& file, at::ScalarType dtype)
    : file_(file), dtype_(dtype), tensors_(open_weights(file)) {}

Tensor ConvWeights::take(const std::string& name, at::IntArrayRef shape) {
  const auto found = tensors_.find(name);
  const bool fits = found != tensors_.end() && found->second.sizes() == shape;
  const std::string fault = fits ? weight_fault(found->second) : "";
  if (fits) {
    taken_.insert(name);
    if (fault.empty()) return found->second.to(at::kDouble);
    problems_.push_back(fmt::format("'{}' {}", name, fault));
    return at::ones(shape, at::kDouble);
  }
  const auto expected =
      fmt::format("'{}' of shape ({})", name, fmt::join(shape.begin(), shape.end(), ", "));
  problems_.push_back(found == tensors_.end()
                          ? expected + " is missing"
                          : fmt::format("{} has shape {}", expected, shape_string(found->second)));
  if (found != tensors_.end()) taken_.insert(name);
  return at::ones(shape, at::kDouble);
}

Tensor ConvWeights::placed(const Tensor& x) const { return x.to(current_device(), dtype_); }

void ConvWeights::fill(ConvLayer& layer, const std::string& conv, const std::string& norm,
                       double eps) {
  const Tensor w = take(conv + ".weight", layer.weight.sizes());
  const auto vector = [&](const std::string& name) { return take(name, layer.bias.sizes()); };
  if (norm.empty()) {
    layer.weight = placed(w);
    layer.bias = placed(vector(conv + ".bias"));
    return;
  }
  const Tensor scale = vector(norm + ".weight") / at::sqrt(vector(norm + ".running_var") + eps);
  layer.weight = placed(w * scale.view({-1, 1, 1, 1}));
  layer.bias = placed(vector(norm + ".bias") - vector(norm + ".running_mean") * scale);
}

void ConvWeights::fill(Linear& layer, const std::string& name) {
  const auto found = tensors_.find(name + ".weight");
  const bool convolution = found != tensors_.end() && found->second.dim() == 4;
  const std::vector<int64_t> shape = convolution ? std::vector<int64_t>{layer.out, layer.in, 1, 1}
                                                 : std::vector<int64_t>{layer.out, layer.in};
  layer.weight = placed(take(name + ".weight", shape).view({layer.out, layer.in}));
  layer.bias = placed(take(name + ".bias", {layer.out}));
}

void ConvWeights::expect_complete(const std::set<std::string>& known) const {
  std::vector<std::string> problems = problems_;
  for (const auto& [name, tensor] : tensors_) {
    const bool harmless = name.ends_with(".num_batches_tracked") ||
                          std::any_of(known.begin(), known.end(), [&name = name](const auto& k) {
                            return name.starts_with(k);
                          });
    if (!taken_.contains(name) && !harmless)
      problems.push_back(fmt::format("'{}' is not of this network", name));
  }
  VGGFLOW_CHECK(problems.empty(), "[weights] {} does not fit, {}: {}", file_.string(),
                count_of(problems.size(), "fault"), examples_of(problems));
}

std::string ConvWeights::hash() const { return content_hash(tensors_); }

}  // namespace vggflow
