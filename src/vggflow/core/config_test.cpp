#include "vggflow/core/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "vggflow/core/error.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/variable.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

enum class Colour { kDeepRed, kBlue };
OptionWords<Colour> option_words(Colour) {
  return {{"deep_red", Colour::kDeepRed}, {"blue", Colour::kBlue}};
}

struct Painted {
  Colour colour = Colour::kBlue;
  template <class V>
  void fields(V& v) {
    v("colour", colour, "of the wall");
  }
};

struct Striped {
  std::vector<Colour> colours{Colour::kBlue, Colour::kDeepRed};
  template <class V>
  void fields(V& v) {
    v("colours", colours, "of the wall");
  }
};

struct Inner {
  double lr = 1e-3;
  std::vector<double> weights{0.1, 1.0};
  template <class V>
  void fields(V& v) {
    v("lr", lr, "learning rate", range(0, 1));
    v("weights", weights, "weights");
  }
};

struct Outer {
  int64_t steps = 10;
  bool resume = false;
  std::string kind = "none";
  std::vector<std::string> names{"a b", "c: \"d\""};
  Inner optimizer;
  template <class V>
  void fields(V& v) {
    v("steps", steps, "updates", range(1, 100));
    v("resume", resume, "go on");
    v("kind", kind, "kind of value network", choices({"none", "unet", "mmdit"}));
    v("names", names, "names");
    v.section("optimizer", optimizer);
  }
};

TEST(Config, WhatItSavesItReadsBackExactly) {
  Outer a;
  a.optimizer.lr = 0.1 + 0.2;
  a.steps = 77;
  a.optimizer.weights = {1.0 / 3, 2e-30};
  Outer b;
  load_yaml_text(fields_of(b), to_yaml(fields_of(a)), "text");
  EXPECT_THAT(differences(fields_of(a), fields_of(b)), ElementsAre());
  EXPECT_EQ(b.optimizer.lr, a.optimizer.lr);
  EXPECT_EQ(b.optimizer.weights, a.optimizer.weights);
  EXPECT_EQ(b.names, a.names);
}

TEST(Config, HoldsEnumsWhereFilesAndHelpHaveWords) {
  Painted a;
  EXPECT_EQ(to_yaml(fields_of(a)), "colour: \"blue\"  # of the wall, one of deep_red | blue\n");
  EXPECT_EQ(type_text(fields_of(a).front()), "text, one of deep_red | blue");
  apply_override(fields_of(a), "colour=deep_red");
  EXPECT_EQ(a.colour, Colour::kDeepRed);
  EXPECT_EQ(word_of(a.colour), "deep_red");
  Painted b;
  EXPECT_THAT(differences(fields_of(a), fields_of(b)), ElementsAre("colour"));
  load_yaml_text(fields_of(b), to_yaml(fields_of(a)), "text");
  EXPECT_EQ(b.colour, Colour::kDeepRed);
  EXPECT_EQ(message_of([&] { load_yaml_text(fields_of(b), "colour: deep-red", "text"); }),
            "[config] text line 1: expected 'colour' to be one of deep_red, blue, got 'deep-red'; "
            "did you mean 'deep_red'?");
  EXPECT_THAT(message_of([&] { load_yaml_text(fields_of(b), "colour: [blue]", "text"); }),
              HasSubstr("expected text for 'colour', got '[blue]'"));
  EXPECT_EQ(b.colour, Colour::kDeepRed) << "a refused word changes nothing";
}

TEST(Config, HoldsListsOfEnumsByTheirWords) {
  Striped a;
  EXPECT_EQ(to_yaml(fields_of(a)),
            "colours: [\"blue\", \"deep_red\"]  # of the wall, one of deep_red | blue\n");
  EXPECT_EQ(type_text(fields_of(a).front()), "a list of texts, one of deep_red | blue");
  apply_override(fields_of(a), "colours=[deep_red]");
  EXPECT_THAT(a.colours, ElementsAre(Colour::kDeepRed));
  Striped b;
  EXPECT_THAT(differences(fields_of(a), fields_of(b)), ElementsAre("colours"));
  load_yaml_text(fields_of(b), to_yaml(fields_of(a)), "text");
  EXPECT_THAT(b.colours, ElementsAre(Colour::kDeepRed));
  EXPECT_THAT(message_of([&] { apply_override(fields_of(b), "colours=[deep_red, green]"); }),
              HasSubstr("expected 'colours' to be one of deep_red, blue, got 'green'"));
  EXPECT_THAT(b.colours, ElementsAre(Colour::kDeepRed)) << "a refused list changes nothing";
  apply_override(fields_of(b), "colours=[]");
  EXPECT_THAT(b.colours, ElementsAre());
}

TEST(Config, OverridesReachSections) {
  Outer c;
  apply_override(fields_of(c), "optimizer.lr=0.5");
  apply_override(fields_of(c), "optimizer.weights=[1, 2, 3]");
  apply_override(fields_of(c), "resume=true");
  EXPECT_EQ(c.optimizer.lr, 0.5);
  EXPECT_EQ(c.optimizer.weights.size(), 3u);
  EXPECT_TRUE(c.resume);
  EXPECT_THAT(differences(fields_of(c), fields_of(*std::make_unique<Outer>())),
              ElementsAre("resume", "optimizer.lr", "optimizer.weights"));
}

struct TextAndNumber {
  std::string text;
  double number = 0;

  template <class V>
  void fields(V& v) {
    v("text", text, "any");
    v("number", number, "a number");
  }
};

