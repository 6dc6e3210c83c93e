// Rewards in shared libraries: the example (examples/reward_plugin/sharpness.c) against its formula
// in ATen, and plug-ins that misbehave (testdata/failing_plugin.c).
#include "vggflow/rewards/plugin_reward.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <thread>
#include <utility>

#include "vggflow/io/files.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;
using testing::random_double;
using testing::relative_error;

const std::string kSharpness = std::string("plugin:") + VGGFLOW_PLUGIN_SHARPNESS;
const std::vector<std::string> kPrompts{"red heart", "ghost", "blue heart"};

std::unique_ptr<Reward> failing(const std::string& how) {
  return make_reward(std::string("plugin:") + VGGFLOW_PLUGIN_FAILING + "?fail=" + how, {});
}

Tensor images() { return at::sigmoid(random_double({3, 3, 9, 12}, 1)); }
Tensor direction() { return random_double({3, 3, 9, 12}, 2); }

// The example's formula, twice differentiable.
Tensor sharpness(const Tensor& x, double floor) {
  const Tensor luma = (x * at::tensor({0.299, 0.587, 0.114}, x.options()).view({1, 3, 1, 1}))
                          .sum(1, /*keepdim=*/true);
  const Tensor laplacian = at::conv2d(
      luma, at::tensor({0., 1., 0., 1., -4., 1., 0., 1., 0.}, x.options()).view({1, 1, 3, 3}));
  return (floor + laplacian.square().mean({1, 2, 3})).log();
}

struct Exact {
  Tensor score, gradient, product;  ///< r, grad r, H d
};
Exact exact_sharpness(const Tensor& at, const Tensor& d, double floor) {
  at::AutoGradMode on(true);
  const Tensor x = at.detach().requires_grad_(true);
  const Tensor r = sharpness(x, floor);
  const Tensor g =
      torch::autograd::grad({r.sum()}, {x}, {}, std::nullopt, /*create_graph=*/true)[0];
  return {r.detach(), g.detach(), torch::autograd::grad({(g * d).sum()}, {x})[0]};
}

TEST(PluginReward, OfTheExampleEqualsItsFormulaAndGradient) {
  for (const auto& [options, floor] : {std::pair{"", 1e-4}, {"?floor=0.5", 0.5}}) {
    const auto reward = make_reward(kSharpness + options, {});
    const Exact want = exact_sharpness(images(), direction(), floor);
    EXPECT_LT(relative_error(reward->score(images(), kPrompts), want.score), 1e-6);
    const RewardGradient got = reward_gradient(*reward, images(), kPrompts);
    EXPECT_LT(relative_error(got.score, want.score), 1e-6);
    EXPECT_LT(
        relative_error(got.gradient, want.gradient) / want.gradient.abs().max().item<double>(),
        1e-6);
  }
}

TEST(PluginReward, GivesTheTangentAndByDifferencesTheHessianProduct) {
  const auto reward = make_reward(kSharpness + "?floor=0.5", {});
  const Exact want = exact_sharpness(images(), direction(), 0.5);
  const Dual got = reward->score(Dual{images(), direction()}, kPrompts);
  EXPECT_LT(relative_error(got.value, want.score), 1e-6);
  EXPECT_LT(relative_error(got.tangent, (want.gradient * direction()).sum({1, 2, 3})), 1e-6);
  const Tensor product = reward_hessian_product(*reward, images(), direction(), kPrompts);
  EXPECT_LT((product - want.product).norm().item<double>(),
            1e-3 * want.product.norm().item<double>());
}

TEST(PluginReward, GivesTheHessianProductOfEachSampleByItself) {
  const auto reward = make_reward(kSharpness, {});
  Tensor d = direction();
  d[0] *= 1e6;
  d[1].zero_();
  const Tensor product = reward_hessian_product(*reward, images(), d, kPrompts);
  const Exact want = exact_sharpness(images(), d, 1e-4);
  for (const int64_t i : {0, 2})
    EXPECT_LT((product[i] - want.product[i]).norm().item<double>(),
              1e-3 * want.product[i].norm().item<double>())
        << i;
  EXPECT_EQ(product[1].abs().max().item<double>(), 0);
}

