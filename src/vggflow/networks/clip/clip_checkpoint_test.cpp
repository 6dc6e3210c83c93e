// CLIP's weights in every layout: the files are those that transformers, open_clip and OpenAI's
// package save (tools/reference/clip_reference.py).
#include "vggflow/networks/clip/clip_checkpoint.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <utility>

#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;
using testing::relative_error;
using testing::TemporaryFolder;

fs::path clip_folder(const std::string& layout) {
  return testing::models_testdata("clip") / layout;
}
fs::path weights_of(const std::string& layout) {
  return layout == "openai" ? clip_folder(layout) / "weights.pt" : clip_folder(layout);
}

struct Expected {
  std::string folder;
  ClipLayout layout;
  ClipActivation activation;
  int64_t vision_heads, text_heads;
};

class ClipLayouts : public ::testing::TestWithParam<Expected> {};
INSTANTIATE_TEST_SUITE_P(
    Layouts, ClipLayouts,
    ::testing::Values(
        Expected{"transformers_quick", ClipLayout::kTransformers, ClipActivation::kQuickGelu, 4, 2},
        Expected{"transformers_gelu", ClipLayout::kTransformers, ClipActivation::kGelu, 4, 2},
        Expected{"open_clip", ClipLayout::kOpenClip, ClipActivation::kGelu, 4, 2},
        Expected{"open_clip_custom", ClipLayout::kOpenClip, ClipActivation::kQuickGelu, 4, 2},
        Expected{"openai", ClipLayout::kOpenAi, ClipActivation::kQuickGelu, 1, 1}),
    [](const auto& variant) { return variant.param.folder; });

TEST_P(ClipLayouts, TellSizesHeadsAndActivation) {
  const ClipCheckpoint c = read_clip_checkpoint(weights_of(GetParam().folder));
  EXPECT_EQ(c.layout, GetParam().layout);
  EXPECT_TRUE(c.has_vision && c.has_text);
  EXPECT_EQ(c.vision.activation, GetParam().activation);
  EXPECT_EQ(c.text.activation, GetParam().activation);
  EXPECT_EQ(c.vision.heads, GetParam().vision_heads);
  EXPECT_EQ(c.text.heads, GetParam().text_heads);
  EXPECT_EQ(c.vision.image, 12);
  EXPECT_EQ(c.vision.patch, 4);
  EXPECT_EQ(c.vision.layers, GetParam().folder == "openai" ? 2 : 3);
  EXPECT_EQ(c.vision.projection, 10);
  EXPECT_EQ(c.text.layers, 2);
  EXPECT_EQ(c.text.projection, 10);
}

TEST_P(ClipLayouts, TheTextTowerAndTheScaleEqualTheirs) {
  const ClipCheckpoint c = read_clip_checkpoint(weights_of(GetParam().folder));
  const SafetensorsFile reference(clip_folder(GetParam().folder) / "reference.safetensors");
  EXPECT_LT(relative_error(make_clip_text(c, at::kFloat)->forward(reference.load("ids")).pooled,
                           reference.load("text")),
            1e-5);
  EXPECT_NEAR(clip_logit_scale(c), reference.load("logit_scale").item<double>(),
              GetParam().folder == "openai" ? 2e-3 : 1e-6);
}

// Every parameter has its tensor and every tensor its parameter: the towers together use all that
// is there but the scale.
TEST_P(ClipLayouts, NoTensorIsLeftOver) {
  const ClipCheckpoint c = read_clip_checkpoint(weights_of(GetParam().folder));
  const auto vision = make_clip_vision(c, at::kFloat);
  const auto text = make_clip_text(c, at::kFloat);
  EXPECT_EQ(vision->parameters().size() + text->parameters().size() + 1, c.tensors.size());
}

TEST(ClipCheckpoint, ATowerAloneIsEnough) {
  const ClipCheckpoint c = read_clip_checkpoint(clip_folder("transformers_vision"));
  EXPECT_TRUE(c.has_vision);
  EXPECT_FALSE(c.has_text);
  EXPECT_EQ(c.vision.activation, ClipActivation::kGelu);
  EXPECT_THAT(message_of([&] { make_clip_text(c, at::kFloat); }), HasSubstr("has no text tower"));
  EXPECT_THAT(message_of([&] { clip_logit_scale(c); }), HasSubstr("lacks 'logit_scale'"));
}

