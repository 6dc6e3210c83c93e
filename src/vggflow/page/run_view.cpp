#include "vggflow/page/run_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <exception>
#include <span>
#include <system_error>
#include <utility>

#include "vggflow/core/json.h"
#include "vggflow/core/secret.h"
#include "vggflow/core/visible.h"
#include "vggflow/io/folder_lock.h"
#include "vggflow/io/grid_file.h"
#include "vggflow/report/page.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMostPoints = 2000, kMostLines = 400, kMostEvaluations = 5000;
constexpr uint64_t kMostLog = 64 << 10, kMostConfiguration = 256 << 10, kMostGrid = 64 << 20;

Json number_or_null(const Json& line, const std::string& path) {
  const double value = number(line, path);
  return std::isfinite(value) ? Json(value) : Json();
}

int64_t update_of(const Json& line) {
  const double update = number(line, "/update");
  return update >= 0 && update < 1e9 ? std::llround(update) : 0;
}

// The seconds of an update: its images over their rate.
double seconds_of(const Json& update, int64_t batch) {
  const double rate = number(update, "/images_per_second");
  return rate > 0 ? static_cast<double>(batch) / rate : 0;
}

// What a curve needs of an update.
Json point_of(const Json& line) {
  Json loss = Json::object();
  if (line.contains("loss") && line["loss"].is_object() && line["loss"].size() <= 16) {
    for (const auto& [name, value] : line["loss"].items())
      if (value.is_number()) loss[name] = value;
  }
  return {{"update", update_of(line)},
          {"n", 1},
          {"reward", number_or_null(line, "/reward/mean")},
          {"sd", number_or_null(line, "/reward/sd")},
          {"loss", loss}};
}

double updates_in(std::span<const Json> points) {
  double sum = 0;
  for (const Json& point : points) sum += point["n"].get<double>();
  return sum;
}

// The mean over updates of the value that each point has at `name`; null where one has none.
Json mean_of(std::span<const Json> points, const std::string& name, const char* part = nullptr) {
  double sum = 0;
  for (const Json& point : points) {
    const Json& values = part ? point[part] : point;
    const auto at = values.find(name);  // a name of the file's is no path
    if (at == values.end() || !at->is_number()) return {};
    sum += point["n"].get<double>() * at->get<double>();
  }
  return sum / updates_in(points);
}

// One point for several in a row, at the last one's update.
Json merged(std::span<const Json> points) {
  Json loss = Json::object();
  for (const auto& [name, value] : points.back()["loss"].items())
    loss[name] = mean_of(points, name, "loss");
  return {{"update", points.back()["update"]},
          {"n", std::llround(updates_in(points))},
          {"reward", mean_of(points, "reward")},
          {"sd", mean_of(points, "sd")},
          {"loss", loss}};
}

// The update of "eval_000050.png"; -1 of another name.
int64_t update_of_grid(const std::string& name) {
  int64_t update = -1;
  if (name.size() < 10 || !name.starts_with("eval_")) return -1;
  std::from_chars(name.data() + 5, name.data() + name.size(), update);
  return name == fmt::format("eval_{:06}.png", update) ? update : -1;
}

bool is_png(const std::string& bytes) { return bytes.starts_with("\x89PNG\r\n\x1a\n"); }

}  // namespace

RunView::RunView(fs::path run)
    : run_(std::move(run)),
      metrics_file_(run_ / "metrics.jsonl"),
      log_file_(run_ / "log.txt", kMostLog) {}

std::optional<Json> RunView::poll() {
  Json news = {{"updates", Json::array()},  {"evaluations", Json::array()},
               {"warnings", Json::array()}, {"lines", Json::array()},
               {"grids", Json::array()},    {"anew", false}};
  bool changed = read_configuration();
  news["anew"] = changed;
  for (const auto read : {&RunView::read_metrics, &RunView::read_log, &RunView::read_grids})
    changed = (this->*read)(news) || changed;
  const Json now = status();
  if (!changed && now == status_) return std::nullopt;
  status_ = now;
  news["status"] = now;
  return news["anew"].get<bool>() ? whole() : news;
}

Json RunView::whole() const {
  std::vector<Json> points = updates_;
  if (!pending_.empty()) points.push_back(merged(pending_));
  const AlignConfig& c = settings_.config;
  return {{"anew", true},
          {"path", run_.string()},
          {"settings", settings_.changed},
          {"problem", settings_.problem},
          {"resume", settings_.resume},
          {"method", c.method},
          {"reward", without_password(c.reward)},
          {"batch", c.batch},
          {"captions", captions_},
          {"columns", columns_},
          {"updates", points},
          {"evaluations", evaluations_},
          {"warnings", warnings_},
          {"lines", lines_},
          {"grids", grids_},
          {"status", status_}};
}

std::string RunView::grid(int64_t update) const {
  if (!grids_.contains(update)) return "";
  const std::string bytes =
      read_plain_file(run_ / "grids" / fmt::format("eval_{:06}.png", update), kMostGrid);
  return is_png(bytes) ? bytes : "";
}

// ---- reading

bool RunView::read_configuration() {
  const std::string text = read_plain_file(run_ / "config.yaml", kMostConfiguration);
  if (text == configuration_) return false;
  configuration_ = text;
  settings_ = read_run_settings(run_, text);
  return true;
}

