// Rewards saved by torch.jit.save; the modules are written by this test.
#include "vggflow/rewards/torchscript_reward.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include <fstream>

#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using testing::gradient_error;
using ::testing::HasSubstr;
using testing::message_of;
using testing::random_double;
using testing::relative_error;

const std::vector<std::string> kPrompts{"red", "a longer one"};
Tensor images() { return at::sigmoid(random_double({2, 3, 4, 5}, 1)); }

// A module with this forward, saved and named as a reward.
class Script {
 public:
  explicit Script(const std::string& forward) {
    torch::jit::Module module("reward");
    module.register_parameter("gain", at::full({1}, 2.0, at::kDouble), /*is_buffer=*/false);
    module.define(forward);
    module.save((folder_ / "reward.pt").string());
  }
  std::string name() const { return "torchscript:" + (folder_ / "reward.pt").string(); }

 private:
  testing::TemporaryFolder folder_;
};

const char* const kCubic = R"(
def forward(self, images, prompts: List[str]):
    lengths = torch.tensor([len(p) for p in prompts], dtype=images.dtype)
    return self.gain * (images ** 3).sum([1, 2, 3]) + lengths
)";

TEST(TorchScriptReward, ScoresImagesWithTheirPrompts) {
  const Script script(kCubic);
  const auto reward = make_reward("0.5*" + script.name(), {});
  const Tensor want = images().pow(3).sum({1, 2, 3}) + 0.5 * at::tensor({3., 12.}, at::kDouble);
  for (int call = 0; call < 3; ++call)
    EXPECT_LT(relative_error(reward->score(images(), kPrompts), want), 1e-12);
  EXPECT_TRUE(reward->differentiable());
  EXPECT_THAT(reward->describe(), HasSubstr("reward.pt: pixels in [0, 1]"));
}

TEST(TorchScriptReward, MayIgnorePrompts) {
  const Script script("\ndef forward(self, images):\n    return images.mean([1, 2, 3])\n");
  EXPECT_LT(relative_error(make_reward(script.name(), {})->score(images(), kPrompts),
                           images().mean({1, 2, 3})),
            1e-12);
}

TEST(TorchScriptReward, HasExactDerivativesUpToTheHessianProduct) {
  const Script script(kCubic);
  const auto reward = make_reward(script.name(), {});
  const Tensor d = random_double({2, 3, 4, 5}, 2);
  EXPECT_LT(
      gradient_error([&](const std::vector<Tensor>& v) { return reward->score(v[0], kPrompts); },
                     {images()}),
      1e-6);
  EXPECT_LT(
      testing::tangent_error(
          [&](const std::vector<Tensor>& v) { return reward->score(v[0], kPrompts); },
          [&](const std::vector<Dual>& v) { return reward->score(v[0], kPrompts); }, {images()}),
      1e-6);
  EXPECT_LT(
      relative_error(reward_hessian_product(*reward, images(), d, kPrompts), 12 * images() * d),
      1e-12);
}

// The optimizer of TorchScript would compile the first calls away: fused gradients of its own,
// which round otherwise.
TEST(TorchScriptReward, GivesTheSameNumbersFromTheFirstCallOn) {
  const Script script(
      "\ndef forward(self, images):\n    y = torch.tanh(images * 2) * torch.sigmoid(images) + "
      "images / (1 + images * images)\n"
      "    return (torch.tanh(y) * torch.relu(y) * y).sum([1, 2, 3])\n");
  const auto reward = make_reward(script.name(), {});
  const Tensor x = images().to(at::kFloat), d = random_double({2, 3, 4, 5}, 2).to(at::kFloat);
  const RewardGradient first = reward_gradient(*reward, x, kPrompts);
  const Tensor product = reward_hessian_product(*reward, x, d, kPrompts);
  for (int call = 0; call < 5; ++call) {
    const RewardGradient again = reward_gradient(*reward, x, kPrompts);
    EXPECT_TRUE(at::equal(again.score, first.score)) << call;
    EXPECT_TRUE(at::equal(again.gradient, first.gradient)) << call;
    EXPECT_TRUE(at::equal(reward_hessian_product(*reward, x, d, kPrompts), product)) << call;
  }
}

TEST(TorchScriptReward, ThatIsLinearHasHessianProductsOfZero) {
  const Script script("\ndef forward(self, images):\n    return images.mean([1, 2, 3])\n");
  const auto reward = make_reward(script.name(), {});
  EXPECT_EQ(reward_hessian_product(*reward, images(), random_double({2, 3, 4, 5}, 2), kPrompts)
                .abs()
                .max()
                .item<double>(),
            0);
}

TEST(TorchScriptReward, WithoutAGradientIsRefusedWhereOneIsAsked) {
  const Script script("\ndef forward(self, images):\n    return images.detach().mean([1, 2, 3])\n");
  const auto reward = make_reward(script.name(), {});
  EXPECT_LT(relative_error(reward->score(images(), kPrompts), images().mean({1, 2, 3})), 1e-12);
  EXPECT_THAT(message_of([&] { reward_gradient(*reward, images(), kPrompts); }),
              HasSubstr("has no gradient to the images"));
  EXPECT_THAT(message_of([&] { reward->score(Dual{images(), images()}, kPrompts); }),
              HasSubstr("has no gradient to the images"));
}

TEST(TorchScriptReward, ThatIsNoneIsRefused) {
  const auto refusal = [](const std::string& name) {
    return message_of([&] { make_reward(name, {})->score(images(), kPrompts); });
  };
  const testing::TemporaryFolder folder;
  std::ofstream(folder / "text.pt") << "no module";
  EXPECT_THAT(refusal("torchscript:/nowhere.pt"),
              HasSubstr("expected a file that torch.jit.save wrote at /nowhere.pt, found none"));
  EXPECT_THAT(refusal("torchscript:" + (folder / "text.pt").string()),
              HasSubstr("is not a module that torch.jit.save wrote"));
  EXPECT_THAT(refusal(Script("\ndef forward(self, a, b, c):\n    return a\n").name()),
              HasSubstr("forward(images) or forward(images, prompts), got 3 inputs"));
  EXPECT_THAT(refusal(Script("\ndef other(self, a):\n    return a\n").name()),
              HasSubstr("got no forward"));
  EXPECT_THAT(refusal(Script("\ndef forward(self, images):\n    return images\n").name()),
              HasSubstr("expected scores (2) from"));
  EXPECT_THAT(refusal(Script("\ndef forward(self, images):\n    return 3\n").name()),
              HasSubstr("expected a tensor of scores from"));
  EXPECT_THAT(refusal(Script("\ndef forward(self, images):\n    return images.view([7])\n").name()),
              HasSubstr("failed on images (2, 3, 4, 5): RuntimeError: shape '[7]' is invalid"));
}

}  // namespace
}  // namespace vggflow
