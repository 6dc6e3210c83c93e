#include "vggflow/rewards/expression.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

#include "vggflow/testing/message.h"

namespace vggflow {

void PrintTo(const WeightedName& n, std::ostream* out) {
  *out << n.weight << " * '" << n.name << "'";
}

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;
using ::testing::Pair;
using Name = WeightedName;

TEST(RewardExpression, IsASumOfWeightedNames) {
  EXPECT_THAT(parse_expression("colorfulness"), ElementsAre(Name{1, "colorfulness"}));
  EXPECT_THAT(parse_expression("  0.7*a +b+ -2 * c-d "),
              ElementsAre(Name{0.7, "a"}, Name{1, "b"}, Name{-2, "c-d"}));
  EXPECT_THAT(parse_expression("1e+2*a + +3*b"), ElementsAre(Name{100, "a"}, Name{3, "b"}));
}

TEST(RewardExpression, LeavesAnAddressItsStarsAndPluses) {
  EXPECT_THAT(parse_expression("plugin:/a+b*c.so?k=1*2"),
              ElementsAre(Name{1, "plugin:/a+b*c.so?k=1*2"}));
  EXPECT_THAT(parse_expression("2*plugin:/a+b/2*x.so + 0.5*http://host:80/p?q=a+b + emoji-clip"),
              ElementsAre(Name{2, "plugin:/a+b/2*x.so"}, Name{0.5, "http://host:80/p?q=a+b"},
                          Name{1, "emoji-clip"}));
  EXPECT_THAT(parse_expression("plugin:/2*3+4.so"), ElementsAre(Name{1, "plugin:/2*3+4.so"}));
}

TEST(RewardExpression, TakesAnAddressInBracketsWhole) {
  EXPECT_THAT(parse_expression("0.5*(plugin:/my + own (2).so) + a"),
              ElementsAre(Name{0.5, "plugin:/my + own (2).so"}, Name{1, "a"}));
  EXPECT_THAT(parse_expression("(plugin:/x.so)"), ElementsAre(Name{1, "plugin:/x.so"}));
}

TEST(RewardExpression, RefusesWhatIsNoTerm) {
  for (const auto& [text, got] : {std::pair{"x*emoji-clip", "got 'x' in"},
                                  {"a*2", "got 'a' in"},
                                  {"a +", "got '' in"},
                                  {"", "got '' in"},
                                  {"2*", "got '' in"},
                                  {"a ++ b", "got '' in"},
                                  {"inf*a", "got 'inf' in"},
                                  {"2*3*a", "got '3' in"}}) {
    EXPECT_THAT(message_of([text = text] { parse_expression(text); }),
                HasSubstr(std::string("expected 'weight*name + weight*name', ") + got))
        << text;
  }
  EXPECT_THAT(message_of([] { parse_expression("2*(plugin:/x.so"); }),
              HasSubstr("expected a ')' that ends the term, got '(plugin:/x.so'"));
}

TEST(RewardAddress, HoldsOptionsBehindItsLastMark) {
  EXPECT_THAT(split_options("/a.so", '?').options, IsEmpty());
  const Address a = split_options("/what?/a.so?floor=0.1&mode=x=y&empty=", '?');
  EXPECT_EQ(a.base, "/what?/a.so");
  EXPECT_THAT(a.options, ElementsAre(Pair("floor", "0.1"), Pair("mode", "x=y"), Pair("empty", "")));
  EXPECT_THAT(message_of([] { split_options("/a.so?floor", '?'); }),
              HasSubstr("expected key=value after the '?' of '/a.so?floor', got 'floor'"));
  EXPECT_THAT(message_of([] { split_options("/a.so?a=1&a=2", '?'); }),
              HasSubstr("the option 'a' is given twice"));
}

}  // namespace
}  // namespace vggflow
