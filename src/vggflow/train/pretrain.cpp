#include "vggflow/train/pretrain.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "vggflow/core/config.h"
#include "vggflow/core/log.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/ops/random_tensor.h"

namespace vggflow {
namespace {

// t = logistic(m + s z), one z a sample.
Tensor logit_normal_times(const PretrainConfig& c, int64_t update) {
  const Tensor z = keyed_normal(static_cast<uint64_t>(c.fit.seed), Purpose::kTime, static_cast<uint64_t>(update), 0, c.fit.batch, {});
  return at::sigmoid(z * c.time_sd + c.time_mean);
}

// |u(x_t, t) - (x0 - x1)|^2 with x_t = t x1 + (1 - t) x0: u = -v predicts noise minus data, as SD3 does.
Tensor flow_matching_loss(const NanoModel& model, const Batch& batch, const Tensor& noise, const Tensor& t) {
  const Tensor s = expand_time(t, noise);
  const Tensor x = s * batch.images + (1 - s) * noise;
  const Tensor u = model.transformer.forward(x, (1 - t) * 1000, model.text.forward(batch.ids));
  return at::mse_loss(u, noise - batch.images);
}

// The 64 display prompts from fixed noise, as a grid.
void write_preview(const NanoModel& model, const std::filesystem::path& file, double guidance) {
  const auto& prompts = display_prompts();
  const auto n = static_cast<int64_t>(prompts.size());
  const int64_t side = model.options.network.sample_size;
  const GuidedVelocity velocity(model.transformer, model.encode(prompts), model.unconditional(n), guidance);
  const Tensor x0 = keyed_normal(0, Purpose::kEvalNoise, 0, 0, n, {model.options.network.channels, side, side});
  const Tensor x1 = sample([&](const Tensor& x, const Tensor& t) { return velocity(x, t); }, x0, time_grid({}));
  write_png(file, image_grid((x1 + 1) / 2, 8, 2));
}

}  // namespace

at::ScalarType parse_precision(const std::string& precision) {
  return precision == "bf16" ? at::kBFloat16 : precision == "fp32" ? at::kFloat : fast_dtype();
}

void pretrain_flow(PretrainConfig& config) {
  const std::filesystem::path run = config.run;
  const EmojiSet set = load_emoji(config.data);
  const EmojiSampler sampler(set);
  NanoModel model(config.model, build_vocabulary(set));
  model.init(static_cast<uint64_t>(config.fit.seed));
  model.transformer.compute = parse_precision(config.precision);
  log_info("{} emoji in {} subgroups, {} undrawn; vocabulary of {} words", set.items.size(), set.subgroups.size(), set.undrawn,
           model.vocabulary.size());
  log_info("{}", model.transformer.description());
  make_writable_folder(run / "grids");

  const auto seed = static_cast<uint64_t>(config.fit.seed);
  const auto loss = [&](int64_t update) {
    const auto u = static_cast<uint64_t>(update);
    const Batch batch = make_batch(set, sampler, model.vocabulary, config.captions, seed, u, 0, config.fit.batch);
    const Tensor noise = keyed_normal(seed, Purpose::kNoise, u, 0, config.fit.batch, batch.images.sizes().slice(1));
    return flow_matching_loss(model, batch, noise, logit_normal_times(config, update));
  };
  const auto preview = [&](int64_t update) {
    write_preview(model, run / "grids" / fmt::format("preview_{:06}.png", update), config.preview_guidance);
  };
  const auto curve = fit({model, loss, preview}, config.fit, run, config.resume);
  if (curve.empty()) return;
  nlohmann::json points = nlohmann::json::array();
  for (const LossPoint& p : curve) points.push_back({p.update, p.loss});
  make_writable_folder(run / "model");
  model.save(run / "model", {{"vggflow.target", "flow"}, {"vggflow.updates", fmt::to_string(config.fit.updates)},
                             {"vggflow.seed", fmt::to_string(config.fit.seed)}});
  write_text(run / "model" / "loss.json", points.dump());
  log_info("wrote the model to {}", (run / "model").string());
}

}  // namespace vggflow
