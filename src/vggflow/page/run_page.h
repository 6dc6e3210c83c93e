#pragma once
// The page that a run serves of itself, with buttons.

#include <cstdint>
#include <filesystem>
#include <string>

#include "vggflow/page/live_page.h"
#include "vggflow/page/run_buttons.h"
#include "vggflow/page/web_server.h"

namespace vggflow {

class RunPage {
 public:
  /// Serves at 127.0.0.1 until its end; a token in the address stands for the right to the buttons.
  RunPage(const std::filesystem::path& run, int64_t port);
  std::string url() const { return server_.url(); }
  RunControl* control() { return &buttons_; }

 private:
  WebReply get(const WebRequest& request);

  LivePage page_;
  RunButtons buttons_;
  WebServer server_;
};

}  // namespace vggflow
