// Rewards, feature networks, text encoders, autoencoders and whole samplings on the pretend device:
// equal to the CPU's plain operations, score and gradient.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/api/module.h>

#include <functional>
#include <tuple>
#include <utility>

#include "pretend_run.h"
#include "tiny_sd35.h"
#include "vggflow/eval/run.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/families/nano/tiny_fixture_test.h"
#include "vggflow/families/open_model.h"
#include "vggflow/features/clip_features.h"
#include "vggflow/features/feature_networks.h"
#include "vggflow/features/pixel_features.h"
#include "vggflow/features/vit_features.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/networks/autoencoders/autoencoder_kl.h"
#include "vggflow/networks/autoencoders/taesd.h"
#include "vggflow/networks/autoencoders/taesd_fixture_test.h"
#include "vggflow/networks/text/t5_encoder.h"
#include "vggflow/networks/vision/class_head.h"
#include "vggflow/networks/vision/conv_case_test.h"
#include "vggflow/networks/vision/mobilenet.h"
#include "vggflow/networks/vision/vote_head.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/rewards/image_reward.h"
#include "vggflow/rewards/reward.h"
#include "vggflow/testing/count_calls.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/http_server.h"
#include "vggflow/testing/pattern.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/weights/frozen_weights.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using testing::models_testdata;
using testing::on_pretend_device;

const std::vector<std::string> kPrompts{"a photo of a horse", "A ship, at night"};

Tensor images(int64_t side = 24) {
  return testing::pattern("reward.image", {2, 3, side, side}).to(at::kFloat);
}

// What f computes where its networks and inputs lie on the device, against the CPU: bit for bit, or
// within an error that the call explains.
void expect_same(const std::string& what, const std::function<Tensor()>& f, double tolerance = 0) {
  const Tensor cpu = testing::on_plain_cpu(f);
  const Tensor device = testing::on_pretend_device(f);
  ASSERT_EQ(device.device(), testing::pretend_device()) << what;
  EXPECT_LE(testing::norm_error(device.cpu(), cpu), tolerance) << what;
}

// Score, gradient and Hessian product, in one row.
Tensor answers_of(const Reward& reward, const Tensor& pixels,
                  const std::vector<std::string>& prompts) {
  const Tensor shown = pixels.to(current_device());
  const RewardGradient r = reward_gradient(reward, shown, prompts);
  return at::cat({r.score.flatten(), r.gradient.flatten(),
                  reward_hessian_product(reward, shown, shown * 0.5, prompts).flatten()});
}

void expect_reward(const std::string& name, const RewardResources& resources,
                   const Tensor& pixels = images(),
                   const std::vector<std::string>& prompts = kPrompts) {
  expect_same(name, [&] { return answers_of(*make_reward(name, resources), pixels, prompts); });
}

RewardResources clip_resources() {
  const fs::path clip = models_testdata("clip");
  return {
      .emoji_clip = fs::path(VGGFLOW_SOURCE_DIR) / "models/emoji-clip",
      .weights = {{"clip-vit-l14", clip / "transformers_quick"},
                  {"pickscore", clip / "transformers_gelu"},
                  {"hpsv2.1", clip / "open_clip"},
                  {"aesthetic-head", fs::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/rewards/testdata/"
                                                                    "aesthetic_head.safetensors"},
                  {"clip-tokenizer", models_testdata("sd3_tiny") / "tokenizer"}}};
}

TEST(OnADevice, RewardsOnClipTowersAreTheCpus) {
  for (const char* name : {"aesthetic", "clip-score", "hpsv2.1", "pickscore"})
    expect_reward(name, clip_resources());
}

TEST(OnADevice, RewardsOfEmojiAndTheirSumsAreTheCpus) {
  for (const char* name : {"colorfulness", "emoji-clip", "0.7*emoji-clip + 0.01*colorfulness"})
    expect_reward(name, clip_resources(), images(32), {"red heart", "ghost"});
}

