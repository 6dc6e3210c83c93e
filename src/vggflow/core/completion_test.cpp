#include "vggflow/core/completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vggflow {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Settings {
  std::string kind = "a", run;
  bool resume = false;
  template <class V>
  void fields(V& v) {
    v("kind", kind, "the model's kind", choices({"a", "b"}));
    v("run", run, "folder");
    v("resume", resume, "go on");
  }
};

std::string script(Shell shell) {
  Settings s;
  return completion(shell, {command_page({"job", "Does its work.", {}},
                                         {.flags = {{"--kind", "kind"}}}, fields_of(s))});
}

// That the shells understand it is asked by tests/docs.sh.
TEST(Completion, KnowsCommandsFlagsKeysAndTheWordsOfChoices) {
  EXPECT_THAT(script(Shell::kBash), AllOf(HasSubstr("compgen -W 'job --help --version'"),
                                          HasSubstr("--help-all --kind kind= run= resume='"),
                                          HasSubstr("'job kind') words='a b' ;;"),
                                          HasSubstr("'job resume') words='true false' ;;"),
                                          HasSubstr("complete -F _vggflow vggflow")));
  EXPECT_THAT(
      script(Shell::kZsh),
      AllOf(HasSubstr("#compdef vggflow"), HasSubstr("'job:Does its work.'"),
            HasSubstr("'job kind') values=(a b) ;;"), HasSubstr("keys=(kind= run= resume=)")));
  EXPECT_THAT(script(Shell::kFish),
              AllOf(HasSubstr("-f -a job -d 'Does its work.'"), HasSubstr("-l kind\n"),
                    HasSubstr("-a 'kind=a kind=b' -d 'the model'\\''s kind'")));
}

struct Listed {
  std::vector<std::string> parts{"a"};
  template <class V>
  void fields(V& v) {
    v("parts", parts, "which", choices({"a", "b"}));
  }
};

// "parts=a" would be refused: a list is written in brackets.
TEST(Completion, OffersNoWordsForLists) {
  Listed s;
  const CommandPage page = command_page({"job", "Does its work.", {}}, {}, fields_of(s));
  for (const Shell shell : {Shell::kBash, Shell::kZsh, Shell::kFish})
    EXPECT_THAT(completion(shell, {page}), ::testing::Not(HasSubstr("parts=a")));
  EXPECT_THAT(completion(Shell::kBash, {page}), ::testing::Not(HasSubstr("'job parts')")));
  EXPECT_THAT(reference_page(page), HasSubstr("`parts=[\"a\"]` (a list of `a`, `b`): which."));
}

}  // namespace
}  // namespace vggflow
