// A family of its own in one file: a two-layer network whose time runs from 0 to 1 as it is. It
// samples under guidance, takes a correction network of every kind, and is aligned by every method,
// so nothing on the way knows what a flow model is made of.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/algorithms/registry.h"
#include "vggflow/flow/guided_velocity.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/train/image_problem.h"
#include "vggflow/train/optimizer.h"

namespace vggflow {
namespace {

constexpr int64_t kSide = 4, kNumbers = 3 * kSide * kSide, kText = 2, kHidden = 16;

struct ToyNetwork : Module {
  ToyNetwork() : in(kNumbers + kText + 1, kHidden), out(kHidden, kNumbers) {
    add("in", in);
    add("out", out);
  }
  template <TensorLike T>
  T velocity(const T& x, const T& t, const Conditioning& c) const {
    const std::vector<T> all{ops::reshape(x, {primal(x).size(0), kNumbers}), lift<T>(c.pooled),
                             ops::unsqueeze(t, 1)};
    const T v = out.forward(ops::silu(in.forward(ops::cat(all, 1))));
    return counted(ops::reshape(v, primal(x).sizes()), passes);
  }
  Linear in, out;
  std::shared_ptr<PassCounter> passes;
};

struct Toy : FlowModel {
  explicit Toy(uint64_t seed = 0) {
    RandomStream random({seed, Purpose::kInit});
    net.in.init(random);
    net.out.init(random);
  }
  Tensor velocity(const Tensor& x, const Tensor& t, const Conditioning& c) const override {
    return net.velocity(x, t, c);
  }
  Dual velocity(const Dual& x, const Dual& t, const Conditioning& c) const override {
    return net.velocity(x, t, c);
  }
  NetworkInputs inputs() const override { return {state_shape(), 0, kText}; }
  Module& network() override { return net; }
  const Module& network() const override { return net; }
  std::string output_layer() const override { return "out"; }
  std::unique_ptr<FlowNetwork> view() const override {
    auto other = std::make_unique<Toy>();
    const auto own = other->net.parameters(), shared = net.parameters();
    for (size_t i = 0; i < own.size(); ++i) *own[i].tensor = *shared[i].tensor;
    other->net.passes = net.passes;
    return other;
  }
  std::unique_ptr<FlowNetwork> small(int64_t, int64_t, uint64_t seed) const override {
    auto other = std::make_unique<Toy>(seed);
    other->net.out.init_zero();
    return other;
  }
  void count_passes(std::shared_ptr<PassCounter> counter) override { net.passes = counter; }
  Conditioning encode(const std::vector<std::string>& prompts) const override {
    Tensor letters = at::zeros({static_cast<int64_t>(prompts.size()), kText});
    for (size_t i = 0; i < prompts.size(); ++i)
      letters[static_cast<int64_t>(i)] = 0.1 * static_cast<double>(prompts[i].size());
    return {{}, letters};
  }
  Conditioning unconditional(int64_t count) const override {
    return encode(std::vector<std::string>(static_cast<size_t>(count)));
  }
  std::vector<int64_t> state_shape() const override { return {3, kSide, kSide}; }
  Tensor decode(const Tensor& x1) const override { return x1; }
  Dual decode(const Dual& x1) const override { return x1; }
  std::string description() const override { return "Toy"; }
  ToyNetwork net;
};

class ToyFamily : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Methods, ToyFamily, ::testing::ValuesIn(method_names()),
                         [](const auto& method) {
                           std::string name = method.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(ToyFamily, SamplesAndIsAlignedLikeAnyOther) {
  const std::vector<std::string> prompts{"a", "heart", "ghost"};
  Toy toy;
  AdaptedFlow adapted(toy, LoraOptions{2, 2, {"in", "out"}}, 1);
  const auto reward = make_reward("colorfulness", {});
  const auto method = make_method(GetParam(), {});
  for (const char* kind : {"none", "mmdit", "lora"}) {
    if (!method->trains_value() && std::string(kind) != "none") continue;
    const auto value = make_value_network({.kind = kind, .rank = 2}, toy, {"in"}, 1);
    ImageProblem problem({toy, adapted, *reward, value.get()}, {.guidance = 2}, prompts);
    ParameterBuffer buffer(adapted.parameters());
    std::unique_ptr<ParameterBuffer> value_buffer;
    if (value) value_buffer = std::make_unique<ParameterBuffer>(value->trainable());
    AdamW adamw(buffer, AdamWOptions{});
    const Tensor before = buffer.values().clone(), base = toy.net.in.weight.clone();
    for (uint64_t update = 0; update < 2; ++update) {
      adapted.merge();
      buffer.zero_grad();
      if (value_buffer) value_buffer->zero_grad();
      const UpdateInput input{
          .seed = 5,
          .update = update,
          .first_sample = 0,
          .x0 = keyed_normal(5, Purpose::kNoise, update, 0, 3, {3, kSide, kSide}),
          .times = time_grid({}),
          .micro_batch = 4,
          .beta_scale = 1};
      EXPECT_EQ(method->update(problem, input).dropped, 0) << kind;
      EXPECT_TRUE(adamw.step(1e-3)) << kind;
    }
    EXPECT_FALSE(at::equal(buffer.values(), before)) << kind;
    EXPECT_TRUE(at::equal(toy.net.in.weight, base)) << kind;
  }
}

}  // namespace
}  // namespace vggflow
