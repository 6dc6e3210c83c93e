#include "vggflow/experiments/comparison_config.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/foreign_file.h"
#include "vggflow/core/home.h"
#include "vggflow/core/nearest.h"
#include "vggflow/core/secret.h"
#include "vggflow/core/yaml.h"
#include "vggflow/io/files.h"

namespace vggflow {
namespace {

const std::vector<std::string> kKeys{"out",  "base",   "common", "seeds",   "arms",
                                     "grid", "select", "box",    "parallel"};
const std::vector<std::string> kSelectKeys{"by", "floor", "judge_fall", "seeds"};
const std::vector<std::string> kBoxKeys{"gain_sd", "diversity_kept"};
const std::vector<std::string> kArmKeys{"set", "grid"};
// Settings of a run that compare sets itself.
const std::vector<std::string> kOwned{"run", "seed", "resume", "threads", "base_cache"};

bool contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

using Grid = std::vector<std::pair<std::string, std::vector<std::string>>>;

class Parser {
 public:
  Parser(YAML::Node root, std::string origin)
      : root_(std::move(root)), origin_(std::move(origin)) {}

  void override_key(const std::string& key, const std::string& value,
                    const std::string& assignment);
  ComparisonConfig parse();

 private:
  std::string where(const YAML::Node& node) const {
    const auto found = overridden_.find(top_);
    return found != overridden_.end() ? "override " + found->second
                                      : fmt::format("{} line {}", origin_, node.Mark().line + 1);
  }
  // The value of a top-level key; errors about it name the override where there is one.
  YAML::Node enter(const std::string& key) {
    top_ = key;
    return root_[key];
  }
  void check_keys(const YAML::Node& map, const std::vector<std::string>& known,
                  const std::string& what) const;
  template <class T>
  T scalar(const YAML::Node& node, const char* type, const std::string& what) const;
  template <class T>
  std::vector<T> list(const YAML::Node& node, const char* type, const std::string& what) const;
  double number(const YAML::Node& node, const std::string& what, double low, double high) const;
  std::vector<int64_t> seeds(const YAML::Node& node, const std::string& what) const;
  std::vector<std::string> overrides(const YAML::Node& node, const std::string& what) const;
  Grid grid(const YAML::Node& node, const std::string& what) const;
  ComparisonArm arm(const YAML::Node& node, const Grid& common) const;
  std::vector<ComparisonArm> arms(const YAML::Node& node, const Grid& common) const;
  SelectBy select_by(const YAML::Node& node) const;

  YAML::Node root_;
  std::string origin_, top_;
  std::map<std::string, std::string> overridden_;
};

void check_owned(const std::string& key, const std::string& where) {
  VGGFLOW_CHECK(!contains(kOwned, key),
                "[compare] {}: '{}' is set by compare for each run (seeds: and parallel: decide "
                "seed and threads); take it out",
                where, key);
}

// The name of a folder: what a shell would need quotes for becomes '-'.
std::string folder_name(std::string name) {
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) &&
        std::string("._=,+-").find(c) == std::string::npos)
      c = '-';
  }
  return name.find_first_not_of('.') == std::string::npos ? "-" + name : name;
}

void Parser::override_key(const std::string& key, const std::string& value,
                          const std::string& assignment) {
  const size_t dot = key.find('.');
  const std::string top = key.substr(0, dot);
  const YAML::Node node =
      read_yaml(value, fmt::format("[compare] override {}: the value", assignment));
  overridden_[top] = assignment;
  if (dot == std::string::npos) {
    root_[top] = node;
  } else {
    root_[top][key.substr(dot + 1)] = node;
  }
}

void Parser::check_keys(const YAML::Node& map, const std::vector<std::string>& known,
                        const std::string& what) const {
  VGGFLOW_CHECK(map.IsMap(), "[compare] {}: expected {} as lines of 'key: value' with keys {}",
                where(map), what, fmt::join(known, ", "));
  for (const auto& entry : map) {
    const auto key = entry.first.as<std::string>();
    VGGFLOW_CHECK(contains(known, key), "[compare] {}: unknown key '{}' in {}; did you mean '{}'?",
                  where(entry.first), key, what, nearest(key, known, 1).front());
  }
}

template <class T>
T Parser::scalar(const YAML::Node& node, const char* type, const std::string& what) const {
  try {
    if (node && node.IsScalar()) return node.as<T>();
  } catch (const YAML::Exception&) {
  }
  fail("[compare] {}: expected {} for {}, got '{}'", where(node), type, what, YAML::Dump(node));
}

