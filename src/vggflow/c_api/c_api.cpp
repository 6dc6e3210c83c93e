#include "vggflow/c_api.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/c_api/align.h"
#include "vggflow/c_api/handles.h"
#include "vggflow/c_api/host.h"
#include "vggflow/c_api/images.h"
#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/core/version.h"
#include "vggflow/device/device.h"
#include "vggflow/eval/run.h"
#include "vggflow/families/open_model.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/rewards/reward.h"

namespace vggflow::c_api {
namespace {

// What a model or a reward is opened with, besides its own settings.
template <class Options>
struct Settings {
  Options own;
  DeviceOptions device;
  int64_t threads = 0;

  template <class V>
  void fields(V& v) {
    own.fields(v);
    device.fields(v);
    v("threads", threads, "CPU threads; 0 leaves them", range(0, 1024));
  }
};
using ModelSettings = Settings<GeneratorOptions>;
using ScorerSettings = Settings<RewardFiles>;

std::string text(const char* given, const char* what) {
  VGGFLOW_CHECK(given, "[c_api] expected {}, got NULL", what);
  return given;
}

std::vector<std::string> texts(const char* const* given, size_t count, const char* what) {
  VGGFLOW_CHECK(given || count == 0, "[c_api] expected {}, got NULL", what);
  std::vector<std::string> all;
  for (size_t i = 0; i < count; ++i) all.push_back(text(given[i], what));
  return all;
}

template <class Wanted>
Wanted read(const char* const* given, size_t count) {
  Wanted settings;
  for (const std::string& setting : texts(given, count, "settings"))
    apply_override(fields_of(settings), setting);
  set_threads(settings.threads);
  return settings;
}

// What `open` was told, with the device that its auto came to.
DeviceOptions settled(DeviceOptions options, at::Device device) {
  if (options.device == "auto") options.device = device.str();
  return options;
}

// Members are opened in their order, on the device.
class Model {
 public:
  explicit Model(const ModelSettings& s) : Model(s, DeviceScope(s.device)) {}
  void sample(const std::vector<std::string>& prompts, const int64_t* seeds,
              const vggflow_images& images) const;
  const DeviceOptions& device() const { return device_; }
  int64_t height() const { return shape_[1]; }
  int64_t width() const { return shape_[2]; }

 private:
  Model(const ModelSettings& s, const DeviceScope& scope)
      : device_(settled(s.device, scope.device())),
        aligned_(s.own.aligned()),
        generator_(s.own),
        shape_(generator_.model().state_shape()) {
    const int64_t upscale = read_model_shape(s.own.flow).upscale;
    shape_[1] *= upscale;
    shape_[2] *= upscale;
  }
  DeviceOptions device_;
  bool aligned_;
  Generator generator_;
  std::vector<int64_t> shape_;  // of an image
};

void Model::sample(const std::vector<std::string>& prompts, const int64_t* seeds,
                   const vggflow_images& images) const {
  const FlowModel& model = generator_.model();
  const auto count = std::ssize(prompts);
  const int64_t at_once = images_at_once(0, model.state_shape());
  model.prepare(prompts);
  for (int64_t first = 0; first < count; first += at_once) {
    const int64_t end = std::min(count, first + at_once);
    std::vector<at::Tensor> noise;
    for (int64_t i = first; i < end; ++i) {
      VGGFLOW_CHECK(seeds[i] >= 0, "[sample] expected seeds of at least 0, got {}", seeds[i]);
      noise.push_back(keyed_normal(static_cast<uint64_t>(seeds[i]), Purpose::kEvalNoise, 0, 0, 1,
                                   model.state_shape()));
    }
    const at::Tensor drawn = generator_.generate({prompts.begin() + first, prompts.begin() + end},
                                                 at::cat(noise), aligned_);
    write_images((drawn + 1) / 2, first, images);
  }
}

class Scorer {
 public:
  Scorer(const std::string& reward, const ScorerSettings& s)
      : Scorer(reward, s, DeviceScope(s.device)) {}
  at::Tensor score(const vggflow_images& images, const std::vector<std::string>& prompts) const {
    const at::NoGradGuard no_grad;
    return reward_->score(to_tensor(images).to(current_device()), prompts);
  }
  const DeviceOptions& device() const { return device_; }

