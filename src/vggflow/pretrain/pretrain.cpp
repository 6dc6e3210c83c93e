#include "vggflow/pretrain/pretrain.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/core/log.h"
#include "vggflow/core/result.h"
#include "vggflow/core/usage_error.h"
#include "vggflow/data/photo_set.h"
#include "vggflow/device/device.h"
#include "vggflow/flow/guided_velocity.h"
#include "vggflow/flow/precision.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/ops/vjp.h"

namespace vggflow {
namespace {

// t = logistic(m + s z), one z a sample.
Tensor logit_normal_times(const PretrainConfig& c, int64_t update) {
  const Tensor z = keyed_normal(static_cast<uint64_t>(c.fit.seed), Purpose::kTime,
                                static_cast<uint64_t>(update), 0, c.fit.batch, {});
  return at::sigmoid(z * c.time_sd + c.time_mean).to(current_device());
}

// What a flow model learns from: end points x_1 with the ids of their captions.
struct FlowBatch {
  Tensor x1, ids;
};
struct FlowData {
  Vocabulary vocabulary;
  std::vector<std::string> display;  ///< prompts of the previews
  std::function<FlowBatch(const Vocabulary&, int64_t update)> batch;
};

// |v(x_t, t) - (x1 - x0)|^2 with x_t = t x1 + (1 - t) x0.
Tensor flow_matching_loss(const NanoModel& model, const FlowBatch& batch, const Tensor& noise,
                          const Tensor& t) {
  const Tensor s = expand_time(t, noise);
  const Tensor x = s * batch.x1 + (1 - s) * noise;
  return at::mse_loss(model.velocity(x, t, model.text.forward(batch.ids)), batch.x1 - noise);
}

// The display prompts from fixed noise, as a grid.
void write_preview(const NanoModel& model, const std::vector<std::string>& prompts,
                   const std::filesystem::path& file, double guidance) {
  const auto n = static_cast<int64_t>(prompts.size());
  const GuidedVelocity velocity(model, model.encode(prompts), model.unconditional(n), guidance);
  const Tensor x0 =
      keyed_normal(0, Purpose::kEvalNoise, 0, 0, n, model.state_shape()).to(current_device());
  const Tensor x1 =
      sample([&](const Tensor& x, const Tensor& t) { return velocity(x, t); }, x0, time_grid({}));
  write_png(file, image_grid((model.decode(x1) + 1) / 2, 8, 2));
}

struct EmojiSource {
  explicit EmojiSource(const EmojiOptions& options) : set(load_emoji(options)), sampler(set) {
    log_info("{} emoji in {} subgroups, {} undrawn", set.items.size(), set.subgroups.size(),
             set.undrawn);
  }
  EmojiSet set;
  EmojiSampler sampler;
};

void write_loss_curve(const std::vector<LossPoint>& curve, const std::filesystem::path& folder) {
  nlohmann::json points = nlohmann::json::array();
  for (const LossPoint& p : curve) points.push_back({p.update, p.loss});
  write_text(folder / "loss.json", json_text(points));
  print_result("wrote the model to " + folder.string());
}

// Fits; the averaged weights are saved at every preview, so that a model folder exists early, and
// with the loss curve at the end.
template <class Model>
void fit_and_save(Model& model, const PretrainConfig& config,
                  const std::function<Tensor(int64_t)>& loss,
                  const std::function<void(int64_t)>& preview) {
  const std::filesystem::path run = config.run;
  const auto save_and_preview = [&](int64_t update) {
    make_writable_folder(run / "model");
    model.save(run / "model", {{"vggflow.target", word_of(config.target)},
                               {"vggflow.updates", fmt::to_string(update)},
                               {"vggflow.seed", fmt::to_string(config.fit.seed)}});
    if (preview) preview(update);
  };
  const auto curve = fit({model, loss, save_and_preview}, config.fit, run, config.resume);
  if (!curve.empty()) write_loss_curve(curve, run / "model");
}

FlowData emoji_data(const PretrainConfig& config, const EmojiSource& source) {
  const auto batch = [&](const Vocabulary& vocabulary, int64_t update) {
    const Batch b = make_batch(source.set, source.sampler, vocabulary, config.captions,
                               static_cast<uint64_t>(config.fit.seed),
                               static_cast<uint64_t>(update), 0, config.fit.batch);
    return FlowBatch{b.images.to(current_device()), b.ids};
  };
  return {build_vocabulary(source.set), display_prompts(), batch};
}

// Captions name the class, or nothing in a share captions.empty of them.
FlowData latent_data(const PretrainConfig& config) {
  const auto set = std::make_shared<const LatentSet>(read_latents(config.latents));
  const MmditOptions& o = config.model.network;
  VGGFLOW_CHECK(
      config.model.decoder != NanoDecoder::kNone,
      "[pretrain] expected model.decoder=taesd3, which makes images of latents, got none");
  VGGFLOW_CHECK(
      set->latents.sizes().slice(1) == at::IntArrayRef({o.channels, o.sample_size, o.sample_size}),
      "[pretrain] expected latents ({}, {}, {}) for this network, got {} in {}", o.channels,
      o.sample_size, o.sample_size, shape_string(set->latents), config.latents);
  std::vector<std::string> captions;
  for (const std::string& name : set->classes) captions.push_back(photo_caption(name));
  log_info("{} latents of {} classes", set->latents.size(0), captions.size());
  const auto batch = [set, captions, &config](const Vocabulary& vocabulary, int64_t update) {
    const auto seed = static_cast<uint64_t>(config.fit.seed), u = static_cast<uint64_t>(update);
    const Tensor places = draw_places(set->labels.numel(), seed, u, 0, config.fit.batch),
                 labels = set->labels.index_select(0, places);
    std::vector<std::string> drawn;
    for (int64_t i = 0; i < config.fit.batch; ++i) {
      const bool empty = RandomStream({seed, Purpose::kCaption, u, static_cast<uint64_t>(i)})
                             .chance(config.captions.empty);
      drawn.push_back(empty ? "" : captions[static_cast<size_t>(labels[i].item<int64_t>())]);
    }
    return FlowBatch{set->latents.index_select(0, places).to(current_device()),
                     tokenize_all(vocabulary, drawn)};
  };
  return {photo_vocabulary(set->classes), photo_display(set->classes), batch};
}

void pretrain_flow(PretrainConfig& config, const FlowData& data) {
  const std::filesystem::path run = config.run;
  NanoModel model(config.model, data.vocabulary);
  const auto seed = static_cast<uint64_t>(config.fit.seed);
  model.init(seed);
  model.open_decoder(config.taesd);
  model.transformer.compute = precision_dtype(config.precision);
  log_info("{}", model.description());
  make_writable_folder(run / "grids");
  const auto loss = [&](int64_t update) {
    const FlowBatch batch = data.batch(model.vocabulary, update);
    const Tensor noise = keyed_normal(seed, Purpose::kNoise, static_cast<uint64_t>(update), 0,
                                      config.fit.batch, batch.x1.sizes().slice(1))
                             .to(current_device());
    return flow_matching_loss(model, batch, noise, logit_normal_times(config, update));
  };
  fit_and_save(model, config, loss, [&](int64_t update) {
    write_preview(model, data.display, run / "grids" / fmt::format("preview_{:06}.png", update),
                  config.preview_guidance);
  });
}

// Cross entropy in both directions of scale * <image, text>; pairs with the same caption all count
// as right.
Tensor contrastive_loss(const EmojiClip& model, const Tensor& images, const Tensor& ids) {
  const Tensor logits =
      at::matmul(model.embed_images(images), model.embed_text(ids).t()) * model.scale();
  const Tensor same = (ids.unsqueeze(0) == ids.unsqueeze(1)).all(2).to(at::kFloat);
  const Tensor target = same / same.sum(1, /*keepdim=*/true);
  return -0.5 * ((target * at::log_softmax(logits, 1)).sum(1).mean() +
                 (target * at::log_softmax(logits.t(), 1)).sum(1).mean());
}

// One ascent step of length `size` (L2, per image) on the loss, the one-step form of Madry et al.
// 2018: a network trained on such images has gradients that follow what a person sees, which is
// what a reward's gradient must do.
Tensor adversarial_images(const EmojiClip& model, const Tensor& images, const Tensor& ids,
                          double size) {
  const Tensor gradient =
      gradient_of([&](const Tensor& x) { return contrastive_loss(model, x, ids); }, images);
  const Tensor norm =
      at::linalg_vector_norm(gradient, 2, {1, 2, 3}, /*keepdim=*/true).clamp_min(1e-20);
  return (images + gradient * (size / norm)).clamp(0, 1);
}

void pretrain_clip(PretrainConfig& config, const EmojiSource& source) {
  EmojiClip model(config.clip, build_vocabulary(source.set));
  const auto seed = static_cast<uint64_t>(config.fit.seed);
  model.init(seed);
  config.captions.empty = 0;  // an empty caption says nothing of its image
  log_info("EmojiClip({:.2f} M parameters)", static_cast<double>(model.parameter_count()) * 1e-6);
  const auto loss = [&](int64_t update) {
    const auto u = static_cast<uint64_t>(update);
    const Batch batch = make_batch(source.set, source.sampler, model.vocabulary, config.captions,
                                   seed, u, 0, config.fit.batch);
    const Tensor images =
        augment((batch.images + 1) / 2, config.augment, seed, u).to(current_device());
    const Tensor ids = batch.ids.to(current_device());
    return contrastive_loss(model,
                            config.adversarial > 0
                                ? adversarial_images(model, images, ids, config.adversarial)
                                : images,
                            ids);
  };
  fit_and_save(model, config, loss, nullptr);
}

// Share of all images, unchanged, whose subgroup the judge names.
double judge_accuracy(const Judge& judge, const EmojiSource& source) {
  at::NoGradGuard no_grad;
  int64_t right = 0;
  const auto n = static_cast<int64_t>(source.set.items.size());
  for (int64_t first = 0; first < n; first += 256) {
    const int64_t count = std::min<int64_t>(256, n - first);
    const Tensor guess =
        judge
            .forward(source.set.images.narrow(0, first, count).to(current_device(), at::kFloat) /
                     255)
            .logits.argmax(1)
            .cpu();
    for (int64_t i = 0; i < count; ++i) {
      right += guess[i].item<int64_t>() ==
               source.set.items[static_cast<size_t>(first + i)].subgroup_index;
    }
  }
  return static_cast<double>(right) / static_cast<double>(n);
}

void pretrain_judge(PretrainConfig& config, const EmojiSource& source) {
  config.judge.classes = source.set.subgroups;
  Judge model(config.judge);
  const auto seed = static_cast<uint64_t>(config.fit.seed);
  model.init(seed);
  model.compute = precision_dtype(config.precision);
  const Vocabulary vocabulary = build_vocabulary(source.set);
  log_info("Judge({:.2f} M parameters)", static_cast<double>(model.parameter_count()) * 1e-6);
  const auto loss = [&](int64_t update) {
    const auto u = static_cast<uint64_t>(update);
    const Batch batch = make_batch(source.set, source.sampler, vocabulary, config.captions, seed, u,
                                   0, config.fit.batch);
    const Tensor logits =
        model.forward(augment((batch.images + 1) / 2, config.augment, seed, u).to(current_device()))
            .logits;
    return at::cross_entropy_loss(logits, batch.subgroups.to(current_device()));
  };
  fit_and_save(model, config, loss, [&](int64_t update) {
    log_info("update {}: the judge names {:.1f} % of the unchanged images", update,
             100 * judge_accuracy(model, source));
  });
}

void pretrain_class_head(PretrainConfig& config) {
  HeadTask task(config.head, config.head_data);
  const auto right = [&](const LabelledFeatures& data) {
    return 100 * accuracy(*task.model, data);
  };
  fit_and_save(
      *task.model, config, [&](int64_t update) { return task.loss(config.fit, update); },
      [&](int64_t update) {
        log_info(
            "update {}: the head names {:.1f} % of what it learns from, {:.1f} % of the test "
            "photographs",
            update, right(task.train), right(task.test));
      });
}

void pretrain_vote_head(PretrainConfig& config) {
  VoteTask task(config.vote, config.vote_data, static_cast<uint64_t>(config.fit.seed));
  fit_and_save(
      *task.model, config, [&](int64_t update) { return task.loss(config.fit, update); },
      [&](int64_t update) {
        log_info(
            "update {}: the head names the winner in {:.1f} % of the votes learned from, {:.1f} % "
            "of the votes held out",
            update, 100 * task.accuracy(task.train), 100 * task.accuracy(task.test));
      });
}

// `config` with the defaults in place of all that `target` does not read.
PretrainConfig read_by(PretrainTarget target, const PretrainConfig& config) {
  PretrainConfig c;
  c.run = config.run;
  c.target = config.target;
  c.resume = config.resume;
  c.threads = config.threads;
  c.device = config.device;
  c.fit = config.fit;
  if (target == PretrainTarget::kClassHead) {
    c.head = config.head;
    c.head_data = config.head_data;
    return c;
  }
  if (target == PretrainTarget::kVoteHead) {
    c.vote = config.vote;
    c.vote_data = config.vote_data;
    return c;
  }
  const bool of_latents = target == PretrainTarget::kFlow && !config.latents.empty();
  if (!of_latents) c.data = config.data;
  if (target != PretrainTarget::kEmojiClip) c.precision = config.precision;
  switch (target) {
    case PretrainTarget::kFlow:
      c.latents = config.latents;
      if (config.model.decoder != NanoDecoder::kNone) c.taesd = config.taesd;
      c.time_mean = config.time_mean;
      c.time_sd = config.time_sd;
      c.preview_guidance = config.preview_guidance;
      c.model = config.model;
      if (of_latents)
        c.captions.empty = config.captions.empty;
      else
        c.captions = config.captions;
      break;
    case PretrainTarget::kEmojiClip:
      c.adversarial = config.adversarial;
      c.captions.subgroup = config.captions.subgroup;
      c.captions.drop_skin_tone = config.captions.drop_skin_tone;
      c.augment = config.augment;
      c.clip = config.clip;
      break;
    case PretrainTarget::kJudge:
      c.augment = config.augment;
      c.judge = config.judge;
      break;
    case PretrainTarget::kClassHead:
    case PretrainTarget::kVoteHead:
      break;
  }
  return c;
}

}  // namespace

void check_settings_of_target(const PretrainConfig& config) {
  PretrainConfig given = config;  // fields_of() asks for one that could be written
  const auto unread_by = [&given](PretrainTarget target) {
    PretrainConfig read = read_by(target, given);
    return differences(fields_of(given), fields_of(read));
  };
  const std::vector<std::string> unread = unread_by(config.target);
  if (unread.empty()) return;
  std::vector<std::string> readers;
  for (const auto& [word, target] : option_words(PretrainTarget{})) {
    if (std::ranges::count(unread_by(target), unread.front()) == 0)
      readers.push_back("target=" + word);
  }
  throw UsageError(fmt::format(
      "[pretrain] '{}' is not read by target={}{}; {}", unread.front(), word_of(config.target),
      config.target == PretrainTarget::kFlow && !config.latents.empty() ? " with latents" : "",
      readers.empty() ? "leave it out"
                      : fmt::format("it belongs to {}", fmt::join(readers, ", "))));
}

void pretrain(PretrainConfig& config) {
  const auto emoji = [&](auto& train) { train(config, EmojiSource(config.data)); };
  switch (config.target) {
    case PretrainTarget::kClassHead:
      return pretrain_class_head(config);
    case PretrainTarget::kVoteHead:
      return pretrain_vote_head(config);
    case PretrainTarget::kFlow:
      if (!config.latents.empty()) return pretrain_flow(config, latent_data(config));
      return pretrain_flow(config, emoji_data(config, EmojiSource(config.data)));
    case PretrainTarget::kEmojiClip:
      return emoji(pretrain_clip);
    case PretrainTarget::kJudge:
      return emoji(pretrain_judge);
  }
}

}  // namespace vggflow
