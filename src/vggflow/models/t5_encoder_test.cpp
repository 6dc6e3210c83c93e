// T5's encoder against transformers' T5EncoderModel: values from tools/reference/text_encoder_reference.py.
#include "vggflow/models/t5_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "vggflow/core/error.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::relative_error;

const SafetensorsFile& reference() {
  static const SafetensorsFile file(std::filesystem::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/models/testdata/text_encoder_reference.safetensors");
  return file;
}

T5Options reference_options(const std::string& variant) {
  T5Options o{.vocabulary = 50, .width = 16, .head_dim = 4, .heads = 6, .mlp_width = 20, .layers = 3};
  if (variant == "t5_far") o.buckets = 16, o.max_distance = 64;
  return o;
}

class T5Parity : public ::testing::TestWithParam<std::string> {
 protected:
  Tensor get(const std::string& name) const { return reference().load(GetParam() + "." + name); }
  T5Encoder make() const {
    return T5Encoder(reference_options(GetParam()), [this](const std::string& name) { return get("weights." + name); });
  }
};
// 37 tokens with the usual buckets, 150 with few: there the far distances share one.
INSTANTIATE_TEST_SUITE_P(Variants, T5Parity, ::testing::Values("t5", "t5_far"));

TEST_P(T5Parity, EveryWeightOfTransformersHasItsPlace) {
  size_t weights = 0;
  for (const auto& [name, entry] : reference().tensors()) weights += name.starts_with(GetParam() + ".weights.");
  EXPECT_EQ(make().parameters().size(), weights);
}

TEST_P(T5Parity, TokensEqualTransformers) { EXPECT_LT(relative_error(make().forward(get("ids")), get("tokens")), 1e-5); }

TEST_P(T5Parity, Bf16StaysNearFp32) {
  auto model = make();
  model.to(at::kBFloat16);
  const Tensor out = model.forward(get("ids"));
  EXPECT_EQ(out.scalar_type(), at::kBFloat16);
  // Three blocks of eight-bit mantissas: the bound is three times the 0.7 % and 0.8 % seen here.
  EXPECT_LT(relative_error(out.to(at::kFloat), get("tokens")), 2.4e-2);
}

TEST(T5Buckets, AreExactNearAndLogarithmicFar) {
  const Tensor buckets = t5_position_buckets(300, T5Options{});
  const auto at = [&](int64_t i, int64_t j) { return buckets.index({at::tensor(i), at::tensor(j)}).item<int64_t>(); };
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
  const T5Options o{.vocabulary = 8, .width = 8, .head_dim = 4, .heads = 2, .mlp_width = 8, .layers = 2};
  T5Encoder model(o, [&](const std::string& name) {
    const bool norm = name.find("norm") != std::string::npos, table = name.find("relative") != std::string::npos;
    const bool up = name.find("wi_") != std::string::npos;
    return norm ? at::ones({8}, at::kHalf) : table ? at::zeros({32, 2}, at::kHalf) : at::full({8, 8}, up ? 8.0 : 60.0, at::kHalf);
  });
  EXPECT_FALSE(at::isinf(model.forward(at::zeros({1, 3}, at::kLong))).any().item<bool>());
  EXPECT_FALSE(at::isnan(model.forward(at::zeros({1, 3}, at::kLong))).any().item<bool>());
}

class T5ModelFolder : public ::testing::Test {
 protected:
  T5ModelFolder() {
    std::filesystem::copy(std::filesystem::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/models/testdata/sd3_prompt/text_encoder_3", folder);
  }
  std::string refusal() const {
    return message_of([&] { T5Encoder::load(folder, at::kFloat); });
  }
  const testing::TemporaryFolder scratch;
  const std::filesystem::path folder = scratch.path();
};

TEST_F(T5ModelFolder, LoadsShards) {
  const auto model = T5Encoder::load(folder, at::kFloat);
  EXPECT_EQ(model->options.width, 24);
  EXPECT_GT(model->forward(at::zeros({1, 3}, at::kLong)).abs().max().item<float>(), 0);
}

TEST_F(T5ModelFolder, RefusesAMissingShardAndAnotherKindOfT5) {
  std::filesystem::rename(folder / "model-00002-of-00003.safetensors", folder / "away");
  EXPECT_THAT(refusal(), HasSubstr("model-00002-of-00003.safetensors"));
  std::filesystem::copy(folder / "model-00001-of-00003.safetensors", folder / "model-00002-of-00003.safetensors");
  EXPECT_THAT(refusal(), HasSubstr("is in two shards of"));
  std::filesystem::rename(folder / "away", folder / "model-00002-of-00003.safetensors");
  EXPECT_EQ(refusal(), "no error");
  std::ofstream(folder / "config.json") << R"({"feed_forward_proj": "relu"})";
  EXPECT_THAT(refusal(), HasSubstr("expected the feed_forward_proj gated-gelu (T5 v1.1)"));
}

}  // namespace
}  // namespace vggflow