// Numbered layers of a network in its full size, by formula.
fs::path write_numbered(const fs::path& file, const MobileNetOptions& options) {
  MobileNet net(options);
  TensorList tensors;
  const auto put = [&](size_t layer, at::IntArrayRef shape) {
    const auto name = fmt::format("layers.{}", layer);
    tensors.emplace_back(name + ".weight", testing::pattern_weight(name + ".weight", shape));
    tensors.emplace_back(name + ".bias", testing::pattern_weight(name + ".bias", {shape[0]}));
  };
  const auto convs = net.convolutions();
  for (size_t i = 0; i < convs.size(); ++i) put(i, convs[i]->weight.sizes());
  put(convs.size(), net.classifier.weight.sizes());
  write_safetensors(file, tensors);
  return file;
}

TEST(OnADevice, RewardsOnConvolutionsAreTheCpus) {
  const testing::TemporaryFolder folder;
  RewardResources r;
  r.nima_size = r.mobilenet_size = 64;
  r.weights["nima-aesthetic"] =
      write_numbered(folder / "nima.safetensors", mobilenet_v1_options(10));
  r.weights["mobilenet-v2"] = write_numbered(folder / "v2.safetensors", mobilenet_v2_options(1001));
  for (const char* name : {"nima-aesthetic", "mobilenet-class"}) expect_reward(name, r);
}

TEST(OnADevice, TheClassHeadIsTheCpus) {
  const testing::TemporaryFolder folder;
  RewardResources r;
  r.weights["mobilenet-v2"] = folder / "v2.safetensors";
  testing::ConvCase("mobilenet_v2").write_weights(folder / "v2.safetensors");
  auto network = load_head_network(HeadNetwork::kMobilenetV2, folder / "v2.safetensors");
  const ClassHeadOptions options{
      .network_hash = network->options.hash, .size = 40, .classes = {"cat", "horse", "ship"}};
  ClassHead head(options, std::move(network));
  head.head.weight = testing::pattern_weight("head.weight", head.head.weight.sizes());
  head.save(folder / "head", {});
  r.weights["class-head"] = folder / "head";
  expect_reward("class-head", r);
}

// On both networks that votes are learned on.
TEST(OnADevice, AVoteHeadIsTheCpus) {
  const testing::TemporaryFolder folder;
  for (const auto& [network, place, side] :
       {std::tuple{VoteNetwork::kEmojiClip, clip_resources().emoji_clip, int64_t{32}},
        {VoteNetwork::kClipVitL14, clip_resources().weights.at("clip-vit-l14"), int64_t{24}}}) {
    RewardResources r = clip_resources();
    auto vectors = std::make_unique<VoteVectors>(network, place);
    const VoteHeadOptions options{
        .network = network, .network_hash = vectors->hash(), .width = vectors->width()};
    VoteHead head(options, std::move(vectors));
    head.head.weight = testing::pattern_weight("head.weight", head.head.weight.sizes());
    r.weights["vote-head"] = folder / word_of(network);
    head.save(r.weights["vote-head"], {});
    expect_reward("vote-head", r, images(side));
  }
}

TEST(OnADevice, ImageRewardIsTheCpus) {
  const fs::path folder = models_testdata("image_reward");
  const ImageRewardOptions options{
      .vision = {.image = 32, .patch = 8, .width = 16, .layers = 2, .heads = 4},
      .text = {.vocabulary = 31,
               .width = 24,
               .mlp_width = 40,
               .layers = 2,
               .heads = 3,
               .positions = 40,
               .image_width = 16},
      .mlp = {12, 10, 8, 6}};
  const RewardResources resources{.emoji_clip = {},
                                  .weights = {{"imagereward", folder / "ImageReward.pt"},
                                              {"bert-vocab", folder / "vocab.txt"}}};
  expect_same("imagereward", [&] {
    return answers_of(ImageRewardReward(resources, options), images(), kPrompts);
  });
}

