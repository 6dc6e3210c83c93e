// The help of the program, and the one place that catches, prints and exits.
#include <fmt/format.h>
#include <malloc.h>
#include <torch/version.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/core/descriptors.h"
#include "vggflow/core/error.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/core/nearest.h"
#include "vggflow/core/secret.h"
#include "vggflow/core/usage_error.h"
#include "vggflow/core/version.h"
#include "vggflow/core/visible.h"
#include "vggflow/device/error_text.h"
#include "vggflow/device/warnings.h"

namespace vggflow::cli {
namespace {

std::string program_help() {
  HelpRows rows;
  for (const Command& c : commands()) rows.emplace_back(c.name, c.summary);
  const size_t width = terminal_width();
  return wrapped("vggflow aligns flow-matching image models with differentiable rewards.", width) +
         "\nUsage: vggflow COMMAND [WHAT ...] [--config FILE] [key=value ...]\n\nCommands:\n" +
         help_rows(rows, width) + "\n" +
         help_rows({{"COMMAND --help", "its common settings; --help-all: every one"},
                    {"--version", "release, commit, LibTorch, instruction sets"}},
                   width);
}

std::string version_text() {
  return fmt::format("vggflow {} (commit {})\nLibTorch {}\ninstruction sets of this machine: {}\n",
                     version(), commit(), TORCH_VERSION, environment()["instruction sets"]);
}

[[noreturn]] void refuse(const std::string& word) {
  std::vector<std::string> names{"--help", "--version"};
  for (const Command& c : commands()) names.emplace_back(c.name);
  throw UsageError(fmt::format("unknown command '{}'; {} vggflow --help lists them", word,
                               did_you_mean(nearest(word, names, 1))));
}

int print(std::FILE* stream, const std::string& text, ExitCode code) {
  std::fputs(text.c_str(), stream);
  return code;
}

int run(const std::vector<std::string>& words) {
  if (words.empty()) return print(stderr, program_help(), kUsage);
  const std::string& name = words.front();
  if (name == "--version") return print(stdout, version_text(), kDone);
  if (name == "--help" || name == "-h" || name == "--help-all")
    return print(stdout, program_help(), kDone);
  for (const Command& c : commands()) {
    if (name == c.name) return c.run({name, c.summary, {words.begin() + 1, words.end()}});
  }
  refuse(name);
}

int say(const std::exception& e, ExitCode code) {
  return print(
      stderr, "vggflow: " + bounded_message(visible(without_password(error_text(e)))) + "\n", code);
}

// Tensors come and go every step: keep their pages instead of returning them to the system each
// time. Those of 32 MiB and more, a large decoder's, are mapped on their own: in the heap they
// leave holes of gigabytes, and the work on them is long against new pages.
void keep_pages() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 2000 << 20);
  mallopt(M_TOP_PAD, 64 << 20);
}

}  // namespace
}  // namespace vggflow::cli

int main(int argc, char** argv) {
  using namespace vggflow;
  open_standard_descriptors();
  cli::keep_pages();
  refuse_changed_numbers();
  try {
    return cli::run({argv + std::min(argc, 1), argv + argc});
  } catch (const Interrupted&) {
    return cli::kInterrupted;
  } catch (const UsageError& e) {
    return cli::say(e, cli::kUsage);
  } catch (const std::exception& e) {
    return cli::say(e, cli::kFailed);
  }
}
