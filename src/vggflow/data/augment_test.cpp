#include "vggflow/data/augment.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace vggflow {
namespace {

constexpr AugmentOptions kOff{.shift = 0, .noise = 0, .color = 0, .saturation = 0, .blur = 0};

// One grey pixel amid white in each of `count` images, whose place tells the shift.
Tensor dots(int64_t count) {
  Tensor images = at::ones({count, 3, 9, 9});
  images.select(2, 4).select(2, 4).fill_(0.25);
  return images;
}

TEST(Augment, WithEverythingOffChangesNothing) {
  const Tensor images = dots(3);
  EXPECT_TRUE(at::equal(augment(images, kOff, 1, 2), images));
}

TEST(Augment, ShiftsMoveTheImageAndFillWithWhite) {
  AugmentOptions options = kOff;
  options.shift = 3;
  const Tensor images = augment(dots(400), options, 1, 0);
  EXPECT_TRUE(at::equal(images.sum({1, 2, 3}),
                        dots(400).sum({1, 2, 3})));  // the dot stays whole, all else is white
  const Tensor at_dot = images.select(1, 0).flatten(1).argmin(1);
  const Tensor y = at_dot.div(9, "floor"), x = at_dot.remainder(9);
  for (const Tensor& place : {y, x}) {
    EXPECT_EQ(place.min().item<int64_t>(), 1);
    EXPECT_EQ(place.max().item<int64_t>(), 7);
  }
}

TEST(Augment, BlurAveragesTwoByTwo) {
  AugmentOptions options = kOff;
  options.blur = 1;
  const Tensor image = augment(dots(1), options, 1, 0)[0][0];
  EXPECT_NEAR(image[4][4].item<float>(), 1 - 0.75 / 4, 1e-6);
  EXPECT_NEAR(image.sum().item<float>(), dots(1)[0][0].sum().item<float>(), 1e-4);
}

TEST(Augment, ColourIsOneAffineMapOfAllPixels) {
  AugmentOptions options = kOff;
  options.color = 0.3;
  const Tensor grey = at::linspace(0.4, 0.6, 3 * 81).reshape({1, 3, 9, 9}).expand({50, 3, 9, 9});
  const Tensor out = augment(grey, options, 1, 0).flatten(1);
  const Tensor contrast = (out.select(1, 242) - out.select(1, 0)) / 0.2;
  EXPECT_TRUE((contrast > 0.699).logical_and(contrast < 1.301).all().item<bool>());
  EXPECT_GT((contrast.max() - contrast.min()).item<float>(), 0.3f);
  const Tensor steps = out.diff(1, 1);  // a line stays a line
  EXPECT_TRUE(at::allclose(steps, steps.select(1, 0).unsqueeze(1).expand_as(steps), 1e-2, 1e-6));
}

TEST(Augment, SaturationScalesTheDistanceToGrey) {
  AugmentOptions options = kOff;
  options.saturation = 0.5;
  const Tensor image = at::tensor({0.4F, 0.5F, 0.6F}).view({1, 3, 1, 1}).expand({200, 3, 9, 9});
  const Tensor out = augment(image, options, 1, 0);
  EXPECT_TRUE(at::allclose(out.mean(1), at::full({200, 9, 9}, 0.5), 1e-6, 1e-6));
  const Tensor scale = (out.select(1, 2) - out.select(1, 1)).select(1, 0).select(1, 0) / 0.1;
  EXPECT_TRUE((scale > 0.499).logical_and(scale < 1.501).all().item<bool>());
  EXPECT_GT((scale.max() - scale.min()).item<float>(), 0.8f);
  const Tensor grey = at::full({4, 3, 9, 9}, 0.3);
  EXPECT_TRUE(at::allclose(augment(grey, options, 1, 0), grey));
}

TEST(Augment, NoiseStaysBelowItsLargestDeviation) {
  AugmentOptions options = kOff;
  options.noise = 0.1;
  const Tensor deviation =
      (augment(at::full({60, 3, 32, 32}, 0.5), options, 1, 0) - 0.5).flatten(1).std(1);
  EXPECT_LT(deviation.max().item<float>(), 0.105f);
  EXPECT_NEAR(deviation.mean().item<float>(), 0.05f,
              0.02f);  // the deviation itself is uniform in [0, 0.1]
}

TEST(Augment, IsKeyedByUpdateAndSampleAndStaysInRange) {
  const Tensor images = at::rand({1, 3, 9, 9}).expand({4, 3, 9, 9});
  const Tensor once = augment(images, {}, 7, 1);
  EXPECT_TRUE(at::equal(once, augment(images, {}, 7, 1)));
  EXPECT_TRUE(at::equal(once.narrow(0, 0, 2), augment(images.narrow(0, 0, 2), {}, 7, 1)));
  EXPECT_FALSE(at::equal(once, augment(images, {}, 7, 2)));
  EXPECT_FALSE(at::equal(once[0], once[1]));
  EXPECT_GE(once.min().item<float>(), 0);
  EXPECT_LE(once.max().item<float>(), 1);
}

}  // namespace
}  // namespace vggflow
