// Preprocessing against torchvision, transformers and hpsv2 on float tensors: values from
// tools/reference/preprocess_reference.py.
#include "vggflow/networks/vision/image_preprocess.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <utility>
#include <vector>

#include "vggflow/io/safetensors.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::relative_error;

Tensor get(const std::string& name) {
  static const SafetensorsFile file(testing::models_testdata("preprocess_reference.safetensors"));
  return file.load(name);
}

const std::vector<std::pair<std::string, Fit>> kFits{{"torchvision", Fit::kCropTorchvision},
                                                     {"transformers", Fit::kCropTransformers},
                                                     {"hpsv2", Fit::kPad},
                                                     {"stretch", Fit::kStretch}};

ImagePreprocess small(Fit fit) { return {.size = 12, .fit = fit}; }

TEST(Preprocess, ValuesAndGradientsEqualTheOfficialTransforms) {
  for (const std::string shape : {"wide", "tall"}) {
    for (const auto& [name, fit] : kFits) {
      const Tensor x = get(shape).requires_grad_(true);
      const Tensor y = preprocess(x, small(fit));
      const std::string key = fmt::format("{}.{}", shape, name);
      EXPECT_LT(relative_error(y, get(key)), 1e-6) << key;
      EXPECT_LT(relative_error(torch::autograd::grad({y}, {x}, {get("cotangent")})[0],
                               get(key + ".gradient")),
                1e-6)
          << key;
    }
  }
}

TEST(Preprocess, TangentsEqualCentralDifferences) {
  for (const auto& [name, fit] : kFits) {
    const auto f = [&fit = fit](const auto& v) { return preprocess(v[0], small(fit)); };
    EXPECT_LT(testing::tangent_error([&](const std::vector<Tensor>& v) { return f(v); },
                                     [&](const std::vector<Dual>& v) { return f(v); },
                                     {get("wide").to(at::kDouble)}),
              1e-8)
        << name;
  }
}

TEST(Preprocess, OnSquareImagesEveryFitIsTheSame) {
  const Tensor x = get("tall").narrow(2, 0, 17);
  const Tensor want = preprocess(x, small(Fit::kStretch));
  for (const auto& [name, fit] : kFits)
    EXPECT_TRUE(at::equal(preprocess(x, small(fit)), want)) << name;
}

TEST(Preprocess, RefusesWhatIsNoImage) {
  EXPECT_THAT(message_of([] { preprocess(at::zeros({2, 1, 8, 8}), {}); }),
              HasSubstr("[preprocess] expected images (B, 3, H, W), got (2, 1, 8, 8)"));
}

}  // namespace
}  // namespace vggflow