TEST(PluginReward, CanBeDifferentiatedTwiceInReverse) {
  at::AutoGradMode on(true);
  const auto reward = make_reward(kSharpness, {});
  const Tensor x = images().requires_grad_(true);
  const Tensor g = torch::autograd::grad({reward->score(x, kPrompts).sum()}, {x}, {}, std::nullopt,
                                         /*create_graph=*/true)[0];
  const Tensor product = torch::autograd::grad({(g * direction()).sum()}, {x})[0];
  const Exact want = exact_sharpness(images(), direction(), 1e-4);
  EXPECT_LT((product - want.product).norm().item<double>(),
            1e-3 * want.product.norm().item<double>());
}

TEST(PluginReward, IsATermOfAWeightedSum) {
  const auto sum = make_reward("2*" + kSharpness + "?floor=0.5 + 0.1*colorfulness", {});
  EXPECT_THAT(rewards_in("2*" + kSharpness + "?floor=0.5 + 0.1*colorfulness"),
              ::testing::ElementsAre(kSharpness + "?floor=0.5", "colorfulness"));
  const Tensor want = 2 * sharpness(images(), 0.5) +
                      0.1 * make_reward("colorfulness", {})->score(images(), kPrompts);
  EXPECT_LT(relative_error(sum->score(images(), kPrompts), want), 1e-6);
  EXPECT_TRUE(sum->differentiable());
  EXPECT_THAT(sum->describe(), HasSubstr("at least 3x3; luma; floor 0.5"));
}

TEST(PluginReward, IsFoundUnderAPathWithStarsAndPluses) {
  const testing::TemporaryFolder folder;
  for (const auto& [name, expression] :
       {std::pair{"a+b*c.so", "2*plugin:{}"}, {"a + b.so", "2*(plugin:{})"}}) {
    std::filesystem::copy_file(VGGFLOW_PLUGIN_SHARPNESS, folder / name);
    const auto reward =
        make_reward(fmt::format(fmt::runtime(expression), (folder / name).string()), {});
    EXPECT_LT(relative_error(reward->score(images(), kPrompts), 2 * sharpness(images(), 1e-4)),
              1e-6)
        << name;
  }
}

TEST(PluginReward, IsNotShownImagesThatAreNotFinite) {
  const auto reward = make_reward(kSharpness, {});
  Tensor x = images();
  x[1][2][3][4] = std::numeric_limits<double>::infinity();
  const RewardGradient got = reward_gradient(*reward, x, kPrompts);
  const Exact want = exact_sharpness(images(), direction(), 1e-4);
  EXPECT_TRUE(got.score[1].isnan().item<bool>());
  EXPECT_TRUE(got.gradient[1].isnan().all().item<bool>());
  for (const int64_t i : {0, 2}) {
    EXPECT_LT(relative_error(got.score[i], want.score[i]), 1e-6);
    EXPECT_LT((got.gradient[i] - want.gradient[i]).norm().item<double>(),
              1e-6 * want.gradient[i].norm().item<double>());
  }
}

