#include "vggflow/core/trust.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;

struct Eval {
  std::vector<std::string> panel;
  template <class V>
  void fields(V& v) {
    v("panel", panel, "other rewards");
  }
};

struct Settings {
  std::string reward = "colorfulness", run = "runs/http:plugin:x";
  Eval eval;
  template <class V>
  void fields(V& v) {
    v("reward", reward, "the reward");
    v("run", run, "folder");
    v.section("eval", eval);
  }
};

std::string refusal(Settings s, const std::vector<std::string>& trust,
                    const std::vector<std::string>& given = {}) {
  CommandLine line;
  line.file = "theirs.yaml";
  line.trust = trust;
  return message_of([&] { check_trust(line, "align", fields_of(s), given); });
}

TEST(Trust, IsNeededForRewardsOfAFileThatRunCodeOrSendImages) {
  Settings s;
  EXPECT_THAT(needed_trust(fields_of(s)), IsEmpty()) << "only rewards are addresses";
  s.reward = "0.5*plugin:/a/http:b.so + torchscript:/c.pt";
  EXPECT_THAT(needed_trust(fields_of(s)), ElementsAre("plugins", "torchscript"));
  s.eval.panel = {"emoji-clip", "https://host/score"};
  EXPECT_THAT(needed_trust(fields_of(s)), ElementsAre("plugins", "torchscript", "http"));
  EXPECT_EQ(trust_setting(fields_of(s)), " trust=plugins,torchscript,http");
  EXPECT_THAT(needed_trust(fields_of(s), {"reward=plugin:/mine.so"}), ElementsAre("http"));
}

TEST(Trust, IsAskedForWithTheWordsThatGiveIt) {
  Settings s;
  s.reward = "plugin:/theirs.so";
  EXPECT_EQ(
      refusal(s, {}),
      "[align] theirs.yaml says reward: \"plugin:/theirs.so\", which runs a library's code with "
      "your rights. If you trust it, pass trust=plugins on the command line");
  EXPECT_EQ(refusal(s, {"plugins"}), "no error");
  EXPECT_EQ(refusal(s, {}, {"reward=plugin:/theirs.so"}), "no error") << "who types it means it";
  EXPECT_THAT(refusal(s, {"http"}), HasSubstr("pass trust=plugins"));
  EXPECT_THAT(refusal(s, {"all"}), HasSubstr("expected trust=plugins, torchscript or http"));
}

TEST(Trust, StandsOnTheCommandLineInBothForms) {
  Settings s;
  for (const std::vector<std::string>& words : {std::vector<std::string>{"trust=plugins,http"},
                                                {"trust=[plugins, http]"},
                                                {"--trust", "plugins,http"},
                                                {"--trust=plugins", "--trust", "http"}}) {
    const CommandLine line = parse_command_line({"align", "", words}, {}, fields_of(s));
    EXPECT_THAT(line.trust, ElementsAre("plugins", "http"));
    EXPECT_THAT(line.settings, IsEmpty());
  }
}

TEST(Trust, IsNoSettingSoThatAFileCannotGiveIt) {
  Settings s;
  EXPECT_THAT(message_of([&] { load_yaml_text(fields_of(s), "trust: [plugins]", "file"); }),
              HasSubstr("unknown setting 'trust'"));
}

}  // namespace
}  // namespace vggflow
