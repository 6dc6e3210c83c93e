#pragma once
// The buttons of a run's own page: they collect what is asked for until the run takes it up.

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "vggflow/io/jsonl.h"
#include "vggflow/page/web_server.h"
#include "vggflow/train/run_control.h"

namespace vggflow {

class RunButtons : public RunControl {
 public:
  /// `tell` gets what the page shows of the buttons whenever that changes.
  explicit RunButtons(std::function<void(const Json&)> tell);

  RunWishes take() override;
  void saved(int64_t update) override;
  void drawn(const SampleWish& wish, int64_t update, const Image& base,
             const Image& aligned) override;
  void failed(const SampleWish& wish, const std::string& why) override;

  /// "/stop", "/save", "/sample" with {"prompt": "...", "seed": 0}: status 202, or what is wrong.
  WebReply post(const WebRequest& request);
  /// "/sample?number=1&image=base|aligned": a PNG of the latest ones.
  WebReply image(const WebRequest& request) const;

 private:
  struct Sample {
    SampleWish wish;
    std::string state = "waiting";  ///< until the update is done; then "drawn" or "failed"
    std::string why = {};
    int64_t update = 0;
    std::string base = {}, aligned = {};  ///< PNG
  };
  WebReply wish_sample(const std::string& body);
  Sample* find(int64_t number);
  void tell() const;  ///< called with the mutex held

  std::function<void(const Json&)> tell_;
  mutable std::mutex mutex_;
  bool stop_ = false, stops_ = false, save_ = false;
  int64_t saved_ = -1, next_ = 1;
  std::deque<Sample> samples_;
};

}  // namespace vggflow