template <class T>
std::vector<T> Parser::list(const YAML::Node& node, const char* type,
                            const std::string& what) const {
  VGGFLOW_CHECK(node.IsSequence(), "[compare] {}: expected a list for {}, [a, b], got '{}'",
                where(node), what, YAML::Dump(node));
  std::vector<T> out;
  for (const auto& each : node) out.push_back(scalar<T>(each, type, what));
  return out;
}

double Parser::number(const YAML::Node& node, const std::string& what, double low,
                      double high) const {
  const auto value = scalar<double>(node, "a number", what);
  VGGFLOW_CHECK(value >= low && value <= high, "[compare] {}: expected {} from {} to {}, got {}",
                where(node), what, low, high, value);
  return value;
}

std::vector<int64_t> Parser::seeds(const YAML::Node& node, const std::string& what) const {
  const auto out = list<int64_t>(node, "whole numbers", what);
  VGGFLOW_CHECK(!out.empty(), "[compare] {}: expected at least one seed for {}", where(node), what);
  VGGFLOW_CHECK(std::set<int64_t>(out.begin(), out.end()).size() == out.size(),
                "[compare] {}: a seed is there twice in {}", where(node), what);
  return out;
}

std::vector<std::string> Parser::overrides(const YAML::Node& node, const std::string& what) const {
  const auto out = list<std::string>(node, "key=value", what);
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t equals = out[i].find('=');
    VGGFLOW_CHECK(equals != std::string::npos && equals > 0,
                  "[compare] {}: expected key=value in {}, got '{}'", where(node[i]), what, out[i]);
    check_owned(out[i].substr(0, equals), where(node[i]));
  }
  return out;
}

Grid Parser::grid(const YAML::Node& node, const std::string& what) const {
  VGGFLOW_CHECK(node.IsMap(), "[compare] {}: expected {} as {{setting: [values]}}", where(node),
                what);
  Grid out;
  for (const auto& entry : node) {
    const auto key = entry.first.as<std::string>();
    check_owned(key, where(entry.first));
    const auto values = list<std::string>(entry.second, "single values", what + "'s " + key);
    VGGFLOW_CHECK(!values.empty(), "[compare] {}: expected at least one value for {}'s {}",
                  where(entry.second), what, key);
    VGGFLOW_CHECK(std::set<std::string>(values.begin(), values.end()).size() == values.size(),
                  "[compare] {}: a value is there twice in {}'s {}", where(entry.second), what,
                  key);
    out.emplace_back(key, values);
  }
  return out;
}

// "lr" for policy_optimizer.lr; the whole key where two end alike.
std::string short_key(const Grid& grid, const std::string& key) {
  const auto last = [](const std::string& k) { return k.substr(k.rfind('.') + 1); };
  const auto alike = std::count_if(
      grid.begin(), grid.end(), [&](const auto& entry) { return last(entry.first) == last(key); });
  return alike > 1 ? key : last(key);
}

// Every combination of the grid's values, the first key changing slowest.
std::vector<ArmSetting> expand(const Grid& grid, const std::vector<std::string>& overrides) {
  std::vector<ArmSetting> all{{"", overrides}};
  for (const auto& [key, values] : grid) {
    std::vector<ArmSetting> longer;
    for (const ArmSetting& s : all) {
      for (const std::string& value : values) {
        ArmSetting next = s;
        next.name += fmt::format("{}{}={}", s.name.empty() ? "" : ", ", short_key(grid, key),
                                 without_password(value));
        next.overrides.push_back(key + "=" + value);
        longer.push_back(next);
      }
    }
    all = longer;
  }
  if (grid.empty()) all.front().name = "default";
  return all;
}

ComparisonArm Parser::arm(const YAML::Node& node, const Grid& common) const {
  VGGFLOW_CHECK(node.IsMap() && node.size() == 1,
                "[compare] {}: expected an arm as 'name: [key=value, ...]', got '{}'", where(node),
                YAML::Dump(node));
  const YAML::Node name = node.begin()->first, value = node.begin()->second;
  ComparisonArm out{name.as<std::string>(), {}};
  const std::string what = "arm '" + out.name + "'";
  if (!value.IsMap()) {
    out.settings = expand(common, overrides(value, what));
    return out;
  }
  check_keys(value, kArmKeys, what);
  out.settings = expand(value["grid"] ? grid(value["grid"], "the grid of " + what) : common,
                        value["set"] ? overrides(value["set"], what) : std::vector<std::string>{});
  return out;
}

