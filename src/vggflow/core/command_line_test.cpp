#include "vggflow/core/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "vggflow/core/error.h"
#include "vggflow/core/usage_error.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/testing/variable.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

struct Inner {
  double lr = 1e-3;
  template <class V>
  void fields(V& v) {
    v("lr", lr, "learning rate", range(0, 1));
  }
};

struct Settings {
  std::string lora, out;
  std::vector<std::string> images, rewards;
  bool json = false;
  int64_t batch = 4;
  Inner optimizer;
  template <class V>
  void fields(V& v) {
    v("lora", lora, "LoRA in any layout");
    v("out", out, "file to write");
    v("images", images, "folders");
    v("rewards", rewards, "rewards");
    v("json", json, "for programs");
    v("batch", batch, "batch size", range(1, 100));
    v.section("optimizer", optimizer);
  }
};

const Syntax kExport{.positionals = {{"lora"}, {"out"}},
                     .flags = {{"--batch", "batch"}, {"--json", "json"}, {"--reward", "rewards"}},
                     .required = {"lora"}};
const Syntax kScore{.positionals = {{"images", true}}, .flags = {{"--out", "out"}}};

Settings read(const Syntax& syntax, const std::vector<std::string>& words) {
  const Call call{"job", "does it", words};
  Settings settings;
  const Fields fields = fields_of(settings);
  apply_command_line(parse_command_line(call, syntax, fields), call, syntax, fields);
  return settings;
}

std::string refusal(const Syntax& syntax, const std::vector<std::string>& words) {
  return message_of([&] { read(syntax, words); });
}

TEST(CommandLine, TakesPositionalsSettingsAndFlagsInAnyOrder) {
  const Settings s = read(kExport, {"--batch", "7", "a.safetensors", "optimizer.lr=0.5", "--json",
                                    "my file: [x]", "--reward", "a + b", "--reward=c, d"});
  EXPECT_EQ(s.lora, "a.safetensors");
  EXPECT_EQ(s.out, "my file: [x]");
  EXPECT_EQ(s.batch, 7);
  EXPECT_TRUE(s.json);
  EXPECT_EQ(s.optimizer.lr, 0.5);
  EXPECT_THAT(s.rewards, ElementsAre("a + b", "c, d"));
}

TEST(CommandLine, TheLastWordWinsAndAllAreSettings) {
  EXPECT_EQ(read(kExport, {"lora=a", "--batch=3", "batch=5"}).batch, 5);
  EXPECT_EQ(read(kExport, {"lora=a", "batch=5", "--batch=3"}).batch, 3);
  EXPECT_FALSE(read(kExport, {"lora=a", "--json=false"}).json);
  EXPECT_EQ(read(kExport, {"lora=a", "out=b"}).out, "b");
  EXPECT_THAT(read(kScore, {"one", "two", "batch=2", "three"}).images,
              ElementsAre("one", "two", "three"));
}

TEST(CommandLine, ReadsTheFileBeforeTheSettingsWhereverItIsNamed) {
  const testing::TemporaryFolder folder;
  std::ofstream(folder.path() / "a.yaml") << "batch: 9\nout: there\n";
  const Settings s =
      read(kExport, {"lora=x", "batch=2", "--config", (folder.path() / "a.yaml").string()});
  EXPECT_EQ(s.batch, 2);
  EXPECT_EQ(s.out, "there");
  const testing::Variable home("HOME", folder.path().string());
  EXPECT_EQ(read(kExport, {"lora=x", "--config=~/a.yaml"}).batch, 9);
}

TEST(CommandLine, AFileWhoseNameLooksLikeASettingIsAFileWhereFilesAreTaken) {
  const testing::TemporaryFolder folder;
  const std::string path = (folder.path() / "batch=2").string();
  EXPECT_THAT(read(kScore, {path}).images, ElementsAre(path)) << "a key holds no slash";
  std::filesystem::create_directory(path);
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  EXPECT_THAT(read(kScore, {"batch=2", "batch=3"}).images, ElementsAre("batch=2"));
  EXPECT_EQ(read(Syntax{}, {"batch=2"}).batch, 2);
  std::filesystem::current_path(before);
}

TEST(CommandLine, HelpIsAskedForAnywhereAndNothingElseIsChecked) {
  const Call call{"job", "", {"a", "--help-all"}};
  Settings s;
  EXPECT_EQ(parse_command_line(call, kExport, fields_of(s)).help, CommandLine::Help::kAll);
  const Call short_call{"job", "", {"-h"}};
  EXPECT_EQ(parse_command_line(short_call, kExport, fields_of(s)).help, CommandLine::Help::kShort);
}

TEST(CommandLine, WrongFlagsNameTheNearestFlagOrTheSetting) {
  EXPECT_EQ(refusal(kExport, {"--bacth", "3"}),
            "[job] unknown flag --bacth; did you mean '--batch'?");
  EXPECT_EQ(refusal(kExport, {"--conifg=x"}),
            "[job] unknown flag --conifg; did you mean '--config'?");
  EXPECT_EQ(refusal(kExport, {"--lr", "3"}),
            "[job] unknown flag --lr; settings are key=value: optimizer.lr=...");
  EXPECT_EQ(refusal(kScore, {"--batch", "3"}),
            "[job] unknown flag --batch; settings are key=value: batch=...");
  EXPECT_EQ(refusal(kExport, {"--batch"}), "[job] expected a value after --batch");
  EXPECT_EQ(refusal(kExport, {"--batch", "--json"}), "[job] expected a value after --batch");
}

TEST(CommandLine, WrongWordsSayWhatWasExpected) {
  EXPECT_EQ(
      refusal(Syntax{}, {"configs/nano.yaml"}),
      "[job] a file of settings is given by --config: vggflow job --config configs/nano.yaml");
  EXPECT_EQ(refusal(Syntax{}, {"lr"}),
            "[job] expected key=value, got 'lr'; did you mean optimizer.lr=...?");
  EXPECT_EQ(refusal(Syntax{}, {"something"}), "[job] expected key=value, got 'something'");
  EXPECT_EQ(refusal(kExport, {"a", "b", "c"}),
            "[job] expected at most 2 of LORA, OUT, got another: 'c'");
  EXPECT_EQ(
      refusal(kExport, {"out=b"}),
      "[job] expected lora: LoRA in any layout; usage: vggflow job LORA [OUT] [--config FILE] "
      "[key=value ...]");
  EXPECT_THAT(refusal(kExport, {"lora=a", "lr=3"}), HasSubstr("did you mean 'optimizer.lr'?"));
}

TEST(CommandLine, AConfigThatIsNoFileIsRefused) {
  const testing::TemporaryFolder folder;
  Syntax syntax;
  EXPECT_EQ(refusal(syntax, {"--config", "nowhere.yaml"}),
            "[job] expected --config FILE, a YAML file of settings; there is no file nowhere.yaml");
  syntax.flags = {{"--model-config", "out"}};
  const std::string path = folder.path().string();
  EXPECT_EQ(refusal(syntax, {"--config", path}),
            "[job] expected --config FILE, a YAML file of settings, got the folder " + path +
                "; a folder of a model's configurations is --model-config " + path);
  EXPECT_THAT(refusal(syntax, {"--config", "/dev/null", "--config", "/dev/null"}),
              HasSubstr("expected one --config FILE"));
}

TEST(CommandLine, WhatCannotBeUnderstoodIsAUsageError) {
  EXPECT_THROW(read(Syntax{}, {"batch=many"}), UsageError);
  EXPECT_THROW(read(Syntax{}, {"--nothing"}), UsageError);
}

}  // namespace
}  // namespace vggflow
