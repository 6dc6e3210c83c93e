#include "vggflow/page/run_buttons.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vggflow/core/json.h"

namespace vggflow {
namespace {

constexpr size_t kMostSamples = 12, kMostWaiting = 4, kLongestPrompt = 1000;
constexpr int64_t kMostSeed = 1'000'000'000;

WebReply accepted() { return {.status = 202, .body = "asked for"}; }

std::string png_of(const Image& image) {
  const std::vector<uint8_t> bytes = encode_png(image);
  return {bytes.begin(), bytes.end()};
}

bool is_plain_text(const std::string& text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; });
}

}  // namespace

RunButtons::RunButtons(std::function<void(const Json&)> tell) : tell_(std::move(tell)) {
  this->tell();
}

RunWishes RunButtons::take() {
  const std::lock_guard lock(mutex_);
  RunWishes wishes{.stop = std::exchange(stop_, false), .save = save_, .samples = {}};
  for (const Sample& sample : samples_) {
    if (sample.state == "waiting") wishes.samples.push_back(sample.wish);
  }
  return wishes;
}

void RunButtons::saved(int64_t update) {
  const std::lock_guard lock(mutex_);
  save_ = false;
  saved_ = update;
  tell();
}

void RunButtons::drawn(const SampleWish& wish, int64_t update, const Image& base,
                       const Image& aligned) {
  const std::string before = png_of(base), after = png_of(aligned);
  const std::lock_guard lock(mutex_);
  Sample* sample = find(wish.number);
  if (!sample) return;
  sample->state = "drawn";
  sample->update = update;
  sample->base = before;
  sample->aligned = after;
  tell();
}

void RunButtons::failed(const SampleWish& wish, const std::string& why) {
  const std::lock_guard lock(mutex_);
  Sample* sample = find(wish.number);
  if (!sample) return;
  sample->state = "failed";
  sample->why = why;
  tell();
}

WebReply RunButtons::post(const WebRequest& request) {
  if (request.path == "/sample") return wish_sample(request.body);
  const std::lock_guard lock(mutex_);
  if (request.path == "/stop") {
    stop_ = stops_ = true;
  } else if (request.path == "/save") {
    save_ = true;
  } else {
    return {.status = 404, .body = "there is no such command"};
  }
  tell();
  return accepted();
}

WebReply RunButtons::wish_sample(const std::string& body) {
  const Json asked = try_parse_json(body);
  const auto no = [](const std::string& why) { return WebReply{.status = 400, .body = why}; };
  if (!asked.is_object() || !asked.contains("prompt") || !asked["prompt"].is_string())
    return no("expected {\"prompt\": \"...\", \"seed\": 0}");
  const auto prompt = asked["prompt"].get<std::string>();
  if (prompt.size() > kLongestPrompt || !is_plain_text(prompt))
    return no(fmt::format("expected a prompt of at most {} plain characters", kLongestPrompt));
  const Json seed = asked.value("seed", Json(0U));
  if (!seed.is_number_unsigned() || seed.get<uint64_t>() > kMostSeed)
    return no(fmt::format("expected a whole seed of 0 to {}", kMostSeed));
  const std::lock_guard lock(mutex_);
  const auto waiting = std::count_if(samples_.begin(), samples_.end(),
                                     [](const Sample& s) { return s.state == "waiting"; });
  if (static_cast<size_t>(waiting) >= kMostWaiting)
    return {.status = 429, .body = "four prompts wait already: they are drawn after this update"};
  samples_.push_back({.wish = {next_++, prompt, seed.get<int64_t>()}});
  if (samples_.size() > kMostSamples) samples_.pop_front();
  tell();
  return accepted();
}

WebReply RunButtons::image(const WebRequest& request) const {
  const std::lock_guard lock(mutex_);
  for (const Sample& sample : samples_) {
    if (fmt::to_string(sample.wish.number) != request.word("number") || sample.state != "drawn")
      continue;
    if (request.word("image") == "base") return {.type = "image/png", .body = sample.base};
    if (request.word("image") == "aligned") return {.type = "image/png", .body = sample.aligned};
  }
  return {.status = 404, .body = "there is no such image"};
}

RunButtons::Sample* RunButtons::find(int64_t number) {
  for (Sample& sample : samples_) {
    if (sample.wish.number == number) return &sample;
  }
  return nullptr;
}

void RunButtons::tell() const {
  Json samples = Json::array();
  for (const Sample& s : samples_)
    samples.push_back({{"number", s.wish.number},
                       {"prompt", s.wish.prompt},
                       {"seed", s.wish.seed},
                       {"state", s.state},
                       {"why", s.why},
                       {"update", s.update}});
  tell_({{"stops", stops_}, {"saves", save_}, {"saved", saved_}, {"samples", samples}});
}

}  // namespace vggflow