std::vector<ComparisonArm> Parser::arms(const YAML::Node& node, const Grid& common) const {
  VGGFLOW_CHECK(node.IsSequence() && node.size() > 0,
                "[compare] {}: expected arms as a list, one '- name: [key=value, ...]' a line",
                where(node));
  std::vector<ComparisonArm> out;
  std::set<std::string> folders;
  for (const auto& each : node) {
    out.push_back(arm(each, common));
    VGGFLOW_CHECK(folders.insert(folder_name(out.back().name)).second,
                  "[compare] {}: two arms have the folder '{}'; rename '{}'", where(each),
                  folder_name(out.back().name), out.back().name);
    std::set<std::string> settings;
    for (const ArmSetting& s : out.back().settings) {
      VGGFLOW_CHECK(settings.insert(folder_name(s.name)).second,
                    "[compare] {}: two settings of arm '{}' have the folder '{}'", where(each),
                    out.back().name, folder_name(s.name));
    }
  }
  return out;
}

SelectBy Parser::select_by(const YAML::Node& node) const {
  const auto word = scalar<std::string>(node, "a word", "select.by");
  if (const auto by = option_of<SelectBy>(word)) return *by;
  std::vector<std::string> words;
  for (const auto& [known, by] : option_words(SelectBy{})) words.push_back(known);
  fail("[compare] {}: expected select.by to be one of {}, got '{}'; did you mean '{}'?",
       where(node), fmt::join(words, ", "), word, nearest(word, words, 1).front());
}

ComparisonConfig Parser::parse() {
  check_keys(root_, kKeys, "a comparison");
  for (const char* needed : {"out", "base", "arms"}) {
    VGGFLOW_CHECK(root_[needed],
                  "[compare] {}: the key '{}' is missing; vggflow compare --help shows all",
                  origin_, needed);
  }
  ComparisonConfig c;
  c.out = with_home(scalar<std::string>(enter("out"), "a folder", "out"));
  c.base = with_home(scalar<std::string>(enter("base"), "a file", "base"));
  if (const YAML::Node n = enter("common")) c.common = overrides(n, "common");
  if (const YAML::Node n = enter("seeds")) c.seeds = seeds(n, "seeds");
  if (const YAML::Node n = enter("parallel"))
    c.parallel = static_cast<int64_t>(number(n, "parallel", 1, 1024));
  Grid common;
  if (const YAML::Node n = enter("grid")) common = grid(n, "grid");
  c.arms = arms(enter("arms"), common);
  if (const YAML::Node n = enter("select")) {
    check_keys(n, kSelectKeys, "select");
    if (n["by"]) c.select.by = select_by(n["by"]);
    if (n["floor"]) c.select.floor = number(n["floor"], "select.floor", 0, 1);
    if (n["judge_fall"]) {
      c.select.judge_fall = number(n["judge_fall"], "select.judge_fall", 0, 100);
      VGGFLOW_CHECK(c.select.by != SelectBy::kReward,
                    "[compare] {}: select.judge_fall goes with select.by=hypervolume or "
                    "reward_at_diversity_floor; reward looks at the last evaluation alone",
                    where(n["judge_fall"]));
    }
    if (n["seeds"]) c.select.seeds = seeds(n["seeds"], "select.seeds");
  }
  if (const YAML::Node n = enter("box")) {
    check_keys(n, kBoxKeys, "box");
    if (n["gain_sd"]) c.box.gain_sd = number(n["gain_sd"], "box.gain_sd", 0, 1e6);
    if (n["diversity_kept"])
      c.box.diversity_kept = number(n["diversity_kept"], "box.diversity_kept", 1e-6, 1e6);
  }
  return c;
}

bool is_own_key(const std::string& key) {
  const std::string top = key.substr(0, key.find('.'));
  if (top == "select") return key == top || contains(kSelectKeys, key.substr(top.size() + 1));
  if (top == "box") return key == top || contains(kBoxKeys, key.substr(top.size() + 1));
  return contains(kKeys, key);
}

}  // namespace

bool ComparisonConfig::tunes() const {
  return std::any_of(arms.begin(), arms.end(),
                     [](const ComparisonArm& a) { return a.settings.size() > 1; });
}

ComparisonConfig parse_comparison(const std::string& text, const std::string& origin,
                                  const std::vector<std::string>& settings) {
  refuse_foreign(text, fmt::format("[compare] {}", origin));
  const YAML::Node root = read_yaml(text, fmt::format("[compare] {}", origin));
  VGGFLOW_CHECK(root.IsMap(),
                "[compare] {}: expected lines of 'key: value'; vggflow compare --help shows them",
                origin);
  Parser parser(root, origin);
  std::vector<std::string> last;
  for (const std::string& assignment : settings) {
    const size_t equals = assignment.find('=');
    VGGFLOW_CHECK(equals != std::string::npos && equals > 0,
                  "[compare] expected key=value, got '{}'", assignment);
    const std::string key = assignment.substr(0, equals);
    if (is_own_key(key)) {
      parser.override_key(key, assignment.substr(equals + 1), assignment);
    } else {
      check_owned(key, "override " + assignment);
      last.push_back(assignment);
    }
  }
  ComparisonConfig config = parser.parse();
  config.last = last;
  config.text = without_password(text);
  return config;
}