TEST(Config, TextAsAScalarReadsBackWhateverItHolds) {
  TextAndNumber config;
  for (const std::string text :
       {"ugly #1", "quality: low", "[blurry]", "null", "", "a \"quoted\" \\ word", "7"}) {
    apply_override(fields_of(config), "text=" + yaml_scalar(text));
    EXPECT_EQ(config.text, text);
  }
  for (const std::string text : {"runs/\xff\xfe", "it's \xe1 # no: comment"}) {  // no UTF-8
    apply_override(fields_of(config), "text=" + yaml_scalar(text));
    EXPECT_EQ(config.text, text);
  }
  apply_override(fields_of(config), "number=" + yaml_scalar("7.5"));
  EXPECT_EQ(config.number, 7.5);
}

TEST(Config, UnknownKeysNameLineAndNearestKey) {
  Outer c;
  EXPECT_THAT(
      message_of([&] {
        load_yaml_text(fields_of(c), "steps: 5\noptimizer:\n  learning: 1\n", "run.yaml");
      }),
      HasSubstr(
          "run.yaml line 3: unknown setting 'optimizer.learning'; did you mean 'optimizer.lr'?"));
  EXPECT_THAT(message_of([&] { apply_override(fields_of(c), "step=4"); }),
              HasSubstr("did you mean 'steps'?"));
}

TEST(Config, WrongTypesRangesAndChoicesSayWhatWasExpected) {
  Outer c;
  EXPECT_THAT(message_of([&] { apply_override(fields_of(c), "steps=many"); }),
              HasSubstr("expected a whole number for 'steps', got 'many'"));
  EXPECT_THAT(message_of([&] { apply_override(fields_of(c), "steps=1000"); }),
              HasSubstr("expected 'steps' from 1 to 100, got 1000"));
  EXPECT_THAT(
      message_of([&] { apply_override(fields_of(c), "kind=u-net"); }),
      HasSubstr(
          "expected 'kind' to be one of none, unet, mmdit, got 'u-net'; did you mean 'unet'?"));
  EXPECT_THAT(message_of([&] { apply_override(fields_of(c), "steps"); }),
              HasSubstr("expected key=value"));
  EXPECT_THAT(message_of([&] { load_yaml_text(fields_of(c), "steps: [1", "x"); }),
              HasSubstr("x is not YAML"));
  EXPECT_EQ(c.steps, 10);
}

TEST(Config, UnknownKeysFindTheirSectionsByTheirLastPart) {
  Outer c;
  EXPECT_EQ(message_of([&] { apply_override(fields_of(c), "lr=0.1"); }),
            "[config] override lr=0.1: unknown setting 'lr'; did you mean 'optimizer.lr'?");
  EXPECT_THAT(message_of([&] { apply_override(fields_of(c), "wieghts=[1]"); }),
              HasSubstr("did you mean 'optimizer.weights'?"));
}

TEST(Config, SavesNoPasswordOfAnAddressAndExpandsTheHomeFolder) {
  Outer c, again;
  const testing::Variable home("HOME", "/someone");
  load_yaml_text(fields_of(c), "names: ['0.5*http://me:secret@host/score#batch=8', '~/x', 'a=~/y']",
                 "text");
  EXPECT_THAT(c.names, ElementsAre("0.5*http://host/score#batch=8", "/someone/x", "a=/someone/y"));
  EXPECT_THAT(to_yaml(fields_of(c)), ::testing::Not(HasSubstr("secret")));
  EXPECT_EQ(message_of([&] { apply_override(fields_of(again), "steps=http://me:secret@host"); }),
            "[config] override steps=http://host: expected a whole number for 'steps', got "
            "'http://host'");
}

TEST(Config, TellsWhatAFieldMayHold) {
  Outer c;
  const Fields fields = fields_of(c);
  EXPECT_EQ(type_text(fields[0]), "a whole number, 1 to 100");
  EXPECT_EQ(type_text(fields[2]), "text, one of none | unet | mmdit");
}

TEST(Config, NamesAWebPageInTheSettingsPlace) {
  Outer o;
  EXPECT_THAT(message_of([&] { load_yaml_text(fields_of(o), "<html>no</html>", "run.yaml"); }),
              HasSubstr("[config] run.yaml is a web page and not the file"));
}

// As of JSON, deep nesting would overflow the stack of whatever walks it.
// yaml-cpp takes the first of several values, and the last of a key's.
TEST(Config, RefusesWhatFollowsAValueAndKeysGivenTwice) {
  Outer o;
  const Fields fields = fields_of(o);
  for (const char* text : {"steps: 1\n---\nsteps: 2\n", "steps: 1\n...\nkind: unet\n"})
    EXPECT_THAT(testing::message_of([&] { load_yaml_text(fields, text, "x"); }),
                HasSubstr("[config] x: expected one value, got 2"))
        << text;
  EXPECT_THAT(testing::message_of([&] { load_yaml_text(fields, "steps: 1\nsteps: 2\n", "x"); }),
              HasSubstr("[config] x, line 2: the key 'steps' is there twice"));
  EXPECT_THAT(testing::message_of([&] { load_yaml_text(fields, "names: &a [*a]\n", "x"); }),
              HasSubstr("write out what anchors stand for"));
  EXPECT_THAT(testing::message_of([&] { apply_override(fields, "names=[red heart] ghost"); }),
              HasSubstr("override names=[red heart] ghost: the value"));
}

TEST(Config, RefusesYamlThatIsNestedTooDeeply) {
  Outer o;
  for (const std::string& text : {std::string(100000, '['), "a: " + std::string(100000, '{')})
    EXPECT_THAT(message_of([&] { load_yaml_text(fields_of(o), text, "deep.yaml"); }),
                HasSubstr("deep.yaml is not YAML"));
}

}  // namespace
}  // namespace vggflow
