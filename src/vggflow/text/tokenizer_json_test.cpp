// Tokenizers from tokenizer.json alone, against the ids of Hugging Face's tokenizers library for
// the files in testdata/tokenizer_json (tools/reference/tokenizer_json_reference.py).
#include "vggflow/text/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"
#include "vggflow/text/clip_tokenizer.h"
#include "vggflow/text/t5_tokenizer.h"
#include "vggflow/text/wordpiece_tokenizer.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using testing::message_of;

const fs::path kData = fs::path(VGGFLOW_SOURCE_DIR) / "src/vggflow/text/testdata/tokenizer_json";

json read(const fs::path& file) {
  return parse_json<json>(read_tokenizer_file(file), file.string());
}

using Encode = std::function<std::vector<int64_t>(const std::string&)>;

void expect_reference(const std::string& name, const Encode& encode) {
  const json cases = read(kData / "ids.json").at(name);
  ASSERT_GE(cases.size(), 20u);
  for (const json& c : cases) {
    EXPECT_EQ(encode(c.at("text").get<std::string>()), c.at("ids").get<std::vector<int64_t>>())
        << name << ": " << c.at("text");
  }
}

TEST(TokenizerJsonFiles, GiveTheIdsOfTheTokenizersLibrary) {
  const ClipTokenizer clip(kData / "clip");
  expect_reference("clip", [&](const std::string& text) { return clip.ids(text); });
  const T5Tokenizer t5(kData / "t5");
  expect_reference("t5", [&](const std::string& text) { return t5.ids(text); });
  const WordpieceTokenizer bert(kData / "bert");
  expect_reference("bert", [&](const std::string& text) { return bert.ids(text); });
  EXPECT_EQ(WordpieceTokenizer(kData / "bert/tokenizer.json").ids("a cat"), bert.ids("a cat"));
}

class TokenizerJsonFolder : public ::testing::Test {
 protected:
  // The message of opening `kind`'s files after `change` of its tokenizer.json.
  std::string refusal(const std::string& kind, const std::function<void(json&)>& change) {
    fs::copy(kData / kind, folder.path(),
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    json file = read(kData / kind / "tokenizer.json");
    change(file);
    std::ofstream(folder / "tokenizer.json") << file.dump();
    return message_of([&] {
      if (kind == "clip") ClipTokenizer t(folder.path());
      if (kind == "t5") T5Tokenizer t(folder.path());
      if (kind == "bert") WordpieceTokenizer t(folder.path());
    });
  }
  const testing::TemporaryFolder folder;
};

TEST_F(TokenizerJsonFolder, RefusesStepsThatAreNotDoneHere) {
  EXPECT_EQ(refusal("clip", [](json&) {}), "no error");
  EXPECT_THAT(refusal("clip", [](json& f) { f["normalizer"] = {{"type", "NFKC"}}; }),
              HasSubstr("the step 'NFKC', which is not done here"));
  EXPECT_THAT(refusal("clip", [](json& f) { f["model"]["end_of_word_suffix"] = "#"; }),
              HasSubstr("the model's end_of_word_suffix \"#\", expected \"</w>\""));
  EXPECT_THAT(refusal("t5", [](json& f) { f["model"]["byte_fallback"] = true; }),
              HasSubstr("byte_fallback true, expected false"));
  EXPECT_THAT(refusal("bert", [](json& f) { f["normalizer"]["lowercase"] = false; }),
              HasSubstr("tells capitals or accents apart"));
  EXPECT_THAT(refusal("bert", [](json& f) { f["model"]["type"] = "BPE"; }),
              HasSubstr("a tokenizer of model 'BPE', expected 'WordPiece'"));
  EXPECT_THAT(refusal("bert", [](json& f) { f["model"]["vocab"]["[PAD]"] = 7; }),
              HasSubstr("expected every id from 0"));
  EXPECT_THAT(refusal("t5", [](json& f) { f.erase("model"); }), HasSubstr("tokenizer.json, got"));
}

TEST_F(TokenizerJsonFolder, SaysWhichFilesWereLookedFor) {
  EXPECT_THAT(message_of([&] { ClipTokenizer t(folder.path()); }),
              HasSubstr("has neither vocab.json nor tokenizer.json"));
  EXPECT_THAT(message_of([&] { T5Tokenizer t(folder.path()); }),
              HasSubstr("has neither spiece.model nor tokenizer.json"));
  EXPECT_THAT(message_of([&] { WordpieceTokenizer t(folder.path()); }),
              HasSubstr("has neither vocab.txt nor tokenizer.json"));
}

}  // namespace
}  // namespace vggflow
