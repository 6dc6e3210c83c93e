// Stable Diffusion 3 models as they are written: there and back bit for bit, merged as the adapted
// network. That diffusers opens them is checked by tools/reference/sd3_write_check.py.
#include "vggflow/convert/model_convert.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "vggflow/convert/lora_export.h"
#include "vggflow/core/config.h"
#include "vggflow/families/lora.h"
#include "vggflow/families/sd3/mmdit_network.h"
#include "vggflow/families/sd3/original_names.h"
#include "vggflow/families/sd3/write_model.h"
#include "vggflow/flow/network_probe.h"
#include "vggflow/io/files.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::relative_error;

const std::vector<std::string> kComponents{"transformer", "vae", "text_encoder", "text_encoder_2",
                                           "text_encoder_3"};
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
  std::string convert(const std::string& model, const std::string& out,
                      const std::string& dtype = "keep") const {
    ConvertOptions o{.files = {.model = model, .config = tiny()}, .out = path(out)};
    apply_override(fields_of(o), "dtype=" + dtype);
    return convert_model(o);
  }
  // Rewrites the tensors of a file.
  static void edit(const fs::path& file, const std::function<void(TensorMap&)>& change) {
    TensorMap tensors;
    for (const auto& [name, tensor] : SafetensorsFile(file).views()) tensors[name] = tensor.clone();
    change(tensors);
    write_safetensors(file, TensorList(tensors.begin(), tensors.end()));
  }
  // A copy of the model that a test may change.
  fs::path copied(const std::string& name) const {
    fs::copy(tiny(), path(name), fs::copy_options::recursive);
    return path(name);
  }
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder.path()))
      all.push_back(entry.path().filename());
    std::sort(all.begin(), all.end());
    return all;
  }
  std::string path(const std::string& name) const { return (folder / name).string(); }
  // A file of adapters with no zero matrix on some layers of every kind.
  std::string lora(double strength = 0.2) const {
    const auto net = load_sd3_transformer(Sd3Files(tiny(), {}), at::kFloat);
    LoraSet set(
        *net,
        {.rank = 2,
         .alpha = 4,
         .targets = {"transformer_blocks.*.attn.*", "transformer_blocks.*.ff.net.2", "proj_out"}},
        1);
    uint64_t id = 0;
    for (const NamedTensor& p : set.parameters())
      *p.tensor =
          strength * keyed_normal(3, Purpose::kTest, 0, id++, 1, p.tensor->sizes()).squeeze(0);
    write_lora(path("lora.safetensors"), set.adapters(), LoraLayout::kDiffusers, at::kFloat);
    return path("lora.safetensors");
  }
  Tensor output(const Sd3Files& files, const std::vector<LoraLayer>& layers) const {
    const MmditNetwork network(load_sd3_transformer(files, at::kFloat));
    return probe_velocity(network, layers);
  }
  const testing::TemporaryFolder folder;
};

TEST_F(Sd3Write, AFolderBecomesOneFileAndAFolderAgainBitForBit) {
  EXPECT_THAT(convert(tiny(), "one.safetensors"),
              AllOf(HasSubstr("one file in Stability's layout"), HasSubstr("read back exactly")));
  EXPECT_TRUE(is_sd3_original(SafetensorsFile(path("one.safetensors")).views()));
  EXPECT_THAT(convert(path("one.safetensors"), "again"),
              HasSubstr("a folder in diffusers' layout"));
  expect_same(Sd3Files(path("again"), {}), Sd3Files(tiny(), {}));
  EXPECT_EQ(read_text(fs::path(path("again")) / "tokenizer/merges.txt"),
            read_text(tiny() / "tokenizer/merges.txt"));
  EXPECT_EQ(read_sd3_schedule(fs::path(path("again")) / "scheduler/scheduler_config.json").shift,
            3.0);
}

