#pragma once
// The folder of a run while a process works in it: nobody else does, a start that comes to nothing
// leaves it as it was, and a run goes on only with settings that it may go on with.

#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "vggflow/core/config.h"
#include "vggflow/io/files.h"
#include "vggflow/io/folder_lock.h"

namespace vggflow {

/// What of a resumed run's settings is not as it was.
struct ChangedSettings {
  std::vector<std::string> rounding;  ///< keys that change numbers by rounding alone
  bool evaluations = false;           ///< how evaluations are made
};

class RunFolder {
 public:
  /// Makes the folder and holds its lock, which dies with the process; clears what dead ones left
  /// half written. Throws where another process holds it.
  explicit RunFolder(std::filesystem::path run);
  /// A run without a result takes what it made away again.
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  /// Refuses a folder that holds the results of a run; clears what a start that came to nothing
  /// left.
  void begin() const;
  /// Throws where there is no run to go on with, or where it was started with settings that would
  /// change its numbers, naming them. `settle(config, before)` is called before they are compared:
  /// for settings that a run's start fixes.
  template <class Config>
  ChangedSettings go_on(
      Config& config,
      const std::function<void(std::type_identity_t<Config>&, std::type_identity_t<Config>&)>&
          settle = {}) const {
    check_there();
    Config before;
    load_yaml(fields_of(before), configuration());
    if (settle) settle(config, before);
    return sort_changes(differences(fields_of(config), fields_of(before)));
  }
  /// Saves the effective settings.
  template <class Config>
  void save(Config& config) const {
    write_text(configuration(), to_yaml(fields_of(config)));
  }

 private:
  std::filesystem::path configuration() const { return run_ / "config.yaml"; }
  void check_there() const;
  ChangedSettings sort_changes(const std::vector<std::string>& keys) const;

  std::filesystem::path run_;
  std::set<std::string> before_;  ///< names that the folder held
  std::filesystem::path made_;    ///< the uppermost folder that was not there before, if any
  FolderLock lock_;
};

/// Whether a run folder holds anything that took work: an update, a checkpoint, a model, a summary.
bool holds_results(const std::filesystem::path& run);

}  // namespace vggflow
