#pragma once
// What the live page shows of one run, read from its folder (docs/architecture.md) and nothing
// else: of a run that trains, that ended, or that was killed and goes on.

#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "vggflow/io/jsonl.h"
#include "vggflow/page/file_follower.h"
#include "vggflow/page/run_settings.h"
#include "vggflow/train/pace.h"

namespace vggflow {

class RunView {
 public:
  explicit RunView(std::filesystem::path run);

  /// Reads what is new. None: nothing is. Else what a page that has all before adds to it, or, with
  /// "anew": true, everything, because what was before no longer holds.
  std::optional<Json> poll();
  /// All there is, with "anew": true.
  Json whole() const;
  /// The PNG of the grid after `update` updates; empty where there is none.
  std::string grid(int64_t update) const;
  const std::filesystem::path& folder() const { return run_; }

 private:
  bool read_configuration();
  bool read_metrics(Json& news);
  bool read_log(Json& news);
  bool read_grids(Json& news);
  bool read_labels(const std::filesystem::path& file);
  void add(const Json& line, Json& news);
  void add_update(const Json& line, Json& news);
  void thin_out();
  const char* state() const;
  Json best() const;
  Json status() const;

  std::filesystem::path run_;
  FileFollower metrics_file_, log_file_;
  std::string configuration_;
  RunSettings settings_;

  std::vector<Json> updates_, pending_;  ///< each of updates_ stands for stride_ updates
  size_t stride_ = 1;
  std::vector<Json> evaluations_, warnings_;
  std::deque<std::string> lines_;
  std::set<int64_t> grids_;
  Json captions_ = Json::array();
  int64_t columns_ = 0, done_ = 0;
  std::optional<Pace> pace_;
  Json last_update_;
  Json status_;
};

}  // namespace vggflow
