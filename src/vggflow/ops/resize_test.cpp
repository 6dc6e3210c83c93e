// Resizing against torch.nn.functional.interpolate and Pillow: values from
// tools/reference/resize_reference.py.
#include "vggflow/ops/resize.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "vggflow/io/safetensors.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ops::Interpolation;
using testing::message_of;
using testing::random_double;
using testing::relative_error;

Tensor get(const std::string& name) {
  static const SafetensorsFile file(std::filesystem::path(VGGFLOW_SOURCE_DIR) /
                                    "src/vggflow/ops/testdata/resize_reference.safetensors");
  return file.load(name);
}

struct Variant {
  std::string name;
  Interpolation interpolation;
  bool antialias;
};
const std::vector<Variant> kVariants{{"bilinear.plain", Interpolation::kBilinear, false},
                                     {"bilinear.antialias", Interpolation::kBilinear, true},
                                     {"bicubic.plain", Interpolation::kBicubic, false},
                                     {"bicubic.antialias", Interpolation::kBicubic, true}};

TEST(Resize, ValuesAndGradientsEqualInterpolateOfPyTorch) {
  for (const std::string size : {"down", "up", "mixed"}) {
    const Tensor cotangent = get(size + ".cotangent");
    for (const Variant& v : kVariants) {
      const Tensor x = get("image").requires_grad_(true);
      const Tensor y =
          ops::resize(x, cotangent.size(2), cotangent.size(3), v.interpolation, v.antialias);
      const std::string key = fmt::format("{}.{}", size, v.name);
      EXPECT_LT(relative_error(y, get(key)), 1e-6) << key;
      EXPECT_LT(
          relative_error(torch::autograd::grad({y}, {x}, {cotangent})[0], get(key + ".gradient")),
          1e-6)
          << key;
    }
  }
}

TEST(Resize, TheTangentIsTheResizedDirectionAndReverseModeRunsThroughIt) {
  const Tensor x = random_double({1, 2, 9, 8}, 1),
               dx = random_double({1, 2, 9, 8}, 2).requires_grad_(true);
  for (const Variant& v : kVariants) {
    const Dual y = ops::resize(Dual{x, dx}, 5, 13, v.interpolation, v.antialias);
    EXPECT_TRUE(at::equal(y.value, ops::resize(x, 5, 13, v.interpolation, v.antialias)));
    EXPECT_TRUE(at::equal(y.tangent, ops::resize(dx, 5, 13, v.interpolation, v.antialias)));
    const auto f = [&](const std::vector<Tensor>& in) {
      return ops::resize(Dual{x, in[0]}, 5, 13, v.interpolation, v.antialias).tangent;
    };
    EXPECT_LT(testing::gradient_error(f, {dx.detach()}), 1e-8) << v.name;
  }
}

// Pillow keeps 8 bits between its two passes and clips them; noise is the hardest image.
TEST(Resize, AntialiasIsPillowsFilterButForRoundingAndClipping) {
  for (const auto& [name, interpolation, most] :
       {std::tuple{"bilinear", Interpolation::kBilinear, 1.0},
        {"bicubic", Interpolation::kBicubic, 1.5}}) {
    const Tensor want = get(std::string("eight.") + name).to(at::kFloat);
    const Tensor got =
        ops::resize(get("eight").to(at::kFloat), want.size(2), want.size(3), interpolation);
    EXPECT_LE((got.clamp(0, 255) - want).abs().max().item<double>(), most) << name;
    const Tensor plain = ops::resize(get("eight").to(at::kFloat), want.size(2), want.size(3),
                                     interpolation, /*antialias=*/false);
    EXPECT_GT((plain - want).abs().max().item<double>(), 20)
        << name << " without antialias is another filter";
  }
}

TEST(Resize, GivesAnImageOfTheAskedSizeBackAsItIs) {
  const Tensor x = random_double({1, 2, 4, 6}, 1);
  EXPECT_TRUE(ops::resize(x, 4, 6, Interpolation::kBicubic).is_same(x));
}

TEST(Resize, RefusesWhatIsNoImage) {
  EXPECT_EQ(message_of([] { ops::resize(at::zeros({3, 4, 4}), 2, 2, Interpolation::kBicubic); }),
            "[resize] expected images (B, C, H, W) of float or double, got (3, 4, 4) of Float");
  EXPECT_EQ(message_of([] { ops::resize(at::zeros({1, 3, 4, 4}), 0, 2, Interpolation::kBicubic); }),
            "[resize] expected a positive height and width, got 0 and 2");
}

}  // namespace
}  // namespace vggflow
