#include "vggflow/device/warnings.h"

#include <c10/util/Exception.h>

#include <string>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

class Handler : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override {
    const std::string& text = warning.msg();
    VGGFLOW_CHECK(
        text.find("failed, switching to") == std::string::npos,
        "[device] LibTorch could not go on with the numbers that it began with ({}). Most "
        "often memory is short: lower batch or micro_batch, or set checkpointing=true; "
        "what was saved before is whole, go on with resume=true",
        text.substr(0, text.find('\n')));
    c10::WarningHandler::process(warning);
  }
};

}  // namespace

void refuse_changed_numbers() {
  static Handler handler;
  c10::WarningUtils::set_warning_handler(&handler);
}

}  // namespace vggflow
