#include "vggflow/rewards/plugin_reward.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>
#include <limits>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/reward_plugin.h"
#include "vggflow/rewards/expression.h"
#include "vggflow/rewards/plugin_file.h"
#include "vggflow/rewards/plugin_guard.h"

namespace vggflow {

/// The functions of a loaded library. It stays loaded: threads that it started may still run its
/// code.
struct PluginLibrary {
  decltype(&vggflow_reward_abi) abi;
  decltype(&vggflow_reward_create) create;
  decltype(&vggflow_reward_destroy) destroy;
  decltype(&vggflow_reward_flags) flags;
  decltype(&vggflow_reward_score) score;
  decltype(&vggflow_reward_gradient) gradient;  ///< may be null
  decltype(&vggflow_reward_describe) describe;  ///< may be null
};

namespace {

// What a plug-in writes its message into; memory that nobody may touch begins behind it.
class ErrorText {
 public:
  static constexpr size_t kSize = 1024;
  ErrorText() { std::memset(data(), 0, kSize); }
  char* data() const { return reinterpret_cast<char*>(guarded_.data()); }
  std::string text() const {
    data()[kSize - 1] = '\0';
    return data()[0] == '\0' ? "no message" : data();
  }

 private:
  GuardedFloats guarded_{kSize / sizeof(float)};
};

template <class F>
void find(void* handle, const char* name, F& function) {
  function = reinterpret_cast<F>(::dlsym(handle, name));
}

void* open(const std::string& path) {
  VGGFLOW_CHECK(std::filesystem::is_regular_file(path),
                "[plugin] expected a shared library at {}, found none. A further reward is added "
                "with ' + ', spaces "
                "around it; a path that holds these is written in round brackets",
                path);
  check_plugin_file(path);  // before dlopen, which runs constructors
  void* handle = call_plugin(path, "its loading", [&] {
    return ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  });
  VGGFLOW_CHECK(handle != nullptr, "[plugin] cannot load the shared library {}: {}", path,
                ::dlerror());
  return handle;
}

std::unique_ptr<PluginLibrary> load(const std::string& path) {
  void* handle = open(path);
  auto library = std::make_unique<PluginLibrary>();
  find(handle, "vggflow_reward_abi", library->abi);
  check_plugin_abi(path, call_plugin(path, "vggflow_reward_abi", [&] { return library->abi(); }));
  find(handle, "vggflow_reward_create", library->create);
  find(handle, "vggflow_reward_destroy", library->destroy);
  find(handle, "vggflow_reward_flags", library->flags);
  find(handle, "vggflow_reward_score", library->score);
  find(handle, "vggflow_reward_gradient", library->gradient);
  find(handle, "vggflow_reward_describe", library->describe);
  return library;
}

// The first entry (row) of x (n, ...) that holds a number that is not finite, or -1.
int64_t first_not_finite(const Tensor& x) {
  const Tensor bad = at::isfinite(x).flatten(1).all(1).logical_not();
  return bad.any().item<bool>() ? bad.to(at::kByte).argmax().item<int64_t>() : -1;
}

Tensor copy_of(const GuardedFloats& numbers, at::IntArrayRef shape) {
  return at::from_blob(numbers.data(), shape, at::kFloat).clone();
}

// r and grad r of a plug-in as a function of the images; both may be differentiated again.
struct PluginCall : torch::autograd::Function<PluginCall> {
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const Tensor& images, const PluginReward* reward,
                                                const std::vector<std::string>& prompts) {
    const RewardGradient r = reward->evaluate(images, prompts, /*with_gradient=*/true);
    context->save_for_backward({images, r.gradient});
    context->saved_data["reward"] = reinterpret_cast<int64_t>(reward);
    context->saved_data["prompts"] = prompts;
    context->set_materialize_grads(false);  // what nobody asks for costs no difference
    return {r.score, r.gradient};
  }

