#include "vggflow/page/run_settings.h"

#include <algorithm>
#include <exception>

#include "vggflow/core/config.h"
#include "vggflow/core/help.h"
#include "vggflow/train/next_commands.h"

namespace vggflow {

RunSettings read_run_settings(const std::filesystem::path& run, const std::string& text) {
  RunSettings read;
  if (text.empty()) return read;
  try {
    load_yaml_text(fields_of(read.config), text, (run / "config.yaml").string());
  } catch (const std::exception& e) {
    RunSettings none;
    none.problem = e.what();
    return none;
  }
  AlignConfig fresh;
  const Fields now = fields_of(read.config), before = fields_of(fresh);
  const auto keys = differences(now, before);
  for (size_t i = 0; i < now.size(); ++i) {
    if (std::find(keys.begin(), keys.end(), now[i].key) == keys.end()) continue;
    read.changed.push_back(
        {{"key", now[i].key}, {"value", typed_text(now[i])}, {"default", typed_text(before[i])}});
  }
  read.problem.clear();
  read.resume = resume_command(read.config, run);
  return read;
}

}  // namespace vggflow
