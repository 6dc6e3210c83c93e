// Stable Diffusion 3 models as they are written: there and back bit for bit, merged as the adapted network. That diffusers opens them is checked by
// tools/reference/sd3_write_check.py.
#include "vggflow/models/sd3_write.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/io/files.h"
#include "vggflow/models/lora_export.h"
#include "vggflow/models/reference_test.h"
#include "vggflow/models/sd3_original.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::relative_error;

const std::vector<std::string> kComponents{"transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"};
fs::path tiny() { return testing::models_testdata("sd3_tiny"); }

void expect_same(const Sd3Files& got, const Sd3Files& want) {
  for (const std::string& component : kComponents) {
    const TensorMap a = got.weights(component).tensors, b = want.weights(component).tensors;
    EXPECT_EQ(a.size(), b.size()) << component;
    for (const auto& [name, tensor] : b) {
      ASSERT_TRUE(a.contains(name)) << component << "/" << name;
      EXPECT_EQ(a.at(name).scalar_type(), tensor.scalar_type()) << name;
      EXPECT_TRUE(at::equal(a.at(name), tensor)) << component << "/" << name;
    }
  }
}

class Sd3Write : public ::testing::Test {
 protected:
  std::string convert(const std::string& model, const std::string& out, const std::string& dtype = "keep") const {
    return convert_model({.model = model, .out = path(out), .dtype = dtype, .sd3 = with_config(tiny())});
  }
  std::string path(const std::string& name) const { return (folder / name).string(); }
  // A file of adapters with no zero matrix on some layers of every kind.
  std::string lora() const {
    const auto net = load_sd3_transformer(Sd3Files(tiny(), {}), at::kFloat);
    LoraSet set(*net, {.rank = 2, .alpha = 4, .targets = {"transformer_blocks.*.attn.*", "transformer_blocks.*.ff.net.2", "proj_out"}}, 1);
    uint64_t id = 0;
    for (const NamedTensor& p : set.parameters()) *p.tensor = 0.2 * keyed_normal(3, Purpose::kTest, 0, id++, 1, p.tensor->sizes()).squeeze(0);
    write_lora(path("lora.safetensors"), set.adapters(), LoraLayout::kDiffusers, at::kFloat);
    return path("lora.safetensors");
  }
  Tensor output(const Sd3Files& files, const std::vector<LoraLayer>& layers) const { return denoiser_of(*load_sd3_transformer(files, at::kFloat))(layers); }
  const testing::TemporaryFolder folder;
};

TEST_F(Sd3Write, AFolderBecomesOneFileAndAFolderAgainBitForBit) {
  EXPECT_THAT(convert(tiny(), "one.safetensors"), AllOf(HasSubstr("one file in Stability's layout"), HasSubstr("read back exactly")));
  EXPECT_TRUE(is_sd3_original(SafetensorsFile(path("one.safetensors")).views()));
  EXPECT_THAT(convert(path("one.safetensors"), "again"), HasSubstr("a folder in diffusers' layout"));
  expect_same(Sd3Files(path("again"), {}), Sd3Files(tiny(), {}));
  EXPECT_EQ(read_text(fs::path(path("again")) / "tokenizer/merges.txt"), read_text(tiny() / "tokenizer/merges.txt"));
  EXPECT_EQ(read_sd3_schedule(fs::path(path("again")) / "scheduler/scheduler_config.json").shift, 3.0);
}

TEST_F(Sd3Write, RoundsEveryFloatingPointTensorAndNoOther) {
  convert(tiny(), "half", "fp16");
  const Sd3Files half(path("half"), {}), full(tiny(), {});
  for (const std::string& component : kComponents) {
    const TensorMap got = half.weights(component).tensors;
    for (const auto& [name, tensor] : full.weights(component).tensors) {
      EXPECT_EQ(got.at(name).scalar_type(), tensor.is_floating_point() ? at::kHalf : tensor.scalar_type()) << name;
      EXPECT_TRUE(at::equal(got.at(name), tensor.to(got.at(name).scalar_type()))) << name;
    }
  }
}

