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
  PromptFiles both() const { return {(folder / "train.txt").string(), (folder / "eval.txt").string()}; }
  testing::TemporaryFolder folder;
};

TEST(PromptSource, DrawsOfAFileDependOnTheSampleAlone) {
  const Files files;
  const auto source = make_prompt_source(files.both(), {});
  const auto whole = captions_of(source->draw(7, 3, 0, 40));
  const auto second = captions_of(source->draw(7, 3, 20, 20));
  EXPECT_EQ(std::vector<std::string>(whole.begin() + 20, whole.end()), second);
  EXPECT_NE(whole, captions_of(source->draw(7, 4, 0, 40)));
  EXPECT_EQ(std::set<std::string>(whole.begin(), whole.end()), (std::set<std::string>{"a red heart", "a blue car", "a green tree"}));
  EXPECT_FALSE(source->labelled());
}

TEST(PromptSource, EvaluatesOnTheFirstPromptsOfTheFile) {
  const Files files;
  const auto source = make_prompt_source(files.both(), {});
  EXPECT_EQ(captions_of(source->evaluation(Split::kHeldOut, 1, 2)), (std::vector<std::string>{"two ghosts", "one cat"}));
  EXPECT_THAT(message_of([&] { source->evaluation(Split::kHeldOut, 1, 3); }), HasSubstr("expected at most 2 prompts"));
  EXPECT_EQ(source->display().size(), 2u);
  EXPECT_EQ(source->all().size(), 5u);
}

TEST(PromptSource, OneFileServesBothWhereTheOtherIsNotGiven) {
  const Files files;
  const auto source = make_prompt_source({files.both().train, ""}, {});
  EXPECT_EQ(captions_of(source->evaluation(Split::kHeldOut, 1, 1)), std::vector<std::string>{"a red heart"});
}

}  // namespace
}  // namespace vggflow
