// Every target of `pretrain`, and `prepare`, on the pretend device: what they write is the CPU's,
// bit for bit.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "pretend_run.h"
#include "vggflow/data/votes.h"
#include "vggflow/families/nano/tiny_fixture_test.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/networks/autoencoders/taesd_fixture_test.h"
#include "vggflow/networks/vision/conv_case_test.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/pretrain/prepare.h"
#include "vggflow/pretrain/pretrain.h"
#include "vggflow/testing/pattern.h"
#include "vggflow/testing/stored_zip.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

std::string png_of(const Tensor& pixels) {
  const auto png = encode_png(to_image(pixels));
  return {png.begin(), png.end()};
}

fs::path write_photos(const fs::path& file) {
  testing::ZipEntries entries;
  for (int i = 0; i < 6; ++i) {
    for (const char* name : {"cat", "frog"})
      entries.emplace_back(
          fmt::format("{}/{}.png", name, i),
          png_of(
              testing::pattern(fmt::format("{}{}", name, i), {3, 8, 8}).to(at::kFloat).sigmoid()));
  }
  write_text(file, testing::zip_of(entries));
  return file;
}

fs::path write_votes(const fs::path& folder) {
  for (const char* side : {"a", "b"}) make_writable_folder(folder / side);
  JsonLines lines(folder / "votes.jsonl");
  for (int64_t i = 0; i < 12; ++i) {
    const std::string name = fmt::format("{:05}.png", i);
    for (const char* side : {"a", "b"})
      write_text(folder / side / name,
                 png_of(testing::pattern(side + name, {3, 32, 32}).to(at::kFloat).sigmoid()));
    lines.write(json_of({.pair = i,
                         .prompt = "any",
                         .a = "a/" + name,
                         .b = "b/" + name,
                         .winner = i % 2 ? VoteWinner::kA : VoteWinner::kB}));
  }
  return folder;
}

class PretrainingOnADevice : public ::testing::Test {
 protected:
  PretrainConfig config(PretrainTarget target) const {
    PretrainConfig c;
    c.target = target;
    c.precision = Precision::kFp32;
    c.fit.updates = 2;
    c.fit.batch = 4;
    c.fit.warmup = 0;
    c.data.list = list.string();
    c.model.text_width = 8;
    c.model.network = {.sample_size = 32,
                       .patch_size = 8,
                       .layers = 2,
                       .heads = 2,
                       .head_dim = 8,
                       .context_dim = 8,
                       .pooled_dim = 8,
                       .pos_embed_max = 4};
    return c;
  }
  // The files that `write` leaves in a run's folder, here and there.
  void expect_the_cpus(const std::string& file, const std::function<void(const fs::path&)>& write) {
    const fs::path cpu = folder / "cpu", device = folder / "device";
    for (const fs::path& run : {cpu, device}) make_writable_folder(run);
    testing::on_plain_cpu([&] { write(cpu); });
    testing::on_pretend_device([&] { write(device); });
    const SafetensorsFile a(cpu / file), b(device / file);
    ASSERT_FALSE(a.tensors().empty());
    ASSERT_EQ(a.tensors().size(), b.tensors().size());
    for (const auto& [name, entry] : a.tensors())
      EXPECT_TRUE(at::equal(a.load(name), b.load(name))) << name;
  }
  void expect_the_cpus(PretrainConfig c) {
    expect_the_cpus("model/model.safetensors", [&](const fs::path& run) {
      c.run = run.string();
      PretrainConfig own = c;
      pretrain(own);
    });
  }

  testing::TemporaryFolder folder;
  fs::path list = [this] {
    write_text(folder / "emoji.txt",
               "# group: Smileys\n# subgroup: face-smiling\n"
               "1F600 ; fully-qualified # x E1.0 grinning face\n"
               "1F603 ; fully-qualified # x E0.6 grinning face with big eyes\n"
               "# group: Animals\n# subgroup: animal-mammal\n"
               "1F431 ; fully-qualified # x E0.6 cat face\n"
               "1F436 ; fully-qualified # x E0.6 dog face\n");
    return folder / "emoji.txt";
  }();
};

TEST_F(PretrainingOnADevice, OfTheFlowModelIsTheCpus) {
  PretrainConfig flow = config(PretrainTarget::kFlow);
  flow.data = {};  // its previews name other emoji
  expect_the_cpus(flow);
}

TEST_F(PretrainingOnADevice, OfTheClipAndTheJudgeOfEmojiIsTheCpus) {
  PretrainConfig clip = config(PretrainTarget::kEmojiClip);
  clip.clip = {.pool = 2, .widths = {8, 16}, .text_width = 8, .embedding = 12};
  clip.adversarial = 0.5;
  expect_the_cpus(clip);
  PretrainConfig judge = config(PretrainTarget::kJudge);
  judge.judge.layers = 1;
  expect_the_cpus(judge);
}

TEST_F(PretrainingOnADevice, OfHeadsOnOtherNetworksIsTheCpus) {
  PretrainConfig vote = config(PretrainTarget::kVoteHead);
  vote.vote_data.folders = {write_votes(folder / "votes").string()};
  vote.vote_data.network = (fs::path(VGGFLOW_SOURCE_DIR) / "models/emoji-clip").string();
  expect_the_cpus(vote);
  PretrainConfig head = config(PretrainTarget::kClassHead);
  const std::string photos = write_photos(folder / "photos.zip").string();
  head.head.size = 32;
  head.head_data = {
      photos,
      photos,
      testing::ConvCase("mobilenet_v2").write_weights(folder / "v2.safetensors").string(),
      0,
      0,
      16,
      5};
  expect_the_cpus(head);
}

// Photographs become latents, and a flow model learns these.
TEST_F(PretrainingOnADevice, OfPhotographsIsTheCpus) {
  PrepareConfig prepared;
  prepared.photos = write_photos(folder / "photos.zip").string();
  prepared.taesd = testing::write_taesd(folder / "taesd3").string();
  prepared.size = 16;
  prepared.batch = 5;
  expect_the_cpus("latents.safetensors", [&](const fs::path& run) {
    PrepareConfig own = prepared;
    own.out = (run / "latents.safetensors").string();
    prepare(own);
  });
  const NanoOptions tiny = testing::tiny_latent_options();
  PretrainConfig flow = config(PretrainTarget::kFlow);
  flow.latents = (folder / "cpu/latents.safetensors").string();
  flow.taesd = prepared.taesd;
  flow.model.decoder = tiny.decoder;
  flow.model.network = tiny.network;
  expect_the_cpus(flow);
}

}  // namespace
}  // namespace vggflow
