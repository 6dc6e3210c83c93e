// MMDiT against diffusers' SD3Transformer2DModel: values, gradients and directional derivative from tools/reference/mmdit_reference.py.
#include "vggflow/models/mmdit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "vggflow/core/error.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/models/lora_file.h"
#include "vggflow/models/self_check.h"
#include "vggflow/models/value_network.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::random_double;
using testing::relative_error;

const SafetensorsFile& reference() {
  static const SafetensorsFile file(std::filesystem::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/models/testdata/mmdit_reference.safetensors");
  return file;
}

MmditOptions reference_options(bool qk_norm) {
  return {.sample_size = 8, .channels = 4, .patch_size = 2, .layers = 3, .heads = 2, .head_dim = 8, .context_dim = 12, .pooled_dim = 10,
          .pos_embed_max = 6, .qk_norm = qk_norm};
}

class MmditParity : public ::testing::TestWithParam<std::string> {
 protected:
  MmditParity() : net(reference_options(GetParam() == "qk_norm")) {
    for (const NamedTensor& p : net.parameters()) {
      const Tensor w = get("weights." + p.name);
      EXPECT_EQ(w.sizes(), p.tensor->sizes()) << p.name;
      *p.tensor = w;
    }
  }
  Tensor get(const std::string& name) const { return reference().load(GetParam() + "." + name); }
  Conditioning conditioning() const { return {get("context"), get("pooled")}; }
  Mmdit net;
};
INSTANTIATE_TEST_SUITE_P(Variants, MmditParity, ::testing::Values("plain", "qk_norm"));

TEST_P(MmditParity, EveryWeightOfDiffusersHasItsPlace) {
  size_t weights = 0;
  for (const auto& [name, entry] : reference().tensors()) weights += name.starts_with(GetParam() + ".weights.");
  EXPECT_EQ(net.parameters().size(), weights);
}

TEST_P(MmditParity, OutputsAndGradientsEqualDiffusers) {
  net.set_requires_grad(true);
  const Tensor x = get("x").requires_grad_(true);
  const Tensor y = net.forward(x, get("t"), conditioning());
  EXPECT_LT(relative_error(y, get("y")), 1e-5);
  std::vector<Tensor> inputs{x};
  std::vector<std::string> names{"x"};
  for (const NamedTensor& p : net.parameters()) {
    if (!reference().contains(GetParam() + ".grad." + p.name)) continue;
    inputs.push_back(*p.tensor);
    names.push_back(p.name);
  }
  EXPECT_EQ(inputs.size(), 4u);
  const auto grads = torch::autograd::grad({y}, inputs, {get("cotangent")});
  for (size_t i = 0; i < grads.size(); ++i) EXPECT_LT(relative_error(grads[i], get("grad." + names[i])), 1e-4) << names[i];
}

TEST_P(MmditParity, DirectionalDerivativeEqualsTorchFuncJvp) {
  const Dual y = net.forward(Dual{get("x"), get("dx")}, Dual{get("t"), get("dt")}, conditioning());
  EXPECT_LT(relative_error(y.value, get("y")), 1e-5);
  EXPECT_LT(relative_error(y.tangent, get("tangent")), 1e-4);
}

// bf16 products keep eight bits of mantissa through three blocks; the bound is three times the 0.6 % and 0.9 % seen here.
TEST_P(MmditParity, Bf16StaysNearFp32) {
  net.to(at::kBFloat16);
  net.compute = at::kBFloat16;
  const double error = relative_error(net.forward(get("x"), get("t"), conditioning()), get("y"));
  RecordProperty("relative_error", std::to_string(error));
  EXPECT_LT(error, 3e-2);
  EXPECT_GT(error, 1e-5) << "the products did not run in bf16";
}

TEST_P(MmditParity, AFreshAdapterChangesNothingAndAMergedOneEqualsTheAddedOne) {
  const Tensor base = net.forward(get("x"), get("t"), conditioning());
  const LoraOptions options{.rank = 2, .alpha = 4, .targets = {"transformer_blocks.*.attn.to_q", "transformer_blocks.*.attn.to_out.0"}};
  LoraSet lora(net, options, 1);
  EXPECT_EQ(lora.paths().size(), 6u);
  lora.set_mode(AdapterMode::kOn);
  EXPECT_LT(relative_error(net.forward(get("x"), get("t"), conditioning()).detach(), base), 1e-6);
  for (const NamedTensor& p : lora.parameters()) *p.tensor = p.tensor->detach() + 0.1 * at::ones_like(*p.tensor);
  const Tensor added = net.forward(get("x"), get("t"), conditioning());
  EXPECT_GT(relative_error(added, base), 1e-3);
  lora.merge();
  lora.set_mode(AdapterMode::kMerged);
  EXPECT_LT(relative_error(net.forward(get("x"), get("t"), conditioning()), added), 1e-5);
  lora.set_mode(AdapterMode::kOff);
  EXPECT_TRUE(at::equal(net.forward(get("x"), get("t"), conditioning()), base));
}

TEST(Lora, FilesCarryOptionsAndRefuseOtherNetworks) {
  const auto file = std::filesystem::temp_directory_path() / "vggflow_lora_test.safetensors";
  const LoraOptions options{.rank = 2, .alpha = 2, .targets = {"transformer_blocks.*.attn.to_k"}};
  Mmdit net(reference_options(false)), other(reference_options(false));
  LoraSet lora(net, options, 1), same(other, read_lora_options((save_lora(file, lora, options, {{"note", "x"}}), file)), 2);
  EXPECT_TRUE(SafetensorsFile(file).contains("transformer.transformer_blocks.0.attn.to_k.lora_A.weight"));
  EXPECT_THAT(SafetensorsFile(file).metadata().at("lora_adapter_metadata"), HasSubstr("\"transformer.r\":2"));
  load_lora(file, same);
  EXPECT_TRUE(at::equal(*same.parameters()[0].tensor, *lora.parameters()[0].tensor));
  MmditOptions wide = reference_options(false);
  wide.head_dim = 16;
  Mmdit third(wide);
  LoraSet misfit(third, options, 1);
  EXPECT_THROW(load_lora(file, misfit), Error);
}

TEST(Lora, ATargetThatMatchesNothingListsTheLayers) {
  Mmdit net(reference_options(false));
  const std::string message = message_of([&] { LoraSet(net, {.rank = 2, .targets = {"blocks.*.to_q"}}, 1); });
  EXPECT_THAT(message, HasSubstr("target 'blocks.*.to_q' matches no linear layer"));
  EXPECT_THAT(message, HasSubstr("transformer_blocks.0.attn.to_q"));
}

class ValueNetworks : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Kinds, ValueNetworks, ::testing::Values("unet", "mmdit", "lora"));

