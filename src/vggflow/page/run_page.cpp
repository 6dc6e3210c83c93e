#include "vggflow/page/run_page.h"

namespace vggflow {

RunPage::RunPage(const std::filesystem::path& run, int64_t port)
    : page_({run}),
      buttons_([this](const Json& state) { page_.tell(state); }),
      server_(
          {.port = port, .token = true}, [this](const WebRequest& request) { return get(request); },
          [this](const WebRequest& request) { return buttons_.post(request); }) {}

WebReply RunPage::get(const WebRequest& request) {
  return request.path == "/sample" ? buttons_.image(request) : page_.get(request);
}

}  // namespace vggflow
