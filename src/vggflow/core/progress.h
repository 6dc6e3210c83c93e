#pragma once
// How far a long job is.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace vggflow {

/// What a bar shows. Pieces that do not fit the columns are left out.
struct ProgressView {
  std::string title;
  int64_t done = 0, total = 0;
  double per_second = 0;               ///< 0: not known yet
  std::optional<double> seconds_left;  ///< none: not known yet
  double memory_gib = 0;               ///< 0: not shown
  std::string note;

  /// "align 12/60 [####......] ETA 2 min 31 s | 3.2 s each | reward 0.312 | 1.2 GiB", of at most
  /// `columns` columns.
  std::string bar(size_t columns) const;
  /// The same without a bar, for files and pipes.
  std::string line() const;
};

/// On a terminal a bar, redrawn in place and cut to the terminal's width. Elsewhere plain lines,
/// and those only after half a minute in which nothing else was said. A Progress within the life of
/// another, such as an evaluation's within a run's, takes its place until it ends.
class Progress {
 public:
  static constexpr double kQuietSeconds = 30;

  Progress(std::string title, int64_t total, int64_t done = 0,
           double quiet_seconds = kQuietSeconds);
  ~Progress();
  /// `seconds_left`: where the caller knows better than the rate so far tells.
  void advance(int64_t done, const std::string& note = "",
               std::optional<double> seconds_left = std::nullopt);
  /// `count` more are done.
  void add(int64_t count) { advance(view_.done + count); }
  /// What is under way, for jobs of several parts.
  void rename(std::string title) { view_.title = std::move(title); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

 private:
  void show();

  ProgressView view_;
  int64_t start_;
  double quiet_seconds_;
  std::chrono::steady_clock::time_point begin_, drawn_;
};

}  // namespace vggflow
