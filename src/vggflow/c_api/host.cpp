#include "vggflow/c_api/host.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/DefaultDtype.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>

#include <exception>
#include <mutex>
#include <string>

#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/core/secret.h"
#include "vggflow/core/visible.h"
#include "vggflow/device/error_text.h"
#include "vggflow/device/warnings.h"

namespace vggflow::c_api {
namespace {

thread_local std::string error;

class OwnTorchSettings {
 public:
  OwnTorchSettings() {
    c10::set_default_dtype(caffe2::TypeMeta::Make<float>());
    refuse_changed_numbers();
  }
  ~OwnTorchSettings() { c10::set_default_dtype(before_); }
  OwnTorchSettings(const OwnTorchSettings&) = delete;
  OwnTorchSettings& operator=(const OwnTorchSettings&) = delete;

 private:
  const caffe2::TypeMeta before_ = c10::get_default_dtype();
  const c10::WarningUtils::WarningHandlerGuard warnings_{c10::WarningUtils::get_warning_handler()};
  const c10::InferenceMode no_inference_{false};
  const at::AutoGradMode gradients_{true};
  const c10::impl::ExcludeDispatchKeyGuard no_autocast_{c10::autocast_dispatch_keyset};
};

}  // namespace

bool served(const std::function<void()>& work) {
  static std::recursive_mutex turn;
  static std::once_flag quiet;
  const std::lock_guard lock(turn);
  std::call_once(quiet, [] { keep_off_terminal(); });
  try {
    const OwnTorchSettings settings;
    work();
    return true;
  } catch (const std::exception& e) {
    error = bounded_message(visible(without_password(error_text(e))));
  } catch (...) {
    error = "[c_api] something was thrown that is no exception of C++'s";
  }
  return false;
}

const char* last_error() { return error.c_str(); }

}  // namespace vggflow::c_api
