#include "vggflow/train/run_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

// What runs write into their folder.
constexpr const char* kOurs[] = {"config.yaml", "log.txt",     "metrics.jsonl", "grids",
                                 "tensorboard", "checkpoints", "previews",      FolderLock::kName};

// Without a slash at its end, so that parent_path() is the folder around it.
fs::path whole_path(const fs::path& folder) {
  VGGFLOW_CHECK(!folder.empty(), "[run] expected run=FOLDER, got nothing");
  const fs::path whole = fs::absolute(folder).lexically_normal();
  return whole.has_filename() ? whole : whole.parent_path();
}

fs::path uppermost_missing(const fs::path& folder) {
  fs::path missing;
  for (fs::path p = whole_path(folder); !fs::exists(p); p = p.parent_path()) missing = p;
  return missing;
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    names.insert(entry.path().filename().string());
  return names;
}

fs::path make(const fs::path& folder) {
  const fs::path missing = uppermost_missing(folder);
  make_writable_folder(folder);
  return missing;
}

// What a resume may change: nothing of the training, or its numbers by rounding alone.
bool is_evaluation(const std::string& key) {
  return key.starts_with("eval.") || key == "eval_steps";
}
bool is_free(const std::string& key) {
  static const std::set<std::string> keys{"resume",
                                          "rounding",
                                          "run",
                                          "updates",
                                          "checkpoint_every",
                                          "page",
                                          "dist.timeout",
                                          "dist.backend",
                                          "memory_limit",
                                          "offload",
                                          "weights",
                                          "base_cache",
                                          "eval_every",
                                          "grid_images",
                                          "fit.log_every",
                                          "fit.preview_every",
                                          "fit.checkpoint_every"};
  return keys.contains(key) || is_evaluation(key);
}
bool is_rounding(const std::string& key) {
  static const std::set<std::string> keys{"threads",       "micro_batch", "checkpointing", "device",
                                          "deterministic", "tf32",        "kernels"};
  return keys.contains(key);
}

bool has_update(const fs::path& metrics) {
  std::ifstream in(metrics);
  for (std::string line; std::getline(in, line);) {
    if (line.find("\"kind\":\"update\"") != std::string::npos) return true;
  }
  return false;
}

}  // namespace

bool holds_results(const fs::path& run) {
  for (const char* name : {"summary.json", "lora.safetensors", "model"}) {
    if (fs::exists(run / name)) return true;
  }
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", ignored)) {
    if (is_complete(entry.path())) return true;
  }
  return has_update(run / "metrics.jsonl");
}

RunFolder::RunFolder(fs::path run)
    : run_(std::move(run)), before_(names_in(run_)), made_(make(run_)), lock_(run_) {
  for (const char* folder : {"", "checkpoints", "grids", "previews"})
    remove_temporaries(run_ / folder);
}

RunFolder::~RunFolder() {
  std::error_code ignored;
  if (holds_results(run_)) return;
  for (const char* name : kOurs) {
    if (!before_.contains(name)) fs::remove_all(run_ / name, ignored);
  }
  for (const std::string& name : names_in(run_)) {
    if (name.starts_with("log.rank") && !before_.contains(name)) fs::remove(run_ / name, ignored);
  }
  if (made_.empty()) return;
  // Folders that somebody else has put something into stay.
  for (fs::path p = whole_path(run_);; p = p.parent_path()) {
    if (!fs::remove(p, ignored) || p == made_) return;
  }
}

void RunFolder::begin() const {
  if (!fs::exists(configuration())) return;
  VGGFLOW_CHECK(!holds_results(run_),
                "[run] {} already holds a run. Choose another folder with run=..., or go on with "
                "resume=true",
                run_.string());
  std::error_code ignored;
  for (const char* name : kOurs) {
    if (std::string(name) != FolderLock::kName) fs::remove_all(run_ / name, ignored);
  }
}

void RunFolder::check_there() const {
  VGGFLOW_CHECK(fs::exists(configuration()),
                "[resume] {} holds no run to go on with: expected its config.yaml there. Pass "
                "run=FOLDER of the run, or leave resume out to start a new one",
                run_.string());
}

ChangedSettings RunFolder::sort_changes(const std::vector<std::string>& keys) const {
  ChangedSettings changed;
  std::vector<std::string> refused;
  for (const std::string& key : keys) {
    changed.evaluations = changed.evaluations || is_evaluation(key);
    if (is_rounding(key)) changed.rounding.push_back(key);
    if (!is_rounding(key) && !is_free(key)) refused.push_back(key);
  }
  VGGFLOW_CHECK(refused.empty(),
                "[resume] {} was started with other settings: {} differ. Start a new run, or leave "
                "them as they were",
                run_.string(), fmt::join(refused, ", "));
  return changed;
}

}  // namespace vggflow