TEST_P(ValueNetworks, StartAtZeroAndHaveRightDerivatives) {
  MmditOptions shape = reference_options(false);
  shape.channels = 3;
  Mmdit policy(shape);
  policy.init(4);
  const auto net = make_value_network({.kind = GetParam(), .width = 32, .layers = 2, .rank = 3}, policy, {"transformer_blocks.*.attn.to_*"}, 1);
  const Conditioning c{random_double({2, 5, 12}, 1), random_double({2, 10}, 2)};
  const Conditioning single{c.context.to(at::kFloat), c.pooled.to(at::kFloat)};
  EXPECT_EQ(net->evaluate(at::randn({2, 3, 8, 8}), at::full({2}, 300.0), single).abs().max().item<float>(), 0);
  uint64_t id = 10;
  for (const NamedTensor& p : policy.parameters()) *p.tensor = random_double(p.tensor->sizes(), 100 + id++, 0.1);
  for (const NamedTensor& p : net->trainable()) *p.tensor = random_double(p.tensor->sizes(), id++, 0.1);
  EXPECT_LT(testing::tangent_error([&](const std::vector<Tensor>& v) { return net->evaluate(v[0], v[1], c); },
                                   [&](const std::vector<Dual>& v) { return net->evaluate(v[0], v[1], c); },
                                   {random_double({2, 3, 8, 8}, 3), random_double({2}, 4)}, 1e-6),
            1e-6);
  // Conditioned on the prompt: another pooled text, another nu.
  const Tensor x = random_double({2, 3, 8, 8}, 3), t = random_double({2}, 4);
  EXPECT_GT(relative_error(net->evaluate(x, t, {c.context, c.pooled + 1}), net->evaluate(x, t, c)), 1e-4);
}

TEST(ValueNetworks, NoneIsNoNetwork) {
  Mmdit policy(reference_options(false));
  EXPECT_EQ(make_value_network({.kind = "none"}, policy, {}, 1), nullptr);
}

TEST(Mmdit, RefusesShapesThatDoNotFit) {
  const Mmdit net(reference_options(false));
  const Conditioning c{at::zeros({2, 5, 12}), at::zeros({2, 10})};
  EXPECT_THAT(message_of([&] { net.forward(at::zeros({2, 4, 8, 9}), at::zeros({2}), c); }),
              HasSubstr("[mmdit] expected x (B, 4, 8, 8), got (2, 4, 8, 9)"));
  EXPECT_THROW(net.forward(at::zeros({2, 4, 8, 8}), at::zeros({2}), {at::zeros({2, 5, 11}), at::zeros({2, 10})}), Error);
}

TEST(SelfCheck, EverythingHolds) {
  for (const CheckResult& r : self_check()) EXPECT_TRUE(r.ok()) << r.name << " " << r.error;
}

}  // namespace
}  // namespace vggflow
