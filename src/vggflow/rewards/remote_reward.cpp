#include "vggflow/rewards/remote_reward.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "vggflow/core/config.h"
#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/core/log.h"
#include "vggflow/core/secret.h"
#include "vggflow/io/image.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/rewards/expression.h"

namespace vggflow {
namespace {

constexpr double kNoScore = std::numeric_limits<double>::quiet_NaN();

std::string request_of(const std::vector<Tensor>& images, const std::vector<std::string>& prompts) {
  Json request{{"images", Json::array()}, {"prompts", prompts}};
  for (const Tensor& image : images)
    request["images"].push_back(base64(encode_png(to_image(image))));
  return json_text(request);
}

double score_of(const Json& entry, const std::string& url, size_t index) {
  if (entry.is_null()) return kNoScore;
  VGGFLOW_CHECK(entry.is_number() && std::isfinite(entry.get<double>()),
                "[remote] expected a finite number or null as score {} of {}, got {}", index + 1,
                url, entry.dump());
  return entry.get<double>();
}

std::vector<double> scores_of(const std::string& body, size_t count, const std::string& url) {
  const Json reply = try_parse_json(body);
  const bool has = reply.is_object() && reply.contains("scores") && reply["scores"].is_array();
  VGGFLOW_CHECK(has, "[remote] expected a JSON object with a list 'scores' from {}, got {}", url,
                body.substr(0, 200));
  const Json& list = reply["scores"];
  VGGFLOW_CHECK(list.size() == count, "[remote] expected {} scores from {}, one per image, got {}",
                count, url, list.size());
  std::vector<double> scores;
  for (const Json& entry : list) scores.push_back(score_of(entry, url, scores.size()));
  return scores;
}

}  // namespace

RemoteReward::RemoteReward(const std::string& address) {
  const Address a = split_options(address, '#');
  url_ = keep_password(a.base);
  for (const auto& [key, value] : a.options) apply_override(fields_of(options_), key + "=" + value);
}

std::string RemoteReward::describe() const {
  return fmt::format(
      "judge at {}: 8-bit RGB PNG at the images' own size, {} a request, {} s a try, {} retries",
      url_, options_.batch, options_.retry.timeout, options_.retry.retries);
}

std::vector<double> RemoteReward::ask(const std::vector<Tensor>& images,
                                      const std::vector<std::string>& prompts) const {
  const std::string request = request_of(images, prompts);
  const std::lock_guard lock(mutex_);
  return scores_of(post_json(client_, url_, request, options_.retry), images.size(), url_);
}

// Images that are not finite are not sent: they have no score.
Tensor RemoteReward::score(const Tensor& images, const std::vector<std::string>& prompts) const {
  VGGFLOW_CHECK(images.dim() == 4 && images.size(1) == 3,
                "[remote] expected images (B, 3, H, W), got {}", shape_string(images));
  VGGFLOW_CHECK(images.size(0) == static_cast<int64_t>(prompts.size()),
                "[remote] expected one prompt per image, got {} for {}", prompts.size(),
                images.size(0));
  if (images.requires_grad() && at::GradMode::is_enabled()) require_differentiable(*this, url_);
  std::vector<double> scores(prompts.size(), kNoScore);
  std::vector<size_t> sent;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (at::isfinite(images[static_cast<int64_t>(i)]).all().item<bool>()) sent.push_back(i);
  }
  for (size_t start = 0; start < sent.size(); start += static_cast<size_t>(options_.batch)) {
    const size_t end = std::min(sent.size(), start + static_cast<size_t>(options_.batch));
    std::vector<Tensor> part;
    std::vector<std::string> texts;
    for (size_t k = start; k < end; ++k) {
      part.push_back(images[static_cast<int64_t>(sent[k])]);
      texts.push_back(prompts[sent[k]]);
    }
    const std::vector<double> given = ask(part, texts);
    for (size_t k = start; k < end; ++k) scores[sent[k]] = given[k - start];
  }
  const auto missing =
      std::count_if(scores.begin(), scores.end(), [](double s) { return std::isnan(s); });
  unscored_ += missing;
  if (missing > 0)
    log_info("[remote] no score for {} of {} images from {}: they count as missing, not as 0",
             missing, scores.size(), url_);
  return at::tensor(scores, at::kDouble).to(images.options());
}

Dual RemoteReward::score(const Dual&, const std::vector<std::string>&) const {
  fail_without_gradient(url_);
}

}  // namespace vggflow
