// What passes through image networks are said to cost, against an allocator's count.
#include "vggflow/networks/vision/vision_cost.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "vggflow/networks/model_folder.h"
#include "vggflow/testing/memory_meter.h"

namespace vggflow {
namespace {

using testing::MemoryMeter;

// Predicted bytes of a pass over `rows` images against the allocator's, within what the plan
// promises.
template <class F>
void expect_bytes(const PassCost& cost, double rows, const F& f, Tensor images, double within,
                  const std::string& what) {
  const auto near = [&](double predicted, double measured, const char* which) {
    EXPECT_NEAR(predicted / measured, 1.0, within)
        << which << ", " << what << ": predicted " << predicted << ", measured " << measured;
  };
  {
    const at::AutoGradMode on(true);
    images.requires_grad_(true);
    MemoryMeter meter;
    const Tensor y = f(images);
    near(rows * cost.graph, meter.live() - static_cast<double>(y.nbytes()), "graph");
    y.sum().backward();
    near(rows * (cost.graph + cost.unwind), meter.peak(), "peak");
  }
  const at::NoGradGuard no_grad;
  MemoryMeter meter;
  const Tensor y = f(images.detach());
  near(rows * cost.idle, meter.peak(), "without gradient");
}

TEST(VisionCost, PredictsTheBytesOfATransformer) {
  const ClipVisionOptions options{.image = 112,
                                  .patch = 14,
                                  .width = 256,
                                  .mlp_width = 1024,
                                  .layers = 6,
                                  .heads = 4,
                                  .projection = 64};
  ClipVisionModel net(options);
  init_layers(net, 0);
  net.set_requires_grad(false);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    net.to(dtype);
    for (const bool recompute : {false, true}) {
      net.recompute = recompute;
      expect_bytes(
          vision_cost(tower_of(options), dtype == at::kFloat ? 4 : 2, recompute), 4,
          [&](const Tensor& x) { return net.embed(x); }, at::rand({4, 3, 112, 112}), 0.15,
          fmt::format("{}{}", dtype == at::kFloat ? "fp32" : "bf16",
                      recompute ? ", recomputed" : ""));
    }
  }
}

TEST(VisionCost, PredictsTheBytesOfMobileNetworks) {
  for (const MobileNetOptions& options :
       {mobilenet_v1_options(10), mobilenet_v2_options(1001), efficientnet_lite0_options()}) {
    MobileNet net(options);
    init_layers(net, 0);
    net.set_requires_grad(false);
    expect_bytes(
        mobilenet_cost(options, 96), 2, [&](const Tensor& x) { return net.logits(x); },
        at::rand({2, 3, 96, 96}), 0.15, fmt::format("{} classes", options.classes));
  }
}

// Multiply-adds as they are published: 569 million of MobileNetV1 and 300 of V2 at 224 pixels
// (their papers), 407 of EfficientNet-Lite0; 162 GFLOP of ViT-L/14.
TEST(VisionCost, KnowsThePublishedOperations) {
  EXPECT_NEAR(mobilenet_cost(mobilenet_v1_options(1000), 224).forward, 2 * 569e6, 2 * 12e6);
  EXPECT_NEAR(mobilenet_cost(mobilenet_v2_options(1000), 224).forward, 2 * 300e6, 2 * 12e6);
  EXPECT_NEAR(mobilenet_cost(efficientnet_lite0_options(), 224).forward, 2 * 407e6, 2 * 25e6);
  EXPECT_NEAR(vision_cost({}).forward, 0.162e12, 0.01e12);
}

}  // namespace
}  // namespace vggflow
