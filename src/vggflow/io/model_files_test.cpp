#include "vggflow/io/model_files.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

class ModelFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"})
      ::unsetenv(name);
  }
  void weights(const std::string& name, const std::vector<std::string>& tensors, double value = 1) {
    TensorList list;
    for (const std::string& t : tensors) list.emplace_back(t, at::full({2}, value));
    write_safetensors(folder_ / name, list);
  }
  void put(const fs::path& name, const std::string& text) {
    fs::create_directories((folder_ / name).parent_path());
    write_text(folder_ / name, text);
  }
  std::string refusal(const std::string& variant = "") {
    return message_of([&] { open_component(folder_, variant); });
  }
  const testing::TemporaryFolder scratch_;
  const fs::path folder_ = scratch_.path();
};

TEST(Fingerprint, SeesNamesShapesTypesAndWhatTrainingChanges) {
  const Tensor large = at::arange(100'000, at::kFloat).view({100, 1000}),
               small = at::arange(4096, at::kFloat);
  const auto number = [](const std::string& name, const Tensor& a, const Tensor& b) {
    return fingerprint({{{name, a}, {"small", b}}, {}, ""});
  };
  const uint64_t before = number("large", large, small);
  EXPECT_EQ(number("large", large.clone(), small.clone()), before);
  EXPECT_NE(number("other", large, small), before);
  EXPECT_NE(number("large", large.view({1000, 100}), small), before);
  EXPECT_NE(number("large", large.view(at::kInt), small), before);
  EXPECT_NE(number("large", large * 1.001, small), before);
  for (int64_t i = 0; i < small.numel(); i += 45) {
    const Tensor changed = small.clone();
    changed[i] += 1;
    EXPECT_NE(number("large", large, changed), before) << "number " << i << " of a small tensor";
  }
  constexpr int64_t kPart = 100'000 / 63;
  for (int64_t i = 0; i + kPart <= large.numel(); i += 307) {
    const Tensor changed = large.clone();
    changed.view(-1).narrow(0, i, kPart) += 1;
    EXPECT_NE(number("large", changed, small), before) << "a 63rd part from number " << i;
  }
  for (const int64_t end : {int64_t{0}, large.numel() - 1}) {
    const Tensor changed = large.clone();
    changed.view(-1)[end] += 1;
    EXPECT_NE(number("large", changed, small), before) << "number " << end;
  }
}

TEST_F(ModelFiles, ReadsTheConfigurationOfAComponent) {
  put("config.json", R"({"a": 3})");
  EXPECT_EQ(read_model_config(folder_)["a"], 3);
  put("config.json", "{");
  EXPECT_THAT(message_of([&] { read_model_config(folder_); }),
              HasSubstr("config.json is not JSON"));
  fs::remove(folder_ / "config.json");
  EXPECT_THAT(
      message_of([&] { read_model_config(folder_); }),
      HasSubstr("config.json does not exist: the model folder is incomplete, copy the file there"));
}

TEST_F(ModelFiles, OpenASingleFileOfEitherName) {
  weights("model.safetensors", {"a", "b"});
  EXPECT_EQ(open_component(folder_).tensors.size(), 2u);
  weights("diffusion_pytorch_model.safetensors", {"c"});
  const ComponentWeights opened = open_component(folder_);
  EXPECT_EQ(opened.files, std::vector<fs::path>{folder_ / "diffusion_pytorch_model.safetensors"});
  EXPECT_TRUE(at::equal(opened.tensors.at("c"), at::ones({2})));
}

TEST_F(ModelFiles, AVariantIsTakenWhenAskedForAndOnlyThen) {
  weights("model.safetensors", {"a"}, 1);
  weights("model.fp16.safetensors", {"a"}, 2);
  EXPECT_EQ(open_component(folder_).tensors.at("a")[0].item<float>(), 1);
  EXPECT_EQ(open_component(folder_, "fp16").tensors.at("a")[0].item<float>(), 2);
}

// As diffusers does; the log says it in one line.
TEST_F(ModelFiles, AVariantThatIsNotThereGivesWayToThePlainFilesAndThePlainOnesToAnOnlyVariant) {
  const auto logged = [&](const std::string& variant, double value) {
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(open_component(folder_, variant).tensors.at("a")[0].item<float>(), value);
    return ::testing::internal::GetCapturedStderr();
  };
  weights("model.safetensors", {"a"}, 1);
  weights("model.fp16.safetensors", {"a"}, 2);
  EXPECT_EQ(logged("", 1) + logged("fp16", 2), "");
  EXPECT_THAT(logged("bf16", 1),
              HasSubstr("has no weights of variant 'bf16': using the default files"));
  fs::remove(folder_ / "model.safetensors");
  EXPECT_THAT(logged("", 2), HasSubstr("has no default weights: using its only variant, 'fp16'"));
  EXPECT_THAT(refusal("bf16"), HasSubstr("has no weights of variant 'bf16' and no plain ones; it "
                                         "has the variants fp16: pass one of them"));
  weights("model.ema.safetensors", {"a"}, 3);
  EXPECT_THAT(refusal(), HasSubstr("has no default weights, but several variants, ema, fp16: pass "
                                   "the one to take as variant"));
  EXPECT_EQ(logged("ema", 3), "");
}

// The files of a hub's T5: model.safetensors.index.fp16.json beside
// model.fp16-00001-of-00002.safetensors.
TEST_F(ModelFiles, AShardOfAVariantIsNoVariant) {
  weights("model.fp16-00001-of-00001.safetensors", {"a"}, 2);
  put("model.safetensors.index.fp16.json",
      R"({"weight_map":{"a":"model.fp16-00001-of-00001.safetensors"}})");
  EXPECT_EQ(variants_in(folder_), std::set<std::string>{"fp16"});
  EXPECT_EQ(open_component(folder_).tensors.at("a")[0].item<float>(), 2);
}

TEST_F(ModelFiles, ShardsAreJoined) {
  weights("model-00001-of-00002.safetensors", {"a"}, 1);
  weights("model-00002-of-00002.safetensors", {"b"}, 2);
  const std::string map =
      R"({"metadata":{},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}})";
  put("model.safetensors.index.json", map);
  const ComponentWeights opened = open_component(folder_);
  EXPECT_EQ(opened.files.size(), 2u);
  EXPECT_EQ(opened.tensors.at("b")[0].item<float>(), 2);
  for (const char* name :
       {"model.safetensors.index.fp16.json", "model.fp16.safetensors.index.json"}) {
    put(name, map);
    EXPECT_EQ(open_component(folder_, "fp16").tensors.size(), 2u) << name;
    fs::remove(folder_ / name);
  }
}

TEST_F(ModelFiles, ShardsThatDoNotFitTheirIndexAreListedInOneError) {
  weights("s1.safetensors", {"a", "stray", "moved"});
  weights("s2.safetensors", {"b"});
  put("diffusion_pytorch_model.safetensors.index.json",
      R"({"weight_map":{"a":"s1.safetensors","b":"s2.safetensors","moved":"s2.safetensors","lost":"s2.safetensors","c":"s3.safetensors"}})");
  EXPECT_THAT(refusal(),
              AllOf(HasSubstr("the shard s3.safetensors is missing"),
                    HasSubstr("'stray' in s1.safetensors is not in the index"),
                    HasSubstr("'moved' is in s1.safetensors, but the index says s2.safetensors"),
                    HasSubstr("'lost' is not in s2.safetensors")));
}

TEST_F(ModelFiles, IndicesThatLieAreRefused) {
  const auto refused = [&](const std::string& text) {
    put("model.safetensors.index.json", text);
    return refusal();
  };
  EXPECT_THAT(refused("{"), HasSubstr("is not JSON"));
  EXPECT_THAT(refused("{}"), HasSubstr("expected an object with weight_map"));
  EXPECT_THAT(refused(R"({"weight_map":{"a":"../secret.safetensors"}})"),
              HasSubstr("the shard of 'a' is no file name"));
  EXPECT_THAT(refused(R"({"weight_map":{"a":3}})"), HasSubstr("the shard of 'a' is no file name"));
}

TEST_F(ModelFiles, TorchPicklesAreTheLastResort) {
  fs::copy_file(fs::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/io/testdata/protocol2.pth",
                folder_ / "pytorch_model.bin");
  EXPECT_TRUE(open_component(folder_).tensors.contains("state_dict.whole"));
  weights("model.safetensors", {"a"});
  EXPECT_FALSE(open_component(folder_).tensors.contains("state_dict.whole"));
}

TEST_F(ModelFiles, ALinkToAMissingBlobIsNamed) {
  fs::create_symlink("../../blobs/0123", folder_ / "model.safetensors");
  EXPECT_THAT(refusal(), HasSubstr("model.safetensors is a link to ../../blobs/0123, which is "
                                   "missing; the download is not complete"));
}

TEST_F(ModelFiles, AFolderWithoutWeightsSaysWhatWasLookedFor) {
  EXPECT_THAT(refusal(),
              AllOf(HasSubstr("holds no weights: looked for diffusion_pytorch_model.safetensors"),
                    HasSubstr("pytorch_model.bin")));
  EXPECT_THAT(message_of([&] { open_component(folder_ / "none"); }),
              HasSubstr("is no folder: expected a component"));
}

TEST_F(ModelFiles, RepositoryIdsAreFoundInTheCache) {
  put("hub/models--org--tiny/refs/main", "abc123\n");
  put("hub/models--org--tiny/snapshots/abc123/model_index.json", "{}");
  put("hub/models--org--tiny/snapshots/def456/model_index.json", "{}");
  const fs::path repo = folder_ / "hub/models--org--tiny";
  ::setenv("HF_HOME", folder_.c_str(), 1);
  EXPECT_EQ(resolve_model("org/tiny"), repo / "snapshots/abc123");
  EXPECT_EQ(resolve_model("org/tiny", "def456"), repo / "snapshots/def456");
  EXPECT_EQ(resolve_model(repo.string()), repo / "snapshots/abc123");
  EXPECT_EQ(resolve_model(folder_.string()), folder_);
  ::setenv("HF_HUB_CACHE", (folder_ / "elsewhere").c_str(), 1);
  EXPECT_THAT(message_of([] { resolve_model("org/tiny"); }),
              AllOf(HasSubstr("looked for " + (folder_ / "elsewhere/models--org--tiny").string()),
                    HasSubstr("vggflow downloads nothing")));
  ::unsetenv("HF_HUB_CACHE");
  EXPECT_THAT(message_of([] { resolve_model("org/tiny", "v2"); }),
              AllOf(HasSubstr("no snapshot of revision 'v2'"), HasSubstr("refs [main]"),
                    HasSubstr("snapshots [abc123, def456]")));
  EXPECT_THAT(message_of([] { resolve_model("org/tiny", "../main"); }),
              HasSubstr("'../main' is no revision"));
  put("hub/models--org--tiny/refs/main", "../../..");
  EXPECT_THAT(message_of([] { resolve_model("org/tiny"); }),
              HasSubstr("no snapshot of revision 'main'"));
}

// As huggingface_hub 1.0 reads them (constants.py): the newer name first, "~" and variables
// expanded.
TEST_F(ModelFiles, TheCachesVariablesAreExpandedAsHuggingfaceHubDoes) {
  for (const char* place : {"home/.cache/huggingface/hub", "a", "b", "c/hub", "d/huggingface/hub"})
    put(fs::path(place) / "models--org--m/refs/main", place);
  const auto found = [&] { return message_of([] { resolve_model("org/m"); }); };
  ::setenv("HOME", (folder_ / "home").c_str(), 1);
  ::setenv("VGGFLOW_TEST_ROOT", folder_.c_str(), 1);
  EXPECT_THAT(found(), HasSubstr((folder_ / "home/.cache/huggingface/hub/models").string()));
  ::setenv("XDG_CACHE_HOME", "$VGGFLOW_TEST_ROOT/d", 1);
  EXPECT_THAT(found(), HasSubstr((folder_ / "d/huggingface/hub/models").string()));
  ::setenv("HF_HOME", "~/../c", 1);
  EXPECT_THAT(found(), HasSubstr("home/../c/hub/models--org--m"));
  ::setenv("HUGGINGFACE_HUB_CACHE", "${VGGFLOW_TEST_ROOT}/b", 1);
  EXPECT_THAT(found(), HasSubstr((folder_ / "b/models").string()));
  ::setenv("HF_HUB_CACHE", "$VGGFLOW_TEST_ROOT/a", 1);
  EXPECT_THAT(found(), HasSubstr((folder_ / "a/models").string()));
}

TEST_F(ModelFiles, WeightsAreToldApartByTheirFirstBytesAndNotByTheirName) {
  weights("a.bin", {"x"});
  EXPECT_EQ(open_weights(folder_ / "a.bin").count("x"), 1u);
}

TEST_F(ModelFiles, QuantisedFoldersAndFilesAreNamed) {
  put("config.json", R"({"quantization_config": {"quant_method": "bitsandbytes", "bits": 4}})");
  EXPECT_THAT(message_of([&] { read_model_config(folder_); }),
              HasSubstr("config.json: the weights are quantised (\"bitsandbytes\")"));
  weights("q.safetensors", {"x.weight", "x.scale_weight"});
  EXPECT_THAT(message_of([&] { open_weights(folder_ / "q.safetensors"); }),
              HasSubstr("holds quantised weights, scaled fp8 ('x.scale_weight' is there)"));
}

TEST_F(ModelFiles, WhatIsNoPathAndNoIdIsRefused) {
  for (const char* bad :
       {"", "nothing", "a/b/c", "../etc", "org/..", "o g/name", "/nonexistent/folder"}) {
    EXPECT_THAT(message_of([&] { resolve_model(bad); }),
                HasSubstr("is no folder and no repository id"))
        << bad;
  }
}

TEST_F(ModelFiles, AnIndexTellsWhichComponentsAreThere) {
  put("model_index.json",
      R"({"_class_name":"StableDiffusion3Pipeline","_diffusers_version":"0.29.0","vae":["diffusers","AutoencoderKL"],
      "transformer":["diffusers","SD3Transformer2DModel"],"text_encoder_3":["transformers","T5EncoderModel"],"image_encoder":[null,null],
      "force_zeros":true})");
  fs::create_directories(folder_ / "transformer");
  EXPECT_THAT(message_of([&] { read_model_index(folder_); }),
              HasSubstr("lists the components vae, but"));
  fs::create_directories(folder_ / "vae");
  const ModelIndex index = read_model_index(folder_);
  EXPECT_EQ(index.class_name, "StableDiffusion3Pipeline");
  EXPECT_EQ(index.components.size(), 4u);
  EXPECT_EQ(index.components.at("vae").class_name, "AutoencoderKL");
  EXPECT_TRUE(index.has("vae"));
  EXPECT_FALSE(index.has("text_encoder_3"));
  EXPECT_FALSE(index.has("image_encoder"));
  EXPECT_EQ(index.at("vae"), folder_ / "vae");
  EXPECT_THAT(message_of([&] { index.at("text_encoder_3"); }),
              HasSubstr("has no component 'text_encoder_3'; it has transformer, vae"));
}

TEST_F(ModelFiles, AFolderWithoutAReadableIndexIsRefused) {
  EXPECT_THAT(message_of([&] { read_model_index(folder_); }),
              HasSubstr("does not exist: expected a model folder in the diffusers layout"));
  put("model_index.json", "[]");
  EXPECT_THAT(message_of([&] { read_model_index(folder_); }),
              HasSubstr("expected an object with _class_name"));
}

}  // namespace
}  // namespace vggflow
