#pragma once
// Completion of commands, flags, keys and the words of choices, for three shells
// (`vggflow docs completion=bash`).

#include <string>
#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/core/reference.h"

namespace vggflow {

enum class Shell { kNone, kBash, kZsh, kFish };
inline OptionWords<Shell> option_words(Shell) {
  return {
      {"none", Shell::kNone}, {"bash", Shell::kBash}, {"zsh", Shell::kZsh}, {"fish", Shell::kFish}};
}

/// The shell's script.
std::string completion(Shell shell, const std::vector<CommandPage>& pages);

}  // namespace vggflow
