#pragma once
// The live page of one run or several over one another: its files, and server-sent events that
// follow the runs' folders.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "vggflow/page/run_view.h"
#include "vggflow/page/web_server.h"

namespace vggflow {

class LivePage {
 public:
  /// Follows the folders from now on, on a thread of its own, and changes nothing in them.
  explicit LivePage(const std::vector<std::filesystem::path>& runs);
  ~LivePage();
  LivePage(const LivePage&) = delete;
  LivePage& operator=(const LivePage&) = delete;

  /// "/" (the page), "/page.css", "/page.js", "/page.svg"; "/events" (all there is, then what is new);
  /// "/runs.json" (all there is); "/grid?run=0&update=50" (a PNG).
  WebReply get(const WebRequest& request);
  /// What the page shows of its buttons, which it has from then on (run_buttons.h).
  void tell(const Json& buttons);

 private:
  void follow();
  void publish(std::string event);
  std::string everything() const;
  WebReply events();
  std::string next_events(uint64_t& place);
  WebReply grid(const WebRequest& request) const;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<RunView> runs_;
  std::deque<std::string> events_;  ///< the latest ones
  uint64_t published_ = 0;          ///< how many there were in all
  size_t bytes_ = 0;                ///< of events_
  std::string buttons_;             ///< the latest event of them; empty: there are none
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace vggflow
