#include "vggflow/data/prompt_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

struct Files {
  Files() {
    std::ofstream(folder / "train.txt") << "a red heart\na blue car\na green tree\n";
    std::ofstream(folder / "eval.txt") << "two ghosts\none cat\n";
  }
  PromptFiles both() const {
    return {(folder / "train.txt").string(), (folder / "eval.txt").string()};
  }
  testing::TemporaryFolder folder;
};

TEST(PromptSource, DrawsOfAFileDependOnTheSampleAlone) {
  const Files files;
  const auto source = make_prompt_source(files.both(), {});
  const auto whole = captions_of(source->draw(7, 3, 0, 40));
  const auto second = captions_of(source->draw(7, 3, 20, 20));
  EXPECT_EQ(std::vector<std::string>(whole.begin() + 20, whole.end()), second);
  EXPECT_NE(whole, captions_of(source->draw(7, 4, 0, 40)));
  EXPECT_EQ(std::set<std::string>(whole.begin(), whole.end()),
            (std::set<std::string>{"a red heart", "a blue car", "a green tree"}));
  EXPECT_FALSE(source->labelled());
}

TEST(PromptSource, EvaluatesOnTheFirstPromptsOfTheFile) {
  const Files files;
  const auto source = make_prompt_source(files.both(), {});
  EXPECT_EQ(captions_of(source->evaluation(Split::kHeldOut, 1, 2)),
            (std::vector<std::string>{"two ghosts", "one cat"}));
  EXPECT_THAT(message_of([&] { source->evaluation(Split::kHeldOut, 1, 3); }),
              HasSubstr("expected at most 2 prompts"));
  EXPECT_EQ(source->display().size(), 2u);
  EXPECT_EQ(source->all().size(), 5u);
}

TEST(PromptSource, OneFileServesBothWhereTheOtherIsNotGiven) {
  const Files files;
  const auto source = make_prompt_source({files.both().train, ""}, {});
  EXPECT_EQ(captions_of(source->evaluation(Split::kHeldOut, 1, 1)),
            std::vector<std::string>{"a red heart"});
}

TEST(PromptSource, ClassesBecomeCaptionsWithTheirPlaces) {
  PromptFiles files;
  files.classes = {"cat", "frog", "ship"};
  const auto source = make_prompt_source(files, {});
  EXPECT_EQ(source->classes(), files.classes);
  EXPECT_TRUE(source->labelled());
  EXPECT_FALSE(source->emoji());
  std::set<int64_t> seen;
  for (const Prompt& p : source->draw(7, 3, 0, 40)) {
    EXPECT_EQ(p.caption, "a photo of a " + files.classes.at(static_cast<size_t>(p.subgroup)));
    seen.insert(p.subgroup);
  }
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_EQ(captions_of(source->draw(7, 3, 15, 5)),
            (std::vector<std::string>{
                source->draw(7, 3, 15, 1)[0].caption, source->draw(7, 3, 16, 1)[0].caption,
                source->draw(7, 3, 17, 1)[0].caption, source->draw(7, 3, 18, 1)[0].caption,
                source->draw(7, 3, 19, 1)[0].caption}));
  EXPECT_EQ(captions_of(source->evaluation(Split::kHeldOut, 1, 2)),
            (std::vector<std::string>{"a photo of a cat", "a photo of a frog"}));
  EXPECT_THAT(message_of([&] { source->evaluation(Split::kAll, 1, 4); }),
              HasSubstr("expected at most 3 prompts, one per class, got eval.prompts=4"));
  EXPECT_EQ(source->display().size(), 12u);
  files.train = "some.txt";
  EXPECT_THAT(message_of([&] { make_prompt_source(files, {}); }),
              HasSubstr("expected prompts.classes, or prompts.train and prompts.eval, got both"));
}

TEST(PromptSource, SaysWhetherEvaluationIsHeldOut) {
  const Files files;
  const auto kind = [](const PromptFiles& f, Split split = Split::kHeldOut) {
    return make_prompt_source(f, {})->evaluation_kind(split);
  };
  EXPECT_EQ(kind(files.both()), "held-out");
  EXPECT_EQ(kind(files.both(), Split::kTrain), "training");
  EXPECT_EQ(kind({files.both().train, ""}), "training");
  EXPECT_EQ(kind({"", files.both().eval}), "") << "there is no training to be held out from";
  std::ofstream(files.folder / "mixed.txt") << "two ghosts\na Red heart\n";
  EXPECT_EQ(kind({files.both().train, (files.folder / "mixed.txt").string()}), "partly held-out");
  std::ofstream(files.folder / "same.txt") << "a Red heart\n";
  EXPECT_EQ(kind({files.both().train, (files.folder / "same.txt").string()}), "training");
  PromptFiles classes;
  classes.classes = {"cat", "frog"};
  EXPECT_EQ(kind(classes), "training");
}

}  // namespace
}  // namespace vggflow