TEST(PluginReward, ThatCannotBeLoadedIsRefused) {
  const testing::TemporaryFolder folder;
  const auto refusal = [](const std::string& name) {
    return message_of([&] { make_reward(name, {}); });
  };
  EXPECT_THAT(refusal("plugin:/nowhere/lib.so+colorfulness"),
              HasSubstr("expected a shared library at /nowhere/lib.so+colorfulness, found none. A "
                        "further reward is "
                        "added with ' + '"));
  std::ofstream(folder / "text.so") << "this is no library";
  EXPECT_THAT(refusal("plugin:" + (folder / "text.so").string()),
              HasSubstr("cannot load the shared library " + (folder / "text.so").string()));
  // Of these two the constructors abort: nothing of a library runs before it is known to fit.
  EXPECT_THAT(refusal(std::string("plugin:") + VGGFLOW_PLUGIN_NO_NUMBER),
              HasSubstr("does not hold the number of its interface (vggflow_reward_abi_number)"));
  EXPECT_THAT(refusal(std::string("plugin:") + VGGFLOW_PLUGIN_OTHER_ABI),
              HasSubstr("speaks version 99 of the reward interface, expected 1: compile it with"));
  const std::string whole = read_text(VGGFLOW_PLUGIN_FAILING);
  for (const size_t size : {size_t{20}, size_t{64}, whole.size() / 2, whole.size() - 1}) {
    std::ofstream(folder / "cut.so") << whole.substr(0, size);
    EXPECT_THAT(refusal("plugin:" + (folder / "cut.so").string()),
                HasSubstr("cannot load the shared library"));
  }
  EXPECT_THAT(refusal(std::string("plugin:") + VGGFLOW_PLUGIN_NO_SCORE),
              HasSubstr("has no function vggflow_reward_score: it is no reward plug-in"));
  EXPECT_THAT(
      refusal(std::string("plugin:") + VGGFLOW_PLUGIN_NO_GRADIENT),
      HasSubstr("has no function vggflow_reward_gradient, but says that it is differentiable"));
  EXPECT_THAT(refusal(std::string("plugin:") + VGGFLOW_PLUGIN_FAILING + "?fail=flags"),
              HasSubstr("has flags 0xc, of which this version knows only"));
}

TEST(PluginReward, RefusesOptionsInItsOwnWords) {
  const auto refusal = [](const std::string& name) {
    return message_of([&] { make_reward(name, {}); });
  };
  EXPECT_THAT(refusal(std::string("plugin:") + VGGFLOW_PLUGIN_FAILING + "?fail=create"),
              HasSubstr("makes no reward: no licence for fail"));
  EXPECT_THAT(refusal(kSharpness + "?flor=1"), HasSubstr("the only option is floor, got 'flor=1'"));
  EXPECT_THAT(refusal(kSharpness + "?floor=-1"),
              HasSubstr("expected floor above 0 and below 1e6, got 'floor=-1'"));
}

TEST(PluginReward, PassesOnWhatWentWrongInACall) {
  const auto score = [](const std::string& how) {
    return message_of([&] { failing(how)->score(images(), kPrompts); });
  };
  EXPECT_THAT(score("score"),
              HasSubstr("failed in the score of 3 images 12x9: out of luck with 'red heart'"));
  EXPECT_THAT(score("silent"), HasSubstr("failed in the score of 3 images 12x9: no message"));
  EXPECT_THAT(score("flood"), HasSubstr(std::string(1023, 'x')));
  EXPECT_THAT(score("flood"), Not(HasSubstr(std::string(1024, 'x'))));
  EXPECT_THAT(
      score("infinite"),
      HasSubstr(
          "gave a score that is not finite (or was not written) for image 2 of 3, prompt 'ghost'"));
  EXPECT_THAT(score("short"),
              HasSubstr("(or was not written) for image 3 of 3, prompt 'blue heart'"));
  const auto gradient = [](const std::string& how) {
    return message_of([&] { reward_gradient(*failing(how), images(), kPrompts); });
  };
  EXPECT_THAT(gradient("gradient"),
              HasSubstr("failed in the gradient of 3 images 12x9: lost the gradient"));
  EXPECT_THAT(
      gradient("nan"),
      HasSubstr("gave a gradient that is not finite (or was not written) for image 1 of 3"));
  EXPECT_THAT(message_of([] { failing("")->score(images(), {"red heart"}); }),
              HasSubstr("expected one prompt per image, got 1 for 3"));
  EXPECT_THAT(
      message_of([] { make_reward(kSharpness, {})->score(images().narrow(2, 0, 2), kPrompts); }),
      HasSubstr("at least 3x3 pixels, got 12x2"));
}

