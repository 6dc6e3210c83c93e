// T5's encoder against transformers' T5EncoderModel: values from
// tools/reference/text_encoder_reference.py.
#include "vggflow/networks/text/t5_encoder.h"

#include <ATen/ops/isinf.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "vggflow/core/error.h"
#include "vggflow/networks/text/text_encoder_test.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::norm_error;
using testing::scaled_error;

T5Options reference_options(const std::string& variant) {
  T5Options o{
      .vocabulary = 50, .width = 16, .head_dim = 4, .heads = 6, .mlp_width = 20, .layers = 3};
  if (variant == "t5_far") o.buckets = 16, o.max_distance = 64;
  return o;
}

// Loading accounts for every weight of transformers.
class T5Parity : public ::testing::TestWithParam<std::string> {
 protected:
  Tensor run(at::ScalarType dtype) const {
    return T5Encoder::load(reference_options(GetParam()), reference.weights(), dtype)
        ->forward(reference.get("ids"));
  }
  const testing::TextEncoderReference reference{GetParam()};
};
// 37 tokens with the usual buckets, 150 with few: there the far distances share one.
INSTANTIATE_TEST_SUITE_P(Variants, T5Parity, ::testing::Values("t5", "t5_far"));

TEST_P(T5Parity, TokensEqualTransformers) {
  EXPECT_LT(scaled_error(run(at::kFloat), reference.get("tokens")), 1e-5);
}

TEST_P(T5Parity, Bf16ErrsNoMoreThanTransformersDoes) {
  const Tensor out = run(at::kBFloat16), exact = reference.get("tokens");
  EXPECT_EQ(out.scalar_type(), at::kBFloat16);
  const double theirs = norm_error(reference.get("tokens_bf16"), exact);
  EXPECT_LT(norm_error(out, exact), 1.5 * theirs);
  EXPECT_LT(theirs, 0.01);
}

TEST(T5Buckets, AreExactNearAndLogarithmicFar) {
  const Tensor buckets = t5_position_buckets(300, T5Options{});
  const auto at = [&](int64_t i, int64_t j) {
    return buckets.index({at::tensor(i), at::tensor(j)}).item<int64_t>();
  };
  EXPECT_EQ(at(5, 5), 0);
  EXPECT_EQ(at(5, 4), 1);
  EXPECT_EQ(at(4, 5), 17) << "ahead";
  EXPECT_EQ(at(7, 0), 7);
  EXPECT_EQ(at(8, 0), 8);
  EXPECT_EQ(at(11, 0), 8) << "8 + floor(8 log(11/8) / log(16))";
  EXPECT_EQ(at(12, 0), 9);
  EXPECT_EQ(at(127, 0), 15);
  EXPECT_EQ(at(299, 0), 15) << "all far ones share the last";
  EXPECT_EQ(at(0, 299), 31);
}

TEST(T5Encoder, HalfPrecisionIsClampedAndNotInfinite) {
  const T5Options o{
      .vocabulary = 8, .width = 8, .head_dim = 4, .heads = 2, .mlp_width = 8, .layers = 2};
  T5Encoder model(o);
  for (const NamedTensor& p : model.parameters()) {
    const auto has = [&](const char* part) { return p.name.find(part) != std::string::npos; };
    if (!has("norm") && !has("relative")) p.tensor->fill_(has("wi_") ? 8.0 : 60.0);
  }
  model.to(at::kHalf);
  EXPECT_FALSE(at::isinf(model.forward(at::zeros({1, 3}, at::kLong))).any().item<bool>());
  EXPECT_FALSE(at::isnan(model.forward(at::zeros({1, 3}, at::kLong))).any().item<bool>());
}

class T5Folder : public ::testing::Test {
 protected:
  std::unique_ptr<T5Encoder> load() const {
    return T5Encoder::load(T5Options::read(folder.path()), open_component(folder.path()),
                           at::kFloat);
  }
  std::string refusal() const {
    return message_of([&] { load(); });
  }
  const testing::ComponentCopy folder{"text_encoder_3"};
};

TEST_F(T5Folder, LoadsShards) {
  const auto model = load();
  EXPECT_EQ(model->options.width, 24);
  EXPECT_GT(model->forward(at::zeros({1, 3}, at::kLong)).abs().max().item<float>(), 0);
}

TEST_F(T5Folder, TakesCheckpointsThatHoldTheEmbeddingTwice) {
  TensorList all = folder.tensors();
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].first == "shared.weight")
      all.emplace_back("encoder.embed_tokens.weight", all[i].second);
  }
  write_safetensors(folder / "model.safetensors", all);
  EXPECT_EQ(refusal(), "no error");
}

TEST_F(T5Folder, RefusesAnotherKindOfT5) {
  std::ofstream(folder / "config.json") << R"({"feed_forward_proj": "relu"})";
  EXPECT_THAT(refusal(), HasSubstr("expected the feed_forward_proj gated-gelu (T5 v1.1)"));
}

}  // namespace
}  // namespace vggflow