// No second copy in memory: fp32 weights of an fp32 file are the file's bytes, and queries, keys
// and values lie in one tensor.
TEST(ClipCheckpoint, WeightsOfTheRightTypeAreViewsOfTheFile) {
  const ClipCheckpoint c = read_clip_checkpoint(clip_folder("open_clip"));
  const auto tower = make_clip_vision(c, at::kFloat);
  for (const NamedTensor& p : tower->parameters())
    EXPECT_EQ(p.tensor->data_ptr(), c.tensors.at(p.name).data_ptr()) << p.name;
  const std::string layer = "vision_model.encoder.layers.1.self_attn.";
  const auto address = [&](const std::string& name) {
    return static_cast<const float*>(c.tensors.at(layer + name).const_data_ptr());
  };
  EXPECT_EQ(address("k_proj.weight") - address("q_proj.weight"), 16 * 16);
  EXPECT_EQ(address("v_proj.weight") - address("k_proj.weight"), 16 * 16);
  for (const NamedTensor& p : make_clip_vision(c, at::kBFloat16)->parameters())
    EXPECT_EQ(p.tensor->scalar_type(), at::kBFloat16) << p.name;
  for (const NamedTensor& p : tower->parameters())
    EXPECT_FALSE(p.tensor->requires_grad()) << p.name;
}

// A checkpoint of few tensors, enough to tell the options of a tower of this width.
void write_outline(const fs::path& file, int64_t width, TensorList more = {}) {
  TensorList list{{"visual.class_embedding", at::zeros({width})},
                  {"visual.positional_embedding", at::zeros({5, width})},
                  {"visual.conv1.weight", at::zeros({width, 3, 14, 14})},
                  {"visual.proj", at::zeros({width, 6})},
                  {"visual.transformer.resblocks.0.ln_1.weight", at::zeros({width})},
                  {"visual.transformer.resblocks.0.mlp.c_fc.weight", at::zeros({4, width})}};
  for (auto& each : more) list.push_back(std::move(each));
  write_safetensors(file, list);
}

TEST(ClipCheckpoint, ABareFileHasTheHeadsOfTheReleasedTowerAndTheActivationOfItsLayout) {
  const TemporaryFolder folder;
  for (const auto& [width, heads] :
       {std::pair{768, 12}, {1024, 16}, {1280, 16}, {1408, 16}, {1664, 16}}) {
    write_outline(folder / "weights.safetensors", width);
    const ClipCheckpoint c = read_clip_checkpoint(folder / "weights.safetensors");
    EXPECT_EQ(c.vision.heads, heads) << width;
    EXPECT_EQ(c.vision.activation, ClipActivation::kGelu);
    EXPECT_EQ(c.vision.image, 28);
    EXPECT_EQ(read_clip_checkpoint(folder / "weights.safetensors", ClipActivation::kQuickGelu)
                  .vision.activation,
              ClipActivation::kQuickGelu);
  }
  write_outline(folder / "openai.safetensors", 1024,
                {{"input_resolution", at::zeros({1}, at::kLong)}});
  const ClipCheckpoint c = read_clip_checkpoint(folder / "openai.safetensors");
  EXPECT_EQ(c.layout, ClipLayout::kOpenAi);
  EXPECT_EQ(c.vision.activation, ClipActivation::kQuickGelu);
  EXPECT_EQ(c.vision.heads, 16);
  write_outline(folder / "unknown.safetensors", 640);
  EXPECT_THAT(message_of([&] { read_clip_checkpoint(folder / "unknown.safetensors"); }),
              HasSubstr("has an image tower of width 640, which is no released one: put its "
                        "config.json or open_clip_config.json beside it"));
}

TEST(ClipCheckpoint, PassesOverConstantsThatOlderFilesHold) {
  const TemporaryFolder folder;
  TensorList whole;
  for (const auto& [name, tensor] :
       SafetensorsFile(clip_folder("transformers_quick") / "model.safetensors").views())
    whole.emplace_back(name, tensor);
  whole.emplace_back("vision_model.embeddings.position_ids", at::arange(10));
  whole.emplace_back("text_model.embeddings.position_ids", at::arange(24));
  write_safetensors(folder / "model.safetensors", whole);
  fs::copy(clip_folder("transformers_quick") / "config.json", folder / "config.json");
  const ClipCheckpoint c = read_clip_checkpoint(folder.path());
  EXPECT_EQ(c.tensors.size(), whole.size() - 2);
  make_clip_vision(c, at::kFloat);
  make_clip_text(c, at::kFloat);
}