bool RunView::read_metrics(Json& news) {
  bool changed = false;
  for (FileFollower::News read{.anew = false, .more = true, .lines = {}}; read.more;) {
    read = metrics_file_.read();
    if (read.anew) {
      updates_.clear(), pending_.clear(), evaluations_.clear(), warnings_.clear();
      stride_ = 1, done_ = 0;
      pace_.reset();
      last_update_ = nullptr;
      news["anew"] = true;
    }
    for (const std::string& line : read.lines) add(try_parse_json(line), news);
    changed = changed || read.anew || !read.lines.empty();
  }
  return changed;
}

void RunView::add(const Json& line, Json& news) {
  const std::string kind = text(line, "kind");
  const AlignConfig& c = settings_.config;
  if (!pace_) pace_.emplace(c.updates, c.eval_every);
  if (kind == "update") add_update(line, news);
  if (kind == "warning" && warnings_.size() < kMostEvaluations) {
    warnings_.push_back({{"update", update_of(line)}, {"text", text(line, "text")}});
    news["warnings"].push_back(warnings_.back());
  }
  if (kind != "eval" || !line.contains("metrics") || evaluations_.size() >= kMostEvaluations)
    return;
  const double seconds = number(line, "/seconds");
  if (seconds > 0) update_of(line) == 0 ? pace_->base(seconds) : pace_->evaluation(seconds);
  evaluations_.push_back(
      {{"update", update_of(line)}, {"prompts", prompt_words(line)}, {"metrics", line["metrics"]}});
  news["evaluations"].push_back(evaluations_.back());
}

void RunView::add_update(const Json& line, Json& news) {
  done_ = std::max(done_, update_of(line));
  last_update_ = line;
  if (const double seconds = seconds_of(line, settings_.config.batch); seconds > 0)
    pace_->update(seconds);
  pending_.push_back(point_of(line));
  if (pending_.size() < stride_) return;
  updates_.push_back(merged(pending_));
  pending_.clear();
  news["updates"].push_back(updates_.back());
  if (updates_.size() <= kMostPoints) return;
  thin_out();
  news["anew"] = true;
}

void RunView::thin_out() {
  std::vector<Json> fewer;
  for (size_t i = 0; i < updates_.size(); i += 2)
    fewer.push_back(
        merged(std::span(updates_).subspan(i, std::min<size_t>(2, updates_.size() - i))));
  updates_ = std::move(fewer);
  stride_ *= 2;
}

bool RunView::read_log(Json& news) {
  const FileFollower::News read = log_file_.read();
  if (read.anew) {
    lines_.clear();
    news["anew"] = true;
  }
  for (const std::string& line : read.lines) {
    lines_.push_back(visible(without_password(line)));
    news["lines"].push_back(lines_.back());
    if (lines_.size() > kMostLines) lines_.pop_front();
  }
  return read.anew || !read.lines.empty();
}

bool RunView::read_grids(Json& news) {
  std::error_code ignored;
  bool changed = false;
  for (const auto& entry : fs::directory_iterator(run_ / "grids", ignored)) {
    const int64_t update = update_of_grid(entry.path().filename().string());
    if (update < 0 || entry.symlink_status(ignored).type() != fs::file_type::regular ||
        grids_.size() >= kMostEvaluations || !grids_.insert(update).second)
      continue;
    changed = true;
    news["grids"].push_back(update);
    if (captions_.empty()) news["anew"] = read_labels(entry.path()) || news["anew"].get<bool>();
  }
  return changed;
}

// All grids of a run show the same prompts. A file that is no image shows nothing.
bool RunView::read_labels(const fs::path& file) {
  try {
    const auto labels = read_grid_labels(file);
    if (!labels) return false;
    captions_ = labels->captions;
    columns_ = labels->columns;
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

// ---- what it comes to

const char* RunView::state() const {
  if (is_held(run_)) return "running";
  if (fs::exists(run_ / "summary.json")) return "finished";
  return evaluations_.empty() && updates_.empty() ? "waiting" : "stopped";
}

// The best evaluation that nothing speaks against, as train/monitor.h chooses it.
Json RunView::best() const {
  std::set<int64_t> warned;
  for (const Json& warning : warnings_) warned.insert(warning["update"].get<int64_t>());
  const Json* best = nullptr;
  for (const Json& e : evaluations_) {
    const int64_t update = e["update"].get<int64_t>();
    const double reward = number(e, "/metrics/reward/mean");
    if (update == 0 || warned.contains(update) || !std::isfinite(reward)) continue;
    if (!best || reward > number(*best, "/metrics/reward/mean")) best = &e;
  }
  return best ? (*best)["update"] : Json();
}

Json RunView::status() const {
  const char* now = state();
  const auto left =
      pace_ && std::string(now) == "running" ? pace_->seconds_left(done_) : std::nullopt;
  return {{"state", now},
          {"update", done_},
          {"of", settings_.config.updates},
          {"left", left ? Json(*left) : Json()},
          {"seconds", seconds_of(last_update_, settings_.config.batch)},
          {"memory", number_or_null(last_update_, "/rss_gib")},
          {"device", number_or_null(last_update_, "/device_peak_gib")},
          {"best", best()}};
}

}  // namespace vggflow