ComparisonConfig load_comparison(const std::filesystem::path& file,
                                 const std::vector<std::string>& settings) {
  return parse_comparison(read_text(file), file.string(), settings);
}

std::vector<std::string> PlannedRun::arguments(const std::filesystem::path& base) const {
  std::vector<std::string> out{"align", "--config", base.string(), "run=" + folder.string(),
                               fmt::format("seed={}", seed)};
  out.insert(out.end(), overrides.begin(), overrides.end());
  return out;
}

PlannedRun planned_run(const ComparisonConfig& config, size_t arm, size_t setting, int64_t seed) {
  const ComparisonArm& a = config.arms.at(arm);
  const ArmSetting& s = a.settings.at(setting);
  PlannedRun run{
      arm,
      setting,
      seed,
      fmt::format("{}{} seed {}", a.name, a.settings.size() > 1 ? " " + s.name : "", seed),
      config.out / "runs" / folder_name(a.name) / folder_name(s.name) / fmt::format("seed{}", seed),
      config.common};
  run.overrides.insert(run.overrides.end(), s.overrides.begin(), s.overrides.end());
  run.overrides.insert(run.overrides.end(), config.last.begin(), config.last.end());
  return run;
}

// Seeds change slowest, so that what is done after a while is a whole comparison of few seeds.
std::vector<PlannedRun> tuning_runs(const ComparisonConfig& config) {
  std::vector<PlannedRun> out;
  for (const int64_t seed : config.tuning_seeds()) {
    for (size_t arm = 0; arm < config.arms.size(); ++arm) {
      const size_t count = config.arms[arm].settings.size();
      for (size_t setting = 0; count > 1 && setting < count; ++setting)
        out.push_back(planned_run(config, arm, setting, seed));
    }
  }
  return out;
}

std::vector<PlannedRun> table_runs(const ComparisonConfig& config,
                                   const std::vector<std::optional<size_t>>& selected) {
  std::vector<PlannedRun> out;
  for (const int64_t seed : config.seeds) {
    for (size_t arm = 0; arm < config.arms.size(); ++arm) {
      if (selected.at(arm)) out.push_back(planned_run(config, arm, *selected[arm], seed));
    }
  }
  return out;
}

std::vector<PlannedRun> known_runs(const ComparisonConfig& config,
                                   const std::vector<std::optional<size_t>>& selected) {
  std::vector<PlannedRun> all = tuning_runs(config);
  std::set<std::filesystem::path> seen;
  for (const PlannedRun& run : all) seen.insert(run.folder);
  for (const PlannedRun& run : table_runs(config, selected)) {
    if (seen.insert(run.folder).second) all.push_back(run);
  }
  return all;
}

int64_t run_count(const ComparisonConfig& config, size_t arm) {
  const std::vector<std::optional<size_t>> first(config.arms.size(), 0);
  const std::vector<PlannedRun> all = known_runs(config, first);
  return std::count_if(all.begin(), all.end(),
                       [&](const PlannedRun& run) { return run.arm == arm; });
}

std::vector<std::pair<std::string, std::string>> comparison_keys() {
  return {
      {"out: FOLDER", "of the comparison: runs/, report.html, results.csv, results.md, log.txt"},
      {"base: FILE", "settings that every run starts from, such as configs/nano.yaml"},
      {"common: [updates=30, ...]", "settings of every run, after base"},
      {"seeds: [0, 1, 2]", "seeds of the tables"},
      {"arms:", "a list, one curve each; an arm's settings come after common"},
      {"- NAME: [method=refl, ...]", "an arm with its settings"},
      {"- NAME: {set: [...], grid: {...}}",
       "the same with a grid of its own in place of the common one"},
      {"grid: {KEY: [1e-4, 1e-3]}", "every arm takes every combination of these values"},
      {"select:", "which setting of an arm's grid the tables show"},
      {"select.by: reward",
       "reward (of the last evaluation), hypervolume or reward_at_diversity_floor; mean over "
       "seeds"},
      {"select.floor: 0.8",
       "the largest reward among evaluations that keep this share of the base's diversity"},
      {"select.judge_fall: 5",
       "with these two, evaluations where the judge fell by more points than this do not count; "
       "unless given, all do"},
      {"select.seeds: [0]",
       "tune on these seeds; `seeds` are then run for the selected setting alone"},
      {"box: {gain_sd: 3, diversity_kept: 1}",
       "hypervolumes are clipped to it; without gain_sd: the largest gain, rounded up to half a "
       "sd"},
      {"parallel: 1", "processes at once; each gets its share of the processor's threads"}};
}

}  // namespace vggflow
