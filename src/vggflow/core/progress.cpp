#include "vggflow/core/progress.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "vggflow/core/duration.h"
#include "vggflow/core/log.h"
#include "vggflow/core/status_line.h"
#include "vggflow/core/visible.h"

namespace vggflow {
namespace {

constexpr size_t kLongestBar = 24, kShortestBar = 8;
constexpr double kRedrawSeconds = 0.1;

std::string head_of(const ProgressView& v) {
  return fmt::format("{} {}/{}", v.title, v.done, v.total);
}

// The most telling first: those that have no room are left out.
std::vector<std::string> pieces_of(const ProgressView& v) {
  std::vector<std::string> pieces{v.seconds_left ? "ETA " + duration_text(*v.seconds_left)
                                                 : std::string("ETA ?")};
  if (v.per_second > 0) pieces.push_back(rate_text(v.per_second));
  if (!v.note.empty()) pieces.push_back(v.note);
  if (v.memory_gib > 0) pieces.push_back(fmt::format("{:.1f} GiB", v.memory_gib));
  return pieces;
}

}  // namespace

std::string ProgressView::line() const {
  return fmt::format("{} | {}", head_of(*this), fmt::join(pieces_of(*this), " | "));
}

std::string ProgressView::bar(size_t columns) const {
  const std::string head = head_of(*this);
  constexpr size_t kFrame = 4;  // " [" and "] "
  std::string tail;
  for (const std::string& piece : pieces_of(*this)) {
    const std::string longer = tail.empty() ? piece : fmt::format("{} | {}", tail, piece);
    if (head.size() + kFrame + kShortestBar + longer.size() <= columns) tail = longer;
  }
  const size_t used = head.size() + kFrame + tail.size();
  if (used + kShortestBar > columns) return head.substr(0, columns);
  const size_t length = std::min(kLongestBar, columns - used);
  const double share = static_cast<double>(done) / static_cast<double>(std::max<int64_t>(1, total));
  const auto full = static_cast<size_t>(static_cast<double>(length) * std::clamp(share, 0.0, 1.0));
  return fmt::format("{} [{}{}] {}", head, std::string(full, '#'), std::string(length - full, '.'),
                     tail);
}

Progress::Progress(const std::string& title, int64_t total, int64_t done, double quiet_seconds)
    : start_(done), quiet_seconds_(quiet_seconds), begin_(std::chrono::steady_clock::now()) {
  view_.title = visible(title);
  view_.total = total;
  view_.done = done;
  if (can_redraw()) show();
}

Progress::~Progress() { clear_status(); }

void Progress::rename(const std::string& title) { view_.title = visible(title); }

void Progress::advance(int64_t done, const std::string& note, std::optional<double> seconds_left) {
  const auto now = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  view_.done = done;
  view_.note = visible(note);
  view_.per_second = static_cast<double>(done - start_) / std::max(seconds, 1e-9);
  view_.seconds_left = seconds_left;
  if (!seconds_left && done > start_)
    view_.seconds_left = static_cast<double>(view_.total - done) / view_.per_second;
  const bool draws =
      can_redraw() &&
      (done >= view_.total || std::chrono::duration<double>(now - drawn_).count() > kRedrawSeconds);
  const bool tells = !can_redraw() && done < view_.total && seconds_since_line() >= quiet_seconds_;
  if (!draws && !tells) return;
  view_.memory_gib = memory_now_gib();
  if (draws)
    show();
  else
    log_line(view_.line());
}

void Progress::show() {
  drawn_ = std::chrono::steady_clock::now();
  show_status(view_.bar(status_columns() - 1));  // a full line would break
}

}  // namespace vggflow
