// From a zip of photographs to an aligned latent model, on pictures of one colour with networks of
// random weights: every step of scripts/mini_paper.sh.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/data/photo_set.h"
#include "vggflow/families/nano/tiny_fixture_test.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/networks/autoencoders/taesd.h"
#include "vggflow/networks/autoencoders/taesd_fixture_test.h"
#include "vggflow/networks/model_folder.h"
#include "vggflow/networks/vision/conv_case_test.h"
#include "vggflow/pretrain/prepare.h"
#include "vggflow/pretrain/pretrain.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/stored_zip.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/train/align.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;
using testing::write_taesd;

// Red cats and blue frogs of 8 pixels a side, no two alike.
fs::path write_photos(const fs::path& file, int first) {
  testing::ZipEntries entries;
  for (int i = first; i < first + 6; ++i) {
    for (const auto& [name, channel] : {std::pair{"cat", 0}, {"frog", 2}}) {
      Tensor pixels = at::full({3, 8, 8}, 0.02 * i);
      pixels[channel].fill_(0.8);
      const auto png = encode_png(to_image(pixels));
      entries.emplace_back(fmt::format("{}/{}.png", name, i), std::string(png.begin(), png.end()));
    }
  }
  write_text(file, testing::zip_of(entries));
  return file;
}

class Photos : public ::testing::Test {
 protected:
  PrepareConfig preparation() const {
    PrepareConfig c;
    c.photos = photos.string();
    c.taesd = taesd.string();
    c.out = latents.string();
    c.size = 16;
    c.batch = 5;
    return c;
  }
  PretrainConfig flow(const std::string& name) const {
    PretrainConfig c;
    c.run = (folder / name).string();
    c.latents = latents.string();
    c.taesd = taesd.string();
    c.precision = Precision::kFp32;
    c.model = testing::tiny_latent_options();
    c.fit.updates = 4;
    c.fit.batch = 6;
    c.fit.warmup = 0;
    c.fit.checkpoint_every = c.fit.preview_every = 2;
    return c;
  }
  PretrainConfig head(const std::string& name) const {
    PretrainConfig c;
    c.run = (folder / name).string();
    c.target = PretrainTarget::kClassHead;
    c.head.size = 32;
    c.head_data = {
        photos.string(),
        test_photos.string(),
        testing::ConvCase("mobilenet_v2").write_weights(folder / "v2.safetensors").string(),
        0,
        0,
        16,
        5};
    c.fit.updates = 60;
    c.fit.batch = 8;
    c.fit.warmup = 0;
    c.fit.ema_decay = 0;
    c.fit.optimizer.lr = 0.05;
    return c;
  }
  void prepare_all() const { prepare(preparation()); }

  testing::TemporaryFolder folder;
  fs::path photos = write_photos(folder / "photos.zip", 0),
           test_photos = write_photos(folder / "test.zip", 6),
           latents = folder / "made/latents.safetensors",
           taesd = write_taesd(folder / "taesd3", "a");
};

TEST_F(Photos, AreEncodedOnceAtTheSizeAskedFor) {
  PrepareConfig c = preparation();
  c.mirrored = true;
  prepare(c);
  const LatentSet set = read_latents(latents);
  const auto encoder = TaesdEncoder::load(taesd);
  const PhotoSet given = read_photo_zip(photos);
  const Tensor pixels = resized_photos(given.images, 16),
               want = at::cat({encoder->encode(pixels), encoder->encode(pixels.flip({3}))});
  EXPECT_EQ(set.latents.sizes(), (std::vector<int64_t>{24, 16, 2, 2}));
  EXPECT_LT(((set.latents - want).abs().max() / want.abs().max()).item<double>(),
            1e-3);  // fp16 in the file
  EXPECT_TRUE(at::equal(set.labels, at::cat({given.labels, given.labels})));
  EXPECT_EQ(set.encoder, weights_hash(*encoder));
  const auto written = fs::last_write_time(latents);
  prepare(c);
  EXPECT_EQ(fs::last_write_time(latents), written);
  c.taesd = write_taesd(folder / "other", "b").string();
  EXPECT_THAT(message_of([&] { prepare(c); }),
              HasSubstr("was made by another encoder: remove it, or choose another out="));
  EXPECT_THAT(message_of([] { prepare({}); }), HasSubstr("expected photos=FILE.zip"));
}