TEST(OnADevice, AUsersTorchScriptIsTheCpus) {
  const testing::TemporaryFolder folder;
  torch::jit::Module module("reward");
  module.register_parameter("gain", at::full({1}, 2.0), /*is_buffer=*/false);
  module.define(
      "\ndef forward(self, images):\n    return self.gain * (images ** 3).sum([1, 2, 3])\n");
  module.save((folder / "reward.pt").string());
  expect_reward("torchscript:" + (folder / "reward.pt").string(), {});
}

TEST(OnADevice, AUsersPlugInIsTheCpus) {
  expect_reward(std::string("plugin:") + VGGFLOW_PLUGIN_SHARPNESS, {});
}

// The judge's score of an image is the length of its PNG.
TEST(OnADevice, AJudgeBehindHttpGetsTheCpusImages) {
  const testing::HttpServer server([](const std::string& body) {
    const Json request = Json::parse(body);
    Json scores = Json::array();
    for (const Json& png : request["images"]) scores.push_back(png.get<std::string>().size());
    return testing::HttpAnswer{200, Json{{"scores", scores}}.dump()};
  });
  expect_same("http", [&] {
    return make_reward(server.url() + "/score", {})->score(images().to(current_device()), kPrompts);
  });
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0], requests[1]);
}

TEST(OnADevice, AJudgeWithoutGradientsScoresImagesOfTheDevice) {
  expect_same("jpeg", [] {
    return make_reward("jpeg", {})->score(images().to(current_device()), kPrompts);
  });
}

void expect_features(const std::string& what,
                     const std::function<std::unique_ptr<FeatureNetwork>()>& open, int64_t side) {
  expect_same(what, [&] { return open()->features(images(side).to(current_device())); });
}

TEST(OnADevice, FeatureNetworksOfTheMetricsAreTheCpus) {
  const testing::TemporaryFolder folder;
  for (const auto& [name, reference] : {std::pair{"inception-v3", "inception"},
                                        {"inception-v3-tf1", "inception_tf1"},
                                        {"mobilenet-v2", "mobilenet_v2"},
                                        {"efficientnet-lite0", "lite0"}}) {
    const fs::path weights =
        testing::ConvCase(reference).write_weights(folder / (std::string(name) + ".safetensors"));
    expect_features(
        name, [network = name, &weights] { return make_feature_network(network, weights); }, 24);
  }
  const fs::path dreamsim = models_testdata("dreamsim");
  const VitOptions vit{.image = 32, .patch = 8, .width = 12, .layers = 12, .heads = 3};
  DreamSimOptions three{.dino = vit, .clip = vit, .open_clip = vit, .projection = 8};
  three.clip.layers = 2, three.clip.eps = 1e-5, three.clip.pre_norm = true;
  three.clip.quick_gelu = true;
  three.open_clip.layers = 3, three.open_clip.eps = 1e-5, three.open_clip.pre_norm = true;
  expect_features(
      "dreamsim", [&] { return std::make_unique<DreamSimFeatures>(dreamsim, three); }, 40);
  expect_features(
      "dino",
      [&] {
        return std::make_unique<DinoFeatures>(dreamsim / "checkpoints/dino_vitbase16_pretrain.pth",
                                              vit);
      },
      40);
  expect_features(
      "clip",
      [&] {
        return std::make_unique<ClipFeatures>(models_testdata("clip") / "transformers_quick");
      },
      24);
  expect_features(
      "clip-projected",
      [] {
        return make_feature_network("clip-projected",
                                    models_testdata("clip") / "transformers_quick");
      },
      24);
  expect_features("pixels-8x8", [] { return std::make_unique<PixelFeatures>(); }, 24);
}

TEST(OnADevice, FeaturesOfTheProgramsOwnNetworksAreTheCpus) {
  const fs::path models = fs::path(VGGFLOW_SOURCE_DIR) / "models";
  for (const char* name : {"judge", "emoji-clip"}) {
    expect_same(name, [&] {
      return open_features(name, {models / "judge", models / "emoji-clip"})
          ->features(images(32).to(current_device()));
    });
  }
}