TEST_F(Sd3Write, LeavesOutAT5ThatIsNotThere) {
  const fs::path without = path("without");
  fs::copy(tiny(), without, fs::copy_options::recursive);
  fs::remove_all(without / "text_encoder_3");
  fs::remove_all(without / "tokenizer_3");
  convert(without, "clips.safetensors");
  for (const auto& [name, tensor] : SafetensorsFile(path("clips.safetensors")).views()) EXPECT_THAT(name, ::testing::Not(HasSubstr("t5xxl")));
  convert_model({.model = path("clips.safetensors"), .out = path("clips"), .dtype = "keep", .sd3 = with_config(without)});
  EXPECT_FALSE(Sd3Files(path("clips"), {}).has("text_encoder_3"));
  EXPECT_THAT(read_text(fs::path(path("clips")) / "model_index.json"), HasSubstr("\"text_encoder_3\": [\n    null,\n    null\n  ]"));
}

TEST_F(Sd3Write, AMergedModelIsTheAdaptedNetworkInBothLayouts) {
  const std::string adapters = lora();
  const Tensor want = output(Sd3Files(tiny(), {}), read_lora(adapters).layers);
  EXPECT_GT(relative_error(want, output(Sd3Files(tiny(), {}), {})), 1e-2);
  for (const auto& [dtype, bound] : {std::pair{"fp32", 1e-5}, {"fp16", 6e-3}, {"bf16", 3e-2}}) {
    for (const char* end : {"", ".safetensors"}) {
      const std::string out = path(fmt::format("merged_{}{}", dtype, end));
      EXPECT_THAT(export_lora({adapters, out, "merged", dtype, tiny()}), AllOf(HasSubstr("weights read back exactly"), HasSubstr("layers merged")));
      const Sd3Files merged(out, with_config(tiny()));
      EXPECT_LT(relative_error(output(merged, {}), want), bound) << out;
      const fs::path header = *end ? fs::path(out) : fs::path(out) / "transformer/diffusion_pytorch_model.safetensors";
      EXPECT_EQ(SafetensorsFile(header).metadata().at("vggflow.merged_lora"), "lora.safetensors");
    }
  }
}

TEST_F(Sd3Write, ExportsOtherLayoutsAgainstTheModelsOutput) {
  EXPECT_THAT(export_lora({lora(), path("kohya.safetensors"), "kohya", "fp32", tiny()}), HasSubstr("the network's output by"));
}

TEST_F(Sd3Write, RefusesWhatItCannotDo) {
  write_text(path("taken"), "");
  EXPECT_THAT(message_of([&] { convert(tiny(), "taken"); }), HasSubstr("exists already: choose another name or remove it"));
  EXPECT_THAT(message_of([&] { convert(tiny(), "x", "int8"); }), HasSubstr("expected dtype fp32, fp16 or bf16, got 'int8'"));
  const LoraLayer stranger{"transformer_blocks.9.attn.to_q", at::ones({2, 16}), at::ones({16, 2})}, wide{"proj_out", at::ones({2, 7}), at::ones({16, 2})};
  EXPECT_THAT(message_of([&] { write_sd3(Sd3Files(tiny(), {}), path("x"), {.dtype = {}, .adapters = {stranger, wide}}); }),
              AllOf(HasSubstr("no layer 'transformer_blocks.9.attn.to_q'"), HasSubstr("'proj_out' is ("), HasSubstr("its adapter is for (16, 7)")));
  const Tensor w = Sd3Files(tiny(), {}).weights("transformer").tensors.at("proj_out.weight");
  const LoraLayer faint{"proj_out", at::full({1, w.size(1)}, 1e-4), at::full({w.size(0), 1}, 2e-4)};
  EXPECT_THAT(message_of([&] { write_sd3(Sd3Files(tiny(), {}), path("y"), {.dtype = at::kBFloat16, .adapters = {faint}}); }),
              HasSubstr("the change of 'proj_out.weight' is lost by rounding"));
  for (const char* name : {"x", "y"}) EXPECT_FALSE(fs::exists(path(name))) << name;
}

TEST_F(Sd3Write, NamesWhatTheSingleFileLayoutHasNoPlaceFor) {
  EXPECT_THAT(message_of([] { original_sources({{"transformer", {"transformer_blocks.0.attn.to_q.weight", "other.weight"}}}); }),
              AllOf(HasSubstr("no place for: transformer/other.weight"), HasSubstr("transformer/transformer_blocks.0.attn.to_q.weight")));
}

}  // namespace
}  // namespace vggflow