TEST(PluginReward, ThatThrowsOrWritesBesideItsNumbersIsNamed) {
  const auto score = [](const std::string& how) {
    return message_of([&] { failing(how)->score(images(), kPrompts); });
  };
  EXPECT_THAT(score("throw"),
              HasSubstr("threw an exception in the score, which no C interface lets through: the "
                        "licence server is asleep"));
  EXPECT_THAT(score("throw_number"),
              HasSubstr("threw something that is no std::exception in the score"));
  for (const char* how : {"one_more", "one_before"})
    EXPECT_THAT(score(how), HasSubstr("wrote outside of the numbers that it was given in the score "
                                      "of 3 images 12x9; this is a fault of the plug-in"));
}

// Success would be a lie, and a crash would look like one of this program.
TEST(PluginRewardDeathTest, ThatEndsTheProgramIsNamedAndIsNoSuccess) {
  const auto ends = [](const char* how, const std::string& words) {
    EXPECT_EXIT(failing(how)->score(images(), kPrompts), ::testing::ExitedWithCode(1),
                "vggflow: .plugin. .*plugin_failing.so " + words +
                    " in the score; this is a fault of the plug-in")
        << how;
  };
  ends("exit", "ended the program");
  ends("quick_exit", "ended the program");
  ends("_exit", "ended the program");
  ends("_Exit", "ended the program");
  ends("abort", "called abort");
  ends("far", "crashed .it used memory that is not its own, .*");
  ends("flood_more", "crashed .it used memory that is not its own, .*");
}

TEST(PluginReward, ThatForksAChildMayEndIt) {
  EXPECT_EQ(failing("child")->score(images(), kPrompts)[0].item<double>(), 3);
}

// Outside of a plug-in's code all is as it was.
TEST(PluginRewardDeathTest, LeavesOtherEndsAlone) {
  failing("")->score(images(), kPrompts);
  EXPECT_EXIT(std::exit(0), ::testing::ExitedWithCode(0), "^$");
  EXPECT_EXIT(::_exit(4), ::testing::ExitedWithCode(4), "^$");
  EXPECT_EXIT(std::abort(), ::testing::KilledBySignal(SIGABRT), "^$");
  EXPECT_EXIT(::raise(SIGSEGV), ::testing::KilledBySignal(SIGSEGV), "^$");
}

TEST(PluginReward, WithoutAGradientJudgesButDoesNotTrain) {
  const auto judge = failing("judge");
  EXPECT_TRUE(
      at::equal(judge->score(images(), kPrompts),
                images().select(1, 0).select(1, 0).select(1, 0).to(at::kFloat).to(at::kDouble)));
  EXPECT_FALSE(judge->differentiable());
  EXPECT_THAT(message_of([&] { reward_gradient(*judge, images(), kPrompts); }),
              HasSubstr("has no gradient: it can judge"));
  EXPECT_THAT(message_of([&] { judge->score(Dual{images(), direction()}, kPrompts); }),
              HasSubstr("has no gradient"));
  const std::string sum =
      "colorfulness + plugin:" + std::string(VGGFLOW_PLUGIN_FAILING) + "?fail=judge";
  EXPECT_THAT(message_of([&] { require_differentiable(*make_reward(sum, {}), sum); }),
              HasSubstr("[reward] " + sum + " has no gradient"));
  EXPECT_EQ(
      message_of([] { require_differentiable(*make_reward("colorfulness", {}), "colorfulness"); }),
      "no error");
}

TEST(PluginReward, ThatIsNotThreadSafeIsCalledByOneThreadAtATime) {
  const auto reward = failing("overlap");
  std::vector<std::string> messages(4);
  std::vector<std::thread> threads;
  for (std::string& message : messages)
    threads.emplace_back([&] { message = message_of([&] { reward->score(images(), kPrompts); }); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(messages, ::testing::Each("no error"));
}

}  // namespace
}  // namespace vggflow