TEST(OnADevice, TheAutoencodersDecodeAsOnTheCpu) {
  const SafetensorsFile reference(models_testdata("vae_reference.safetensors"));
  AutoencoderKlOptions o;
  o.latent_channels = 4;
  o.widths = {4, 8, 8, 8};
  o.groups = 2;
  o.sample_size = 32;
  const auto with_gradient = [](const Tensor& image, const Tensor& latents) {
    return at::cat({image.detach().flatten(),
                    torch::autograd::grad({image.square().sum()}, {latents})[0].flatten()});
  };
  expect_same("AutoencoderKL", [&] {
    AutoencoderKl vae(o);
    adopt_weights(vae.parameters(), testing::weights_under(reference, "kl.weights."), at::kFloat);
    const Tensor x = reference.load("kl.latents").to(current_device()).requires_grad_(true);
    const Tensor wide = at::cat({x, x.flip(3)}, 3);  // more than a tile, so that seams are blended
    EXPECT_GT(wide.size(3) * o.downscale(), o.sample_size);
    return at::cat({with_gradient(vae.decode(x), x), with_gradient(vae.decode_tiled(wide), x)});
  });
  expect_same("AutoencoderKL's encoder", [&] {
    AutoencoderKl vae(o);
    adopt_weights(vae.parameters(), testing::weights_under(reference, "kl.weights."), at::kFloat);
    return vae.encode(images(32).to(current_device()));
  });
  expect_same("TAESD3's encoder", [&] {
    TaesdEncoder encoder({.latent_channels = 16, .width = 4});
    adopt_weights(encoder.parameters(), testing::weights_under(reference, "taesd.weights.encoder."),
                  at::kFloat);
    return encoder.encode(images(32).to(current_device()));
  });
  expect_same("TAESD3", [&] {
    TaesdDecoder decoder({.latent_channels = 16, .width = 4});
    adopt_weights(decoder.parameters(), testing::weights_under(reference, "taesd.weights.decoder."),
                  at::kFloat);
    const Tensor x = reference.load("taesd.latents").to(current_device()).requires_grad_(true);
    return with_gradient(decoder.decode(x), x);
  });
}

GeneratorOptions tiny_sd3(const fs::path& model) {
  GeneratorOptions o;
  o.flow.model = model.string();
  o.flow.precision = Precision::kFp32;
  o.flow.sd3.t5_tokens = 20;
  o.flow.sd3.negative_prompt = "a dog";
  o.flow.sd3.height = o.flow.sd3.width = 16;
  o.guidance = 4.5;
  o.time_grid.steps = 4;
  return o;
}

Tensor sampled(const GeneratorOptions& o, const std::vector<std::string>& prompts) {
  const Generator generator(o);
  const Tensor noise =
      keyed_normal(1, Purpose::kTest, 0, 0, std::ssize(prompts), generator.model().state_shape());
  return generator.generate(prompts, noise, /*aligned=*/false);
}

TEST(OnADevice, TheThreeTextEncodersAreTheCpus) {
  expect_same("text", [] {
    const Generator generator(tiny_sd3(models_testdata("sd3_tiny")));
    const Conditioning c = generator.model().encode({"a photo of a cat", "it is 42 dogs"});
    return at::cat({c.context.flatten(), c.pooled.flatten()});
  });
}

// What is left of them on the device are the prompts' rows.
TEST(OnADevice, TheTextEncodersLeaveItAfterTheirPrompts) {
  on_pretend_device([] {
    const Generator generator(tiny_sd3(models_testdata("sd3_tiny")));
    constexpr double kGib = 1024.0 * 1024.0 * 1024.0;
    reset_device_peak();
    const double before = device_memory()->now_gib * kGib;
    const Conditioning rows = generator.model().encode({"a photo of a cat", "it is 42 dogs"});
    const double row = static_cast<double>(rows.context.nbytes() + rows.pooled.nbytes()) / 2,
                 left = device_memory()->now_gib * kGib - before,
                 peak = device_memory()->peak_gib * kGib - before;
    // Those that are returned, those that are held, and the negative prompt's; in units of 512.
    EXPECT_LE(left, 5 * row + 10 * 512);
    EXPECT_GT(peak, 2 * left) << "the encoders were there";
  });
}

