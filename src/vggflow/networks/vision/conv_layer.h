#pragma once
// A convolution of a classifier at inference: its batch norm is folded into weight and bias when
// the weights are read, and its activation belongs to it. Files keep the norm apart or folded; both
// are read (ConvWeights).

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "vggflow/io/safetensors.h"
#include "vggflow/nn/module.h"
#include "vggflow/ops/convolutional.h"

namespace vggflow {

enum class Activation { kNone, kRelu, kRelu6 };

/// kTensorFlowSame: the output has ceil(side / stride) places, and an odd zero goes after the
/// image. kSymmetric: as PyTorch's.
enum class ConvPadding { kTensorFlowSame, kSymmetric };

struct ConvShape {
  int64_t in, out, height, width;  ///< channels, and the kernel's sides
  int64_t stride = 1;
  int64_t groups = 1;
  ConvPadding padding = ConvPadding::kTensorFlowSame;
  int64_t pad_height = 0, pad_width = 0;  ///< with kSymmetric
};

/// activation(conv(x) + bias).
class ConvLayer : public Module {
 public:
  ConvLayer(const ConvShape& shape, Activation activation);
  template <TensorLike T>
  T forward(const T& x) const;

  ConvShape shape;
  Activation activation;
  Tensor weight;  // (out, in / groups, height, width)
  Tensor bias;    // (out)
};

/// Takes a file's tensors one layer after the other and notes what is missing, misshaped and left
/// over.
class ConvWeights {
 public:
  /// `dtype` is what layers are filled in; tests take fp64.
  explicit ConvWeights(const std::filesystem::path& file, at::ScalarType dtype = at::kFloat);
  bool contains(const std::string& name) const { return tensors_.contains(name); }
  /// `conv`.weight with `conv`.bias, or, where `norm` is given, with that batch norm folded in (in
  /// fp64): w = w gamma / sqrt(var + eps),  b = beta - mean gamma / sqrt(var + eps).
  void fill(ConvLayer& layer, const std::string& conv, const std::string& norm = "",
            double eps = 0);
  /// `name`.weight, which may be a 1 x 1 convolution's, and `name`.bias.
  void fill(Linear& layer, const std::string& name);
  /// Throws, listing them, for tensors that were missing or had another shape and for those nobody
  /// took; `known` are harmless beginnings of names, and so is a batch norm's count of batches.
  void expect_complete(const std::set<std::string>& known = {}) const;
  /// Hash of the file's tensors.
  std::string hash() const;

 private:
  /// x on the current device, in the dtype of the weights.
  Tensor placed(const Tensor& x) const;
  Tensor take(const std::string& name, at::IntArrayRef shape);
  std::filesystem::path file_;
  at::ScalarType dtype_;
  TensorMap tensors_;
  std::set<std::string> taken_;
  std::vector<std::string> problems_;
};

}  // namespace vggflow
