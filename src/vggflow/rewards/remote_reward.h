#pragma once
// A judge behind HTTP: http://host:port/path#batch=16&timeout=60&retries=4&backoff=0.5 (or https).
// What follows the '#' is ours and is not sent. Each request is a POST of
//
//   {"images": ["<base64 of an 8-bit RGB PNG>", ...], "prompts": ["...", ...]}      and is answered
//   by      {"scores": [0.7, null, ...]}
//
// with one number an image, or null where the judge has none: that is NaN here, and never 0. Other
// answers are errors. There is no gradient.

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "vggflow/io/http.h"
#include "vggflow/rewards/reward.h"

namespace vggflow {

struct RemoteOptions {
  int64_t batch = 16;
  RetryOptions retry;

  template <class V>
  void fields(V& v) {
    v("batch", batch, "images per request", range(1, 4096));
    retry.fields(v);
  }
};

class RemoteReward : public Reward {
 public:
  explicit RemoteReward(const std::string& address);
  Tensor score(const Tensor& images, const std::vector<std::string>& prompts) const override;
  Dual score(const Dual& images, const std::vector<std::string>& prompts) const override;
  bool differentiable() const override { return false; }
  std::string describe() const override;
  int64_t unscored() const override { return unscored_; }

 private:
  std::vector<double> ask(const std::vector<Tensor>& images,
                          const std::vector<std::string>& prompts) const;

  std::string url_;
  RemoteOptions options_;
  mutable std::mutex mutex_;  ///< of the connection
  mutable HttpClient client_;
  mutable std::atomic<int64_t> unscored_ = 0;
};

}  // namespace vggflow