  // (ds, dg) -> ds grad r + H dg.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& cotangents) {
    const auto saved = context->get_saved_variables();
    const auto* reward =
        reinterpret_cast<const PluginReward*>(context->saved_data["reward"].toInt());
    const auto prompts = context->saved_data["prompts"].to<std::vector<std::string>>();
    const Tensor &images = saved[0], &ds = cotangents[0], &dg = cotangents[1];
    Tensor out = at::zeros_like(images);
    // The saved gradient is this node's own second output: where a graph is made of this, it leads
    // back here, with a dg.
    if (ds.defined()) out = out + ds.view({-1, 1, 1, 1}) * saved[1];
    if (dg.defined()) out = out + reward->hessian_product(images, dg, prompts);
    return {out, Tensor(), Tensor()};
  }
};

}  // namespace

PluginReward::PluginReward(const std::string& address) {
  const Address a = split_options(address, '?');
  VGGFLOW_CHECK(!a.base.empty(), "[plugin] expected plugin:/path/library.so, got plugin:{}",
                address);
  path_ = std::filesystem::absolute(a.base).string();
  library_ = load(path_);
  std::vector<vggflow_reward_option> options;
  for (const auto& [key, value] : a.options) options.push_back({key.c_str(), value.c_str()});
  ErrorText error;
  object_ = call_plugin(path_, "vggflow_reward_create", [&] {
    return library_->create(options.data(), options.size(), error.data(), ErrorText::kSize);
  });
  VGGFLOW_CHECK(object_ != nullptr, "[plugin] {} makes no reward: {}", path_, error.text());
  try {
    flags_ = call_plugin(path_, "vggflow_reward_flags", [&] { return library_->flags(object_); });
    VGGFLOW_CHECK(
        (flags_ & ~uint32_t{VGGFLOW_REWARD_DIFFERENTIABLE | VGGFLOW_REWARD_THREAD_SAFE}) == 0,
        "[plugin] {} has flags {:#x}, of which this "
        "version knows only differentiable (1) and thread-safe (2)",
        path_, flags_);
    VGGFLOW_CHECK(!differentiable() || library_->gradient != nullptr,
                  "[plugin] {} has no function vggflow_reward_gradient, but says that it is "
                  "differentiable",
                  path_);
  } catch (const Error&) {
    destroy();  // no destructor runs for a half-made object
    throw;
  }
}

PluginReward::~PluginReward() { destroy(); }

void PluginReward::destroy() {
  try {
    call_plugin(path_, "vggflow_reward_destroy", [&] { library_->destroy(object_); });
  } catch (const Error& e) {
    log_info("warning: {}", e.what());
  }
}

bool PluginReward::differentiable() const { return (flags_ & VGGFLOW_REWARD_DIFFERENTIABLE) != 0; }

std::string PluginReward::describe() const {
  const auto lock = exclusive();
  const char* text = !library_->describe ? nullptr
                                         : call_plugin(path_, "vggflow_reward_describe",
                                                       [&] { return library_->describe(object_); });
  return fmt::format("plug-in {}: {}", path_, text ? text : "says nothing of its preprocessing");
}

std::unique_lock<std::mutex> PluginReward::exclusive() const {
  return (flags_ & VGGFLOW_REWARD_THREAD_SAFE) != 0 ? std::unique_lock<std::mutex>()
                                                    : std::unique_lock(mutex_);
}

