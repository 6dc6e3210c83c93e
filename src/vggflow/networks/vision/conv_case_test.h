#pragma once
// One case of testdata/conv_reference.safetensors, for the tests of convolutional networks: a
// network of full size whose weights both sides make by one formula, and its values in fp64.

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <filesystem>
#include <sstream>
#include <utility>
#include <vector>

#include "vggflow/io/safetensors.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/pattern.h"
#include "vggflow/testing/reference.h"

namespace vggflow::testing {

class ConvCase {
 public:
  explicit ConvCase(std::string name) : name_(std::move(name)) {}
  Tensor get(const std::string& value) const { return reference().load(name_ + "." + value); }
  /// The state dictionary of that layout, written to `file`.
  const std::filesystem::path& write_weights(const std::filesystem::path& file) const {
    TensorList tensors;
    std::istringstream lines(reference().metadata().at(name_));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string key;
      words >> key;
      std::vector<int64_t> shape;
      for (int64_t side; words >> side;) shape.push_back(side);
      tensors.emplace_back(key, pattern_weight(key, shape));
    }
    write_safetensors(file, tensors);
    return file;
  }
  Tensor image(int64_t height, int64_t width, at::ScalarType dtype = at::kFloat) const {
    return pattern(name_ + ".image", {1, 3, height, width}).to(at::kFloat).to(dtype);
  }

  /// Holds features, their gradient and their tangent to the reference's. In fp64 gradients agree
  /// to the rounding of the stored values. In fp32 units may lie so near a kink of relu or of a
  /// maximum that rounding puts them on the other side: conv_reference.py gaps says how far the
  /// reference's own gradient in fp32 is off, by length. `gradient_fp32` is more than 1e-4 only
  /// where that is.
  template <class Features>
  void expect_equal(const Features& features, const Tensor& image,
                    double gradient_fp32 = 1e-4) const {
    const auto dtype = image.scalar_type();
    const bool exact = dtype == at::kDouble;
    const double tolerance = exact ? 1e-6 : gradient_fp32;
    const Tensor x = image.detach().requires_grad_(true);
    const Tensor cotangent =
        (pattern(name_ + ".cotangent", get("features").sizes()) - 0.5).to(dtype);
    const Tensor direction = (pattern(name_ + ".direction", x.sizes()) - 0.5).to(dtype);
    const Tensor y = features(x), gradient = torch::autograd::grad({y}, {x}, {cotangent})[0];
    EXPECT_LT(relative_error(y, get("features")), exact ? 1e-6 : 1e-4) << name_;
    const Tensor want = get("gradient");
    EXPECT_LT(((gradient - want).norm() / want.norm()).item<double>(), tolerance) << name_;
    const Dual dual = features(Dual{image, direction});
    EXPECT_LT(relative_error(dual.value, get("features")), exact ? 1e-6 : 1e-4) << name_;
    const double slope = (dual.tangent * cotangent).sum().item<double>(),
                 most = (want.norm() * direction.norm()).item<double>();
    EXPECT_LT(std::abs(slope - get("slope").item<double>()), tolerance * most) << name_;
  }
  /// Largest difference in units of the largest number.
  static double of_largest(const Tensor& got, const Tensor& want) {
    return ((got - want).abs().max() / want.abs().max()).item<double>();
  }

 private:
  static const SafetensorsFile& reference() {
    static const SafetensorsFile file(testing::models_testdata("conv_reference.safetensors"));
    return file;
  }
  std::string name_;
};

}  // namespace vggflow::testing
