#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "vggflow/cli/command.h"
#include "vggflow/cli/commands.h"
#include "vggflow/core/completion.h"
#include "vggflow/core/reference.h"
#include "vggflow/core/result.h"
#include "vggflow/core/usage_error.h"
#include "vggflow/core/version.h"
#include "vggflow/io/files.h"

namespace vggflow::cli {
namespace {

struct DocsConfig {
  std::string out = "docs/reference";
  Shell completion = Shell::kNone;
  bool man = false;

  template <class V>
  void fields(V& v) {
    v("out", out, "folder of the reference pages");
    v("completion", completion, "print this shell's completion instead");
    v("man", man, "print the man page instead");
  }
};

Syntax syntax() {
  return {.flags = {{"--out", "out"}, {"--completion", "completion"}, {"--man", "man"}},
          .notes =
              "`source <(vggflow docs --completion bash)` completes in this shell; an "
              "installation by CMake puts all of them where shells look."};
}

// Each command tells what it takes, and does nothing.
std::vector<CommandPage> all_pages() {
  std::vector<CommandPage> pages;
  for (const Command& command : commands()) {
    Call call{command.name, command.summary, {}};
    call.describe = [&](const Syntax& syntax, const Fields& fields) {
      pages.push_back(command_page(call, syntax, fields));
    };
    command.run(call);
  }
  return pages;
}

void write_pages(const std::filesystem::path& out, const std::vector<CommandPage>& pages) {
  make_writable_folder(out);
  write_text(out / "index.md", reference_index(pages));
  for (const CommandPage& page : pages) write_text(out / (page.name + ".md"), reference_page(page));
  print_result(out.string() + ": " + std::to_string(pages.size()) + " commands");
}

}  // namespace

int docs(const Call& call) {
  DocsConfig config;
  if (!read_settings(call, syntax(), config)) return kDone;
  if (config.man && config.completion != Shell::kNone)
    throw UsageError("[docs] expected one of man=true and completion=SHELL, got both");
  const std::vector<CommandPage> pages = all_pages();
  if (config.man) {
    std::fputs(man_page(pages, version()).c_str(), stdout);
  } else if (config.completion != Shell::kNone) {
    std::fputs(completion(config.completion, pages).c_str(), stdout);
  } else {
    write_pages(config.out, pages);
  }
  return kDone;
}

}  // namespace vggflow::cli
