#pragma once
// What `vggflow compare` runs: arms x settings x seeds, read from one YAML file. docs/compare.md
// and comparison_keys() describe it.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/core/field.h"

namespace vggflow {

/// One value of every key of the grid, with all overrides of the arm before it.
struct ArmSetting {
  std::string name;  ///< "lr=1e-4", or "default" where there is no grid
  std::vector<std::string> overrides;
};

/// One curve of the comparison.
struct ComparisonArm {
  std::string name;
  std::vector<ArmSetting> settings;  ///< at least one
};

/// What a run is worth; more is better.
enum class SelectBy {
  kReward,                  ///< the last evaluation's
  kHypervolume,             ///< of gain and diversity kept, over all evaluations
  kRewardAtDiversityFloor,  ///< the best of an evaluation that keeps so much
};
inline OptionWords<SelectBy> option_words(SelectBy) {
  return {{"reward", SelectBy::kReward},
          {"hypervolume", SelectBy::kHypervolume},
          {"reward_at_diversity_floor", SelectBy::kRewardAtDiversityFloor}};
}

/// How one of an arm's settings is chosen.
struct SelectOptions {
  SelectBy by = SelectBy::kReward;
  double floor = 0.8;  ///< of diversity kept, for reward_at_diversity_floor
  /// Points that the judge may have fallen at an evaluation that counts, for all but reward.
  std::optional<double> judge_fall;
  std::vector<int64_t> seeds;  ///< seeds of the tuning runs; empty: those of the comparison
};

/// Edges of the box that hypervolumes are clipped to; its other corner, the reference point, is (0,
/// 0).
struct HypervolumeBox {
  double gain_sd = 0;  ///< reward gain in sd of the base within a prompt; 0: the largest gain there
                       ///< is, rounded up to half a sd
  double diversity_kept = 1;
};

struct ComparisonConfig {
  std::filesystem::path out, base;
  std::vector<std::string>
      common;  ///< overrides of every run; those of the command line are in `last`
  std::vector<std::string> last;  ///< overrides after the arms'
  std::vector<int64_t> seeds{0};
  std::vector<ComparisonArm> arms;
  SelectOptions select;
  HypervolumeBox box;
  int64_t parallel = 1;
  std::string text;  ///< the file as read

  /// Whether some arm has a choice to make.
  bool tunes() const;
  const std::vector<int64_t>& tuning_seeds() const {
    return select.seeds.empty() ? seeds : select.seeds;
  }
};

/// One child process: `vggflow align` with these arguments.
struct PlannedRun {
  size_t arm = 0, setting = 0;
  int64_t seed = 0;
  std::string label;  ///< "refl lr=1e-4 seed 0"
  std::filesystem::path folder;
  std::vector<std::string> overrides;  ///< all but run= and seed=

  /// align --config BASE run=FOLDER seed=SEED OVERRIDES...
  std::vector<std::string> arguments(const std::filesystem::path& base) const;
};

/// Reads the file. `settings` are key=value: keys of the file itself (out, base, seeds, parallel,
/// select.by, ...) take the place of what it says, all others are settings of every run. Errors
/// name file, line and the nearest known key.
ComparisonConfig load_comparison(const std::filesystem::path& file,
                                 const std::vector<std::string>& settings = {});
/// The same from text; `origin` names it in errors.
ComparisonConfig parse_comparison(const std::string& text, const std::string& origin,
                                  const std::vector<std::string>& settings = {});

PlannedRun planned_run(const ComparisonConfig& config, size_t arm, size_t setting, int64_t seed);

/// The runs that a choice is made from: every setting of the arms with several, on the tuning
/// seeds.
std::vector<PlannedRun> tuning_runs(const ComparisonConfig& config);
/// The runs of the tables: `selected` settings (one an arm, none where no choice could be made) on
/// the comparison's seeds.
std::vector<PlannedRun> table_runs(const ComparisonConfig& config,
                                   const std::vector<std::optional<size_t>>& selected);

/// Every run whose result may be needed: the tuning runs, and those of the tables that are none of
/// them.
std::vector<PlannedRun> known_runs(const ComparisonConfig& config,
                                   const std::vector<std::optional<size_t>>& selected);

/// Alignments that an arm takes in all: every setting on the tuning seeds where it has several, and
/// one setting on the comparison's other seeds.
int64_t run_count(const ComparisonConfig& config, size_t arm);

/// The keys of the file and what they are, for `vggflow compare --help`.
std::vector<std::pair<std::string, std::string>> comparison_keys();

}  // namespace vggflow