// One call of the library. `images` is contiguous, fp32, finite and not empty. Outputs start as
// NaN, so that what is left out is found.
RewardGradient PluginReward::call(const Tensor& images, const std::vector<std::string>& prompts,
                                  bool with_gradient) const {
  const char* doing = with_gradient ? "the gradient" : "the score";
  const GuardedFloats scores(images.size(0)), gradient(with_gradient ? images.numel() : 0);
  std::vector<const char*> texts;
  for (const std::string& prompt : prompts) texts.push_back(prompt.c_str());
  const vggflow_reward_batch batch{images.size(0), images.size(2), images.size(3),
                                   images.const_data_ptr<float>(), texts.data()};
  ErrorText error;
  const auto lock = exclusive();
  const int failed = call_plugin(path_, doing, [&] {
    return with_gradient
               ? library_->gradient(object_, &batch, scores.data(), gradient.data(), error.data(),
                                    ErrorText::kSize)
               : library_->score(object_, &batch, scores.data(), error.data(), ErrorText::kSize);
  });
  VGGFLOW_CHECK(scores.untouched_around() && gradient.untouched_around(),
                "[plugin] {} wrote outside of the numbers that it was given in {} of {} images "
                "{}x{}; this is a fault of the plug-in",
                path_, doing, batch.count, batch.width, batch.height);
  VGGFLOW_CHECK(failed == 0, "[plugin] {} failed in {} of {} images {}x{}: {}", path_, doing,
                batch.count, batch.width, batch.height, error.text());
  const RewardGradient out{copy_of(scores, {images.size(0)}),
                           with_gradient ? copy_of(gradient, images.sizes()) : Tensor()};
  for (const auto& [name, x] :
       {std::pair{"score", out.score.unsqueeze(1)}, {"gradient", out.gradient}}) {
    if (!x.defined()) continue;
    const int64_t bad = first_not_finite(x);
    VGGFLOW_CHECK(bad < 0,
                  "[plugin] {} gave a {} that is not finite (or was not written) for image {} of "
                  "{}, prompt '{}'",
                  path_, name, bad + 1, batch.count, prompts[static_cast<size_t>(bad)]);
  }
  return out;
}

RewardGradient PluginReward::evaluate(const Tensor& images, const std::vector<std::string>& prompts,
                                      bool with_gradient) const {
  VGGFLOW_CHECK(images.dim() == 4 && images.size(1) == 3,
                "[plugin] expected images (B, 3, H, W), got {}", shape_string(images));
  VGGFLOW_CHECK(images.size(0) == static_cast<int64_t>(prompts.size()),
                "[plugin] expected one prompt per image, got {} for {}", prompts.size(),
                images.size(0));
  const at::NoGradGuard no_grad;
  const Tensor shown = images.detach().to(at::kCPU, at::kFloat).contiguous();
  const Tensor finite = at::isfinite(shown).flatten(1).all(1);
  const Tensor rows = finite.nonzero().squeeze(1);
  const bool all = rows.numel() == shown.size(0);
  RewardGradient out{at::full({shown.size(0)}, std::numeric_limits<float>::quiet_NaN(), at::kFloat),
                     {}};
  if (with_gradient) out.gradient = at::full_like(shown, std::numeric_limits<float>::quiet_NaN());
  if (rows.numel() > 0) {
    std::vector<std::string> texts;
    for (int64_t i = 0; i < rows.numel(); ++i)
      texts.push_back(prompts[static_cast<size_t>(rows[i].item<int64_t>())]);
    const RewardGradient r = call(all ? shown : shown.index_select(0, rows), texts, with_gradient);
    out.score.index_copy_(0, rows, r.score);
    if (with_gradient) out.gradient.index_copy_(0, rows, r.gradient);
  }
  return {out.score.to(images.options()),
          with_gradient ? out.gradient.to(images.options()) : Tensor()};
}

Tensor PluginReward::hessian_product(const Tensor& images, const Tensor& c,
                                     const std::vector<std::string>& prompts) const {
  const at::NoGradGuard no_grad;
  const Tensor size = c.detach().flatten(1).square().mean(1).sqrt().view({-1, 1, 1, 1});  // s
  const Tensor step = at::where(size > 0, kHessianStep * c / size, at::zeros_like(c));
  const Tensor later = evaluate(images + step, prompts, true).gradient,
               earlier = evaluate(images - step, prompts, true).gradient;
  return (later - earlier) * (size / (2 * kHessianStep));
}

Tensor PluginReward::score(const Tensor& images, const std::vector<std::string>& prompts) const {
  if (!images.requires_grad() || !at::GradMode::is_enabled())
    return evaluate(images, prompts, /*with_gradient=*/false).score;
  require_differentiable(*this, path_);
  return PluginCall::apply(images, this, prompts)[0];
}

Dual PluginReward::score(const Dual& images, const std::vector<std::string>& prompts) const {
  require_differentiable(*this, path_);
  const auto r = PluginCall::apply(images.value, this, prompts);
  return {r[0], ops::sum(r[1] * images.tangent, {1, 2, 3}, /*keepdim=*/false)};
}

}  // namespace vggflow