TEST_F(Sd3Write, RoundsEveryFloatingPointTensorAndNoOther) {
  convert(tiny(), "half", "fp16");
  const Sd3Files half(path("half"), {}), full(tiny(), {});
  for (const std::string& component : kComponents) {
    const TensorMap got = half.weights(component).tensors;
    for (const auto& [name, tensor] : full.weights(component).tensors) {
      EXPECT_EQ(got.at(name).scalar_type(),
                tensor.is_floating_point() ? at::kHalf : tensor.scalar_type())
          << name;
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
  for (const auto& [name, tensor] : SafetensorsFile(path("clips.safetensors")).views())
    EXPECT_THAT(name, ::testing::Not(HasSubstr("t5xxl")));
  convert_model(
      {.files = {.model = path("clips.safetensors"), .config = without}, .out = path("clips")});
  EXPECT_FALSE(Sd3Files(path("clips"), {}).has("text_encoder_3"));
  EXPECT_THAT(read_text(fs::path(path("clips")) / "model_index.json"),
              HasSubstr("\"text_encoder_3\": [\n    null,\n    null\n  ]"));
}

TEST_F(Sd3Write, WhatASingleFileLacksIsLeftOutAndLogged) {
  convert(tiny(), "whole.safetensors");
  fs::copy_file(path("whole.safetensors"), path("two.safetensors"));
  edit(path("two.safetensors"), [](TensorMap& all) {
    std::erase_if(all, [](const auto& t) { return t.first.starts_with("text_encoders."); });
  });
  const fs::path configs = copied("configs");
  for (const auto& entry : fs::recursive_directory_iterator(tiny())) {
    const std::string name = entry.path().filename();
    if (name.ends_with(".safetensors") || name.ends_with(".index.json"))
      fs::remove(configs / fs::relative(entry.path(), tiny()));
  }
  const auto write = [&](const std::string& out, const std::function<std::string()>& run) {
    ::testing::internal::CaptureStderr();
    EXPECT_THAT(run(), HasSubstr("wrote " + path(out)));
    EXPECT_THAT(::testing::internal::GetCapturedStderr(),
                HasSubstr("missing, skipped: text_encoder, text_encoder_2, text_encoder_3"));
  };
  for (const std::string out : {"out", "out.safetensors"}) {
    write(out, [&] {
      return convert_model(
          {.files = {.model = path("two.safetensors"), .config = configs}, .out = path(out)});
    });
    write("merged_" + out, [&] {
      return export_lora({.lora = lora(),
                          .out = path("merged_" + out),
                          .format = ExportFormat::kMerged,
                          .base = {.model = path("two.safetensors"), .config = configs}});
    });
    const Sd3Files got(path(out), with_config(configs)), want(tiny(), {});
    for (const char* component : {"transformer", "vae"})
      EXPECT_EQ(got.weights(component).tensors.size(), want.weights(component).tensors.size());
    EXPECT_FALSE(got.has_weights("text_encoder"));
  }
  EXPECT_THAT(
      read_text(fs::path(path("out")) / "model_index.json"),
      AllOf(HasSubstr("\"text_encoder\": [\n    null"), HasSubstr("\"tokenizer_2\": [\n    null")));
  // A folder without them is an incomplete download.
  const fs::path incomplete = copied("incomplete");
  fs::remove(incomplete / "text_encoder/model.safetensors");
  EXPECT_THAT(message_of([&] { convert(incomplete, "x"); }),
              HasSubstr("has no text_encoder, which every model of Stable Diffusion 3 needs"));
}

TEST_F(Sd3Write, WeightsThatDoNotFitTheirConfigurationAreListedAndNotWritten) {
  const fs::path bad = copied("bad");
  edit(bad / "transformer/diffusion_pytorch_model.safetensors",
       [](TensorMap& all) { all.erase("proj_out.bias"); });
  edit(bad / "vae/diffusion_pytorch_model.safetensors",
       [](TensorMap& all) { all["stranger"] = at::ones({2}); });
  edit(bad / "text_encoder_2/model.safetensors",
       [](TensorMap& all) { all["text_model.final_layer_norm.bias"] = at::ones({3}); });
  TensorMap t5 = Sd3Files(tiny(), {}).weights("text_encoder_3").tensors;
  t5.erase("encoder.final_layer_norm.weight");
  fs::remove(bad / "text_encoder_3/model.safetensors.index.json");
  write_safetensors(bad / "text_encoder_3/model.safetensors", TensorList(t5.begin(), t5.end()));
  for (const char* out : {"x", "x.safetensors"}) {
    EXPECT_THAT(message_of([&] { convert(bad, out); }),
                AllOf(HasSubstr("nothing is written"), HasSubstr("missing 'proj_out.bias'"),
                      HasSubstr("unexpected 'stranger'"),
                      HasSubstr("'text_model.final_layer_norm.bias' has shape (3), expected ("),
                      HasSubstr("missing 'encoder.final_layer_norm.weight'")));
  }
  EXPECT_THAT(names(), ElementsAre("bad"));
  // What opening a model overlooks is no reason to refuse it.
  const fs::path good = copied("good");
  edit(good / "text_encoder/model.safetensors", [](TensorMap& all) {
    all["text_model.embeddings.position_ids"] = at::arange(77, at::kLong).unsqueeze(0);
  });
  EXPECT_THAT(convert(good, "y"), HasSubstr("read back exactly"));
}

TEST_F(Sd3Write, CopiesNoPointerInATokenizersPlace) {
  for (const char* file :
       {"tokenizer/merges.txt", "tokenizer_3/spiece.model", "scheduler/scheduler_config.json"}) {
    const fs::path bad = copied("bad");
    write_text(bad / file, "version https://git-lfs.github.com/spec/v1\noid sha256:77\nsize 9\n");
    EXPECT_THAT(message_of([&] { convert(bad, "x"); }),
                HasSubstr(std::string(file) + " is a Git LFS pointer and not the file itself"));
    fs::remove_all(bad);
  }
  EXPECT_THAT(names(), ElementsAre());
}

TEST_F(Sd3Write, AMergeThatRoundingDrownsIsRefusedAndLeavesNothing) {
  const std::string adapters = lora(/*strength=*/0.005);
  for (const char* out : {"x", "x.safetensors"}) {
    EXPECT_THAT(
        message_of([&] {
          export_lora(
              {adapters, path(out), ExportFormat::kMerged, NumberFormat::kBf16, {.model = tiny()}});
        }),
        AllOf(HasSubstr("rounding every weight to bf16 moves the network's output by"),
              HasSubstr("it would drown; nothing is written: pass --dtype fp32")));
  }
  EXPECT_THAT(names(), ElementsAre("lora.safetensors"));
  EXPECT_THAT(
      export_lora(
          {adapters, path("x"), ExportFormat::kMerged, NumberFormat::kFp32, {.model = tiny()}}),
      HasSubstr("weights read back exactly"));
}

TEST(MergedOutput, MayDifferByItsBoundAndByLessThanTheAdapterChanges) {
  const Tensor base = at::tensor({1.0f, 0.0f}), adapted = at::tensor({1.0f, 0.1f});
  EXPECT_NEAR(check_merged_output(base, adapted, at::tensor({1.0f, 0.104f}), at::kHalf), 4e-3,
              1e-6);
  EXPECT_THAT(
      message_of(
          [&] { check_merged_output(base, adapted, at::tensor({1.0f, 0.106f}), at::kHalf); }),
      HasSubstr("rounding every weight to fp16 moves the network's output by 6.0e-03 of its "
                "largest value, allowed are 5e-03; nothing is written: pass --dtype fp32"));
  EXPECT_THAT(
      message_of([&] { check_merged_output(base, adapted, at::tensor({NAN, 0.1f}), at::kHalf); }),
      HasSubstr("allowed are"));
  EXPECT_THAT(message_of([&] {
                check_merged_output(at::tensor({1.0f, 0.098f}), adapted, at::tensor({1.0f, 0.104f}),
                                    at::kHalf);
              }),
              HasSubstr("would drown"));
  EXPECT_EQ(check_merged_output(base, base, base, at::kFloat), 0) << "a fresh adapter";
}

TEST_F(Sd3Write, AMergedModelIsTheAdaptedNetworkInBothLayouts) {
  const std::string adapters = lora();
  const Tensor want = output(Sd3Files(tiny(), {}), read_lora(adapters).layers);
  EXPECT_GT(relative_error(want, output(Sd3Files(tiny(), {}), {})), 1e-2);
  for (const auto& [dtype, bound] : {std::pair{NumberFormat::kFp32, 1e-5},
                                     {NumberFormat::kFp16, 6e-3},
                                     {NumberFormat::kBf16, 3e-2}}) {
    for (const char* end : {"", ".safetensors"}) {
      const std::string out = path(fmt::format("merged_{}{}", word_of(dtype), end));
      EXPECT_THAT(export_lora({adapters, out, ExportFormat::kMerged, dtype, {.model = tiny()}}),
                  AllOf(HasSubstr("weights read back exactly"), HasSubstr("layers merged")));
      const Sd3Files merged(out, with_config(tiny()));
      EXPECT_LT(relative_error(output(merged, {}), want), bound) << out;
      const fs::path header =
          *end ? fs::path(out) : fs::path(out) / "transformer/diffusion_pytorch_model.safetensors";
      EXPECT_EQ(SafetensorsFile(header).metadata().at("vggflow.merged_lora"), "lora.safetensors");
    }
  }
}

TEST_F(Sd3Write, ExportsOtherLayoutsAgainstTheModelsOutput) {
  EXPECT_THAT(export_lora({lora(),
                           path("kohya.safetensors"),
                           ExportFormat::kKohya,
                           NumberFormat::kFp32,
                           {.model = tiny()}}),
              HasSubstr("the network's output by"));
}

TEST_F(Sd3Write, RefusesWhatItCannotDo) {
  write_text(path("taken"), "mine");
  EXPECT_THAT(message_of([&] { convert(tiny(), "taken"); }),
              HasSubstr("exists already: choose another name or remove it"));
  EXPECT_EQ(read_text(path("taken")), "mine");
  EXPECT_THAT(message_of([&] { convert(tiny(), "x.ckpt"); }),
              HasSubstr("x.ckpt reads as the name of a file, but diffusers' layout is a folder: "
                        "leave out '.ckpt'"));
  EXPECT_THAT(message_of([&] { convert(tiny(), "x", "int8"); }),
              HasSubstr("expected 'dtype' to be one of keep, fp32, fp16, bf16, got 'int8'"));
  const LoraLayer stranger{"transformer_blocks.9.attn.to_q", at::ones({2, 16}), at::ones({16, 2})},
      wide{"proj_out", at::ones({2, 7}), at::ones({16, 2})};
  EXPECT_THAT(
      message_of([&] {
        write_sd3(Sd3Files(tiny(), {}), path("x"), {.dtype = {}, .adapters = {stranger, wide}});
      }),
      AllOf(HasSubstr("no layer 'transformer_blocks.9.attn.to_q'"), HasSubstr("'proj_out' is ("),
            HasSubstr("its adapter is for (16, 7)")));
  const Tensor w = Sd3Files(tiny(), {}).weights("transformer").tensors.at("proj_out.weight");
  const LoraLayer faint{"proj_out", at::full({1, w.size(1)}, 1e-4), at::full({w.size(0), 1}, 2e-4)};
  EXPECT_THAT(message_of([&] {
                write_sd3(Sd3Files(tiny(), {}), path("y"),
                          {.dtype = at::kBFloat16, .adapters = {faint}});
              }),
              HasSubstr("the change of 'proj_out.weight' is lost by rounding"));
  EXPECT_THAT(names(), ElementsAre("taken"));
}

TEST_F(Sd3Write, NamesWhatTheSingleFileLayoutHasNoPlaceFor) {
  EXPECT_THAT(message_of([] {
                original_sources(
                    {{"transformer", {"transformer_blocks.0.attn.to_q.weight", "other.weight"}}});
              }),
              AllOf(HasSubstr("no place for 2 tensors: transformer/other.weight"),
                    HasSubstr("transformer/transformer_blocks.0.attn.to_q.weight")));
}

}  // namespace
}  // namespace vggflow