// Text encoders, transformer and autoencoder.
TEST(OnADevice, SamplingsOfStableDiffusion3AreTheCpus) {
  const std::vector<std::string> prompts{"a photo of a cat", "it is 42 dogs"};
  expect_same("sd3", [&] { return sampled(tiny_sd3(models_testdata("sd3_tiny")), prompts); });
  const testing::TemporaryFolder folder;
  testing::write_sd35(folder / "sd35");
  expect_same("sd3.5", [&] { return sampled(tiny_sd3(folder / "sd35"), prompts); });
}

GeneratorOptions nano_in(Precision precision, int64_t steps) {
  GeneratorOptions o;
  o.flow.model = (fs::path(VGGFLOW_SOURCE_DIR) / "models/nano").string();
  o.flow.precision = precision;
  o.time_grid.steps = steps;
  return o;
}

TEST(OnADevice, SamplingsOfNanoAreTheCpus) {
  expect_same("nano", [] { return sampled(nano_in(Precision::kFp32, 3), {"red heart", "ghost"}); });
}

// The gradient of an image through a model's decoder.
Tensor decoders_gradient(const ModelOptions& o) {
  const auto model = open_flow_model(o);
  const auto side = model->state_shape();
  const Tensor x = testing::pattern("x", {2, side[0], side[1], side[2]})
                       .to(at::kFloat)
                       .to(current_device())
                       .requires_grad_(true);
  return torch::autograd::grad({model->decode(x).square().sum()}, {x})[0];
}

// TAESD3 in place of its autoencoder; the decoder's blocks run again where the network's do.
TEST(OnADevice, StableDiffusion3DecodesByTaesd3AsOnTheCpu) {
  const testing::TemporaryFolder folder;
  testing::write_taesd(folder.path());
  const fs::path model = folder / "sd3";
  testing::write_sd35(model, 2, {{"in_channels", 16}, {"out_channels", 16}});
  nlohmann::json vae = read_json_file(model / "vae/config.json");
  vae["latent_channels"] = 16;
  std::ofstream(model / "vae/config.json") << vae;
  ModelOptions o = tiny_sd3(model).flow;
  o.sd3.decoder = Sd3Decoder::kTaesd3;
  o.sd3.taesd = folder.path().string();
  const auto convolutions = [&] {
    return testing::count_calls("aten::conv2d", [&] { decoders_gradient(o); });
  };
  const int once = convolutions();
  o.checkpointing = true;
  EXPECT_GT(convolutions(), once);
  expect_same("sd3 by TAESD3", [&] { return decoders_gradient(o); });
}

// A model of latents, with its decoder.
TEST(OnADevice, NanoWithADecoderSamplesAsOnTheCpu) {
  const testing::TemporaryFolder folder;
  testing::write_taesd(folder.path());
  NanoModel model(testing::tiny_latent_options(), Vocabulary({"red", "cat"}, 3));
  model.init(1);
  model.open_decoder(folder.path().string());
  model.save(folder / "model", {});
  GeneratorOptions o = nano_in(Precision::kFp32, 3);
  o.flow.model = (folder / "model").string();
  o.flow.sd3.taesd = folder.path().string();
  expect_same("nano of latents", [&] { return sampled(o, {"red cat", "cat"}); });
  o.flow.checkpointing = true;
  expect_same("its gradient", [&] { return decoders_gradient(o.flow); });
}

TEST(OnADevice, SamplingsInBf16AreTheCpus) {
  expect_same("nano in bf16",
              [] { return sampled(nano_in(Precision::kBf16, 2), {"red heart", "ghost"}); });
}

}  // namespace
}  // namespace vggflow