 private:
  Scorer(const std::string& reward, const ScorerSettings& s, const DeviceScope& scope)
      : device_(settled(s.device, scope.device())),
        reward_(make_reward(reward, s.own.resources())) {}
  DeviceOptions device_;
  std::unique_ptr<Reward> reward_;
};

Handles<vggflow_model, Model>& models() {
  static Handles<vggflow_model, Model> all("model");
  return all;
}

Handles<vggflow_scorer, Scorer>& scorers() {
  static Handles<vggflow_scorer, Scorer> all("scorer");
  return all;
}

void check_size(const Model& model, const vggflow_images& images) {
  VGGFLOW_CHECK(images.height == model.height() && images.width == model.width(),
                "[sample] expected room for images of {} x {}, as the model draws them, got {} x "
                "{}",
                model.width(), model.height(), images.width, images.height);
}

int code_of(bool done) { return done ? VGGFLOW_DONE : VGGFLOW_FAILED; }

}  // namespace
}  // namespace vggflow::c_api

using namespace vggflow::c_api;

uint32_t vggflow_abi(void) { return VGGFLOW_C_ABI; }

const char* vggflow_version(void) {
  static const std::string text =
      fmt::format("{} (commit {})", vggflow::version(), vggflow::commit());
  return text.c_str();
}

const char* vggflow_last_error(void) { return last_error(); }

void vggflow_show_log(int shown) {
  served([&] { vggflow::keep_off_terminal(shown == 0); });
}

vggflow_model* vggflow_model_open(const char* const* settings, size_t count) {
  vggflow_model* handle = nullptr;
  served([&] {
    handle = models().add(std::make_unique<Model>(read<ModelSettings>(settings, count)));
  });
  return handle;
}

void vggflow_model_close(vggflow_model* model) {
  served([&] { models().close(model); });
}

int vggflow_model_image_size(vggflow_model* model, int64_t* height, int64_t* width) {
  return code_of(served([&] {
    VGGFLOW_CHECK(height && width, "[c_api] expected places for height and width, got NULL");
    *height = models().at(model).height();
    *width = models().at(model).width();
  }));
}

int vggflow_model_sample(vggflow_model* model, const char* const* prompts, const int64_t* seeds,
                         const vggflow_images* images) {
  return code_of(served([&] {
    const Model& opened = models().at(model);
    check_images(images);
    check_size(opened, *images);
    VGGFLOW_CHECK(seeds, "[c_api] expected seeds, got NULL");
    const vggflow::DeviceScope device(opened.device());
    opened.sample(texts(prompts, static_cast<size_t>(images->count), "prompts"), seeds, *images);
  }));
}

vggflow_scorer* vggflow_scorer_open(const char* reward, const char* const* settings, size_t count) {
  vggflow_scorer* handle = nullptr;
  served([&] {
    handle = scorers().add(std::make_unique<Scorer>(text(reward, "a reward's name"),
                                                    read<ScorerSettings>(settings, count)));
  });
  return handle;
}

void vggflow_scorer_close(vggflow_scorer* scorer) {
  served([&] { scorers().close(scorer); });
}

int vggflow_scorer_score(vggflow_scorer* scorer, const vggflow_images* images,
                         const char* const* prompts, double* scores) {
  return code_of(served([&] {
    const Scorer& opened = scorers().at(scorer);
    check_images(images);
    VGGFLOW_CHECK(scores, "[c_api] expected room for scores, got NULL");
    const vggflow::DeviceScope device(opened.device());
    const at::Tensor all =
        opened.score(*images, texts(prompts, static_cast<size_t>(images->count), "prompts"))
            .to(at::kCPU, at::kDouble)
            .contiguous();
    std::copy_n(all.const_data_ptr<double>(), all.numel(), scores);
  }));
}

void vggflow_take_interrupts(int taken) {
  served([&] { take_interrupts(taken != 0); });
}

int vggflow_align(const char* const* words, size_t count, vggflow_on_update on_update, void* user) {
  int end = VGGFLOW_FAILED;
  served([&] { end = vggflow::c_api::align(texts(words, count, "words"), on_update, user); });
  return end;
}