TEST(ClipCheckpoint, RefusesOtherNetworks) {
  const TemporaryFolder folder;
  const auto file = folder / "weights.safetensors";
  write_safetensors(file, {{"conv.weight", at::zeros({2})}});
  EXPECT_THAT(message_of([&] { read_clip_checkpoint(file); }),
              HasSubstr("holds no CLIP of transformers: expected"));
  write_outline(file, 768,
                {{"visual.attnpool.c_proj.weight", at::zeros({2})},
                 {"visual.transformer.resblocks.0.ls_1.gamma", at::zeros({2})}});
  EXPECT_THAT(message_of([&] { read_clip_checkpoint(file); }),
              HasSubstr("holds 2 tensors that no CLIP of two transformers has, such as "
                        "'visual.attnpool.c_proj.weight'"));
  write_outline(file, 768);
  EXPECT_THAT(
      message_of([&] { make_clip_vision(read_clip_checkpoint(file), at::kFloat); }),
      HasSubstr("does not fit the network, 18 faults: missing 'vision_model.pre_layrnorm.weight'"));
  TensorList whole;
  for (const auto& [name, tensor] :
       SafetensorsFile(clip_folder("transformers_quick") / "model.safetensors").views())
    whole.emplace_back(name, tensor);
  whole.emplace_back("vision_model.head.weight", at::zeros({2}));
  write_safetensors(folder / "model.safetensors", whole);
  fs::copy(clip_folder("transformers_quick") / "config.json", folder / "config.json");
  EXPECT_THAT(
      message_of([&] { make_clip_vision(read_clip_checkpoint(folder.path()), at::kFloat); }),
      HasSubstr("does not fit the network, 1 fault: unexpected 'vision_model.head.weight'"));
}

TEST(ClipCheckpoint, RefusesSettingsThatItDoesNotKnow) {
  const TemporaryFolder folder;
  fs::copy(clip_folder("open_clip") / "open_clip_model.safetensors",
           folder / "open_clip_model.safetensors");
  const auto refusal = [&](const std::string& vision) {
    std::ofstream(folder / "open_clip_config.json")
        << R"({"model_cfg": {"vision_cfg": )" << vision << R"(, "text_cfg": {"heads": 2}}})";
    return message_of([&] { read_clip_checkpoint(folder.path()); });
  };
  EXPECT_EQ(refusal(R"({"head_width": 4, "pool_type": "tok"})"), "no error");
  EXPECT_THAT(refusal(R"({"head_width": 4, "pool_type": "avg"})"),
              HasSubstr("asks for pool_type = \"avg\", which is not known here"));
  EXPECT_THAT(refusal("3"), HasSubstr("[clip] expected the configuration of a CLIP in"));
  EXPECT_THAT(refusal("{"), HasSubstr("open_clip_config.json is not JSON: "));
}

TEST(ClipCheckpoint, RefusesTowersThatWantOtherPreprocessing) {
  const TemporaryFolder folder;
  for (const auto& entry : fs::directory_iterator(clip_folder("open_clip")))
    fs::copy(entry.path(), folder / entry.path().filename().string());
  const std::string model =
      R"({"model_cfg": {"vision_cfg": {"head_width": 4}, "text_cfg": {"heads": 2}}, "preprocess_cfg": {"mean": )";
  const auto refusal = [&](const std::string& mean) {
    std::ofstream(folder / "open_clip_config.json") << model << mean << "}}";
    return message_of([&] { read_clip_checkpoint(folder.path()); });
  };
  EXPECT_EQ(refusal("[0.48145466, 0.4578275, 0.40821073]"), "no error");
  EXPECT_THAT(
      refusal("[0.5, 0.5, 0.5]"),
      HasSubstr(
          "asks for mean = [0.5,0.5,0.5], expected CLIP's own 0.48145466, 0.4578275, 0.40821073"));
  const TemporaryFolder other;
  for (const auto& entry : fs::directory_iterator(clip_folder("transformers_quick")))
    fs::copy(entry.path(), other / entry.path().filename().string());
  std::ofstream(other / "preprocessor_config.json") << R"({"image_std": [0.5, 0.5, 0.5]})";
  EXPECT_THAT(message_of([&] { read_clip_checkpoint(other.path()); }),
              HasSubstr("asks for image_std = [0.5,0.5,0.5]"));
}

// A folder of the hub may hold both layouts, each with its own configuration.
TEST(ClipCheckpoint, InAFolderWithBothLayoutsTransformersWins) {
  const TemporaryFolder folder;
  for (const char* layout : {"transformers_quick", "open_clip"}) {
    for (const auto& entry : fs::directory_iterator(clip_folder(layout))) {
      fs::copy(entry.path(), folder / entry.path().filename().string(),
               fs::copy_options::skip_existing);
    }
  }
  EXPECT_EQ(read_clip_checkpoint(folder.path()).layout, ClipLayout::kTransformers);
  fs::remove(folder / "model.safetensors");
  const ClipCheckpoint c = read_clip_checkpoint(folder.path());
  EXPECT_EQ(c.layout, ClipLayout::kOpenClip);
  EXPECT_EQ(c.vision.activation, ClipActivation::kGelu);
}

}  // namespace
}  // namespace vggflow
