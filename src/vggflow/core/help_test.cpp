#include "vggflow/core/help.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "vggflow/testing/message.h"
#include "vggflow/testing/variable.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;

struct Inner {
  double lr = 1e-3;
  template <class V>
  void fields(V& v) {
    v("lr", lr, "learning rate, which is a number that takes some words to explain", range(0, 1));
  }
};

struct Settings {
  std::string model = "models/nano", lora, kind = "a b";
  std::vector<std::string> layers{"transformer_blocks.*.attn.to_q", "other"};
  bool json = false;
  Inner optimizer;
  int64_t last = 3;
  template <class V>
  void fields(V& v) {
    v("model", model, "folder of the flow model");
    v("lora", lora, "LoRA in any layout");
    v("kind", kind, "of value network", choices({"a b", "c"}));
    v("layers", layers, "adapted layers");
    v("json", json, "for programs");
    v.section("optimizer", optimizer);
    v("last", last, "a key of no section after one");
  }
};

const Call kCall{"job", "Does it.", {}};
const Syntax kSyntax{.positionals = {{"lora"}},
                     .flags = {{"--model", "model"}, {"--json", "json"}},
                     .common = {"optimizer.lr"},
                     .notes = "More: docs/job.md."};

std::string help(bool all, size_t width) {
  Settings s;
  return command_help(kCall, kSyntax, fields_of(s), all, width);
}

TEST(Help, ShowsTheCommonSettingsAndHowToSeeAll) {
  EXPECT_EQ(help(false, 80),
            R"(Does it.

Usage: vggflow job [LORA] [--config FILE] [key=value ...]

  LORA                        LoRA in any layout
  --config FILE               file of settings (YAML); what the command line
                              says wins
  --model VALUE               the setting model
  --json                      the setting json
  --help-all                  every setting

Settings:
  model=models/nano           folder of the flow model (text)
  lora=                       LoRA in any layout (text)
  json=false                  for programs (true or false)

Settings of optimizer:
  optimizer.lr=0.001          learning rate, which is a number that takes some
                              words to explain (a number, 0 to 1)

These are 4 of 7 settings; --help-all shows every one.

More: docs/job.md.
)");
}

TEST(Help, ShowsEverySettingBySection) {
  const std::string all = help(true, 80);
  for (const char* key :
       {"model=", "lora=", "kind=\"a b\"", "layers=...", "json=", "optimizer.lr=", "last=3"})
    EXPECT_THAT(all, HasSubstr(std::string("\n  ") + key));
  EXPECT_THAT(all, HasSubstr("one of a b | c"));
  EXPECT_THAT(all, HasSubstr("\n  --trust WORDS "));
  EXPECT_THAT(all, HasSubstr("[\"transformer_blocks.*.attn.to_q\", \"other\"])"));
  EXPECT_LT(all.find("last=3"), all.find("Settings of optimizer")) << "sections come after";
  EXPECT_THAT(all, Not(HasSubstr("--help-all")));
}

TEST(Help, IsAsWideAsTheTerminal) {
  for (const size_t width : {40, 60, 100, 200}) {
    std::istringstream lines(help(true, width));
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), width) << line;
  }
  const testing::Variable columns("COLUMNS", "71");
  EXPECT_EQ(terminal_width(), 71u);
}

TEST(Help, WrapsByColumnsAndNotByBytes) {
  EXPECT_EQ(wrapped("äöü äöü äöü äöü äöü äöü äöü äöü", 31), "äöü äöü äöü äöü äöü äöü äöü äöü\n");
  EXPECT_EQ(wrapped("one\n\ntwo", 40, 2), "  one\n\n  two\n");
  EXPECT_EQ(wrapped(std::string(70, 'x'), 60),
            std::string(60, 'x') + "\n" + std::string(10, 'x') + "\n");
}

TEST(Help, RefusesACommonKeyThatIsNoSetting) {
  Syntax syntax = kSyntax;
  syntax.common = {"optimizer.rate"};
  Settings s;
  EXPECT_THAT(message_of([&] { command_help(kCall, syntax, fields_of(s), false, 80); }),
              HasSubstr("got 'optimizer.rate'"));
}

}  // namespace
}  // namespace vggflow
