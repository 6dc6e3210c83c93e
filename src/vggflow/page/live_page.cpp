#include "vggflow/page/live_page.h"

#include <charconv>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <utility>

#include "vggflow/core/json.h"
#include "vggflow/page/page_files.h"

namespace vggflow {
namespace {

constexpr auto kLook = std::chrono::milliseconds(300), kWait = std::chrono::milliseconds(250);
constexpr auto kSilence = std::chrono::seconds(15);
constexpr size_t kMostEvents = 1000, kMostBytes = 8 << 20;

// As a server-sent event: JSON has no line end outside of its strings, and there as \n.
std::string event_of(size_t run, Json data) {
  data["run"] = run;
  return "data: " + json_text(data) + "\n\n";
}

std::optional<int64_t> number_in(const WebRequest& request, const char* name) {
  const std::string word = request.word(name);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return value;
}

WebReply not_found() { return {.status = 404, .body = "there is no such page"}; }

}  // namespace

LivePage::LivePage(const std::vector<std::filesystem::path>& runs)
    : runs_(runs.begin(), runs.end()) {
  for (RunView& run : runs_) run.poll();
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are the program's
  thread_ = std::thread([this] { follow(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

LivePage::~LivePage() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void LivePage::follow() {
  for (std::unique_lock lock(mutex_); !ending_;) {
    for (size_t i = 0; i < runs_.size(); ++i) {
      if (auto news = runs_[i].poll()) publish(event_of(i, std::move(*news)));
    }
    changed_.notify_all();
    changed_.wait_for(lock, kLook, [&] { return ending_; });
  }
}

void LivePage::tell(const Json& buttons) {
  const std::lock_guard lock(mutex_);
  buttons_ = "data: " + json_text(Json{{"buttons", buttons}}) + "\n\n";
  publish(buttons_);
  changed_.notify_all();
}

void LivePage::publish(std::string event) {
  events_.push_back(std::move(event));
  ++published_;
  bytes_ += events_.back().size();
  for (; events_.size() > kMostEvents || (bytes_ > kMostBytes && events_.size() > 1);) {
    bytes_ -= events_.front().size();
    events_.pop_front();
  }
}

WebReply LivePage::get(const WebRequest& request) {
  if (request.path == "/")
    return {.type = "text/html; charset=utf-8", .body = std::string(page_html())};
  if (request.path == "/page.css")
    return {.type = "text/css; charset=utf-8", .body = std::string(page_css())};
  if (request.path == "/page.js")
    return {.type = "text/javascript; charset=utf-8", .body = std::string(page_js())};
  if (request.path == "/page.svg")
    return {.type = "image/svg+xml", .body = std::string(page_svg())};
  if (request.path == "/events") return events();
  if (request.path == "/grid") return grid(request);
  if (request.path != "/runs.json") return not_found();
  const std::lock_guard lock(mutex_);
  Json all = Json::array();
  for (const RunView& run : runs_) all.push_back(run.whole());
  return {.type = "application/json", .body = json_text(all)};
}

WebReply LivePage::grid(const WebRequest& request) const {
  const auto run = number_in(request, "run"), update = number_in(request, "update");
  const std::lock_guard lock(mutex_);
  if (!run || !update || *run < 0 || *run >= std::ssize(runs_)) return not_found();
  std::string png = runs_[static_cast<size_t>(*run)].grid(*update);
  if (png.empty()) return not_found();
  return {.type = "image/png", .body = std::move(png)};
}

std::string LivePage::everything() const {
  std::string all = "retry: 2000\n\ndata: " + json_text(Json{{"runs", runs_.size()}}) + "\n\n";
  for (size_t i = 0; i < runs_.size(); ++i) all += event_of(i, runs_[i].whole());
  return all + buttons_;
}

WebReply LivePage::events() {
  struct Reader {
    bool began = false;
    uint64_t place = 0;
    std::chrono::steady_clock::time_point last = std::chrono::steady_clock::now();
  };
  const auto reader = std::make_shared<Reader>();
  return {.type = "text/event-stream", .stream = [this, reader](bool&) {
            std::unique_lock lock(mutex_);
            std::string text;
            if (!reader->began) {
              reader->began = true;
              reader->place = published_;
              text = everything();
            } else {
              changed_.wait_for(lock, kWait, [&] { return ending_ || published_ > reader->place; });
              text = next_events(reader->place);
            }
            const auto now = std::chrono::steady_clock::now();
            if (text.empty() && now - reader->last > kSilence) text = ":\n\n";
            if (!text.empty()) reader->last = now;
            return text;
          }};
}

// Those after the first `place`; everything anew for a reader that is too late for some of them.
std::string LivePage::next_events(uint64_t& place) {
  const uint64_t first = published_ - events_.size();
  std::string text;
  if (place < first) {
    text = everything();
  } else {
    for (uint64_t i = place; i < published_; ++i) text += events_[i - first];
  }
  place = published_;
  return text;
}

}  // namespace vggflow