TEST_F(Photos, AFlowModelLearnsFromLatentsAndResumesBitForBit) {
  prepare_all();
  PretrainConfig whole = flow("whole");
  pretrain(whole);
  PretrainConfig half = flow("half");
  half.fit.updates = 2;
  pretrain(half);
  // The schedule ends at fit.updates, so the whole run's first checkpoint is what a stop after two
  // updates leaves.
  fs::remove_all(fs::path(whole.run) / "checkpoints/update_000004");
  const auto model_file = fs::path(whole.run) / "model/model.safetensors";
  const auto before = SafetensorsFile(model_file).load("transformer.proj_out.weight");
  PretrainConfig again = flow("whole");
  again.resume = true;
  pretrain(again);
  EXPECT_TRUE(at::equal(before, SafetensorsFile(model_file).load("transformer.proj_out.weight")));
  EXPECT_FALSE(at::equal(before, SafetensorsFile(fs::path(half.run) / "model/model.safetensors")
                                     .load("transformer.proj_out.weight")));
  EXPECT_TRUE(fs::exists(fs::path(whole.run) / "grids/preview_000004.png"));
  const auto model = NanoModel::load(fs::path(whole.run) / "model", at::kFloat);
  EXPECT_EQ(model->options.decoder_hash, weights_hash(*TaesdDecoder::load(taesd)));
}

TEST_F(Photos, LatentsThatDoNotFitTheNetworkAreRefused) {
  prepare_all();
  PretrainConfig c = flow("refused");
  c.model.network.sample_size = 1;
  EXPECT_THAT(message_of([&] { pretrain(c); }),
              HasSubstr("expected latents (16, 1, 1) for this network, got (12, 16, 2, 2) in"));
  c = flow("refused");
  c.model.decoder = NanoDecoder::kNone;
  EXPECT_THAT(message_of([&] { pretrain(c); }),
              HasSubstr("expected model.decoder=taesd3, which makes images of latents, got none"));
}

TEST_F(Photos, AClassHeadNamesPicturesThatItHasNotSeen) {
  PretrainConfig c = head("head");
  pretrain(c);
  const auto judge = open_judge(fs::path(c.run) / "model",
                                [&](const std::string&) { return folder / "v2.safetensors"; });
  EXPECT_EQ(judge->classes(), (std::vector<std::string>{"cat", "frog"}));
  const PhotoSet test = read_photo_zip(test_photos);
  EXPECT_TRUE(
      at::equal(judge->forward(resized_photos(test.images, 16)).logits.argmax(1), test.labels));
  c.head_data.test_photos = "";
  EXPECT_THAT(message_of([&] { pretrain(c); }),
              HasSubstr("expected head_data.photos, head_data.test_photos (zips of CLASS/NAME.jpg) "
                        "and head_data.network (a file of mobilenet-v2 weights)"));
}

TEST_F(Photos, ALatentModelIsAlignedOnClassesWithTheirJudge) {
  prepare_all();
  PretrainConfig model = flow("flow"), judge = head("head");
  pretrain(model);
  pretrain(judge);
  AlignConfig c;
  c.run = (folder / "aligned").string();
  c.flow.model = (folder / "flow/model").string();
  c.flow.precision = Precision::kFp32;
  c.flow.sd3.taesd = taesd.string();
  c.judge = (folder / "head/model").string();
  c.reward = "colorfulness";
  c.reward_files.reward_weights = {"mobilenet-v2=" + (folder / "v2.safetensors").string(),
                                   "class-head=" + c.judge};
  c.prompts.classes = {"cat", "frog"};
  c.updates = c.eval_every = 1;
  c.batch = 2;
  c.time_grid.steps = 4;
  c.methods.set("vgg-flow", "bins=2");
  c.eval.prompts = 2;
  c.eval.images = 3;
  c.eval.panel = {"class-head"};
  c.eval.features = "judge";
  c.lora_rank = 2;
  c.value.width = 32;
  c.value.layers = 1;
  ASSERT_EQ(align(c), RunEnd::kFinished);
  const Json final = Json::parse(read_text(fs::path(c.run) / "summary.json")).at("final");
  EXPECT_EQ(final.at("features"), "mobilenet-v2");
  EXPECT_GE(final.at("judge_accuracy").at("mean").get<double>(), 0);
  EXPECT_LE(final.at("panel").at("class-head").at("mean").get<double>(), 0);  // a log-probability
  c.run = (folder / "refused").string();
  c.prompts.classes = {"frog", "cat"};
  EXPECT_THAT(message_of([&] { align(c); }),
              HasSubstr("names the classes cat, frog, but the prompts' are frog, cat: pass "
                        "judge=FOLDER of theirs"));
  c.prompts.classes = {"cat", "frog"};
  c.reward_files.reward_weights.clear();
  c.eval.panel.clear();
  EXPECT_THAT(message_of([&] { align(c); }),
              HasSubstr("needs the weights 'mobilenet-v2', which are not given; pass "
                        "reward_weights=[mobilenet-v2=PATH]"));
}

}  // namespace
}  // namespace vggflow
