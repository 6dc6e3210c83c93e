// Prompt embeddings against diffusers' StableDiffusion3Pipeline.encode_prompt over a tiny model
// folder, both made by tools/reference/text_encoder_reference.py.
#include "vggflow/families/sd3/prompts.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"
#include "vggflow/testing/gradient_check.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;
using testing::relative_error;
using testing::scaled_error;

fs::path model_folder() { return testing::models_testdata("sd3_tiny"); }

class Sd3PromptTest : public ::testing::Test {
 protected:
  Sd3PromptTest() : reference(model_folder() / "reference.safetensors") {
    std::string prompt;
    for (const char c : std::string(reference.bytes("prompts"))) {
      if (c != '\0') {
        prompt += c;
        continue;
      }
      prompts.push_back(prompt);
      prompt.clear();
    }
    prompts.push_back(prompt);
  }

  static Sd3PromptOptions options() { return {.t5_tokens = 20, .context_dim = 24}; }
  Sd3PromptOptions keeping() const {
    Sd3PromptOptions o = options();
    o.cache = cache;
    return o;
  }
  // A copy of the model folder that a test may change.
  fs::path copied_model() const {
    const auto other = cache / "model";
    fs::create_directories(cache);
    fs::copy(model_folder(), other, fs::copy_options::recursive);
    return other;
  }
  fs::path only_entry() const {
    std::vector<fs::path> all(fs::directory_iterator(cache), fs::directory_iterator{});
    EXPECT_EQ(all.size(), 1u);
    return all.at(0);
  }

  SafetensorsFile reference;
  const testing::TemporaryFolder scratch;
  const fs::path cache = scratch.path();
  std::vector<std::string> prompts;
};

TEST_F(Sd3PromptTest, EqualsDiffusers) {
  Sd3PromptEncoder encoder(model_folder(), options());
  ASSERT_EQ(prompts.size(), 4u);
  const Conditioning c = encoder.encode(prompts).embeddings;
  EXPECT_EQ(c.context.sizes(), (std::vector<int64_t>{4, 97, 24}));
  EXPECT_EQ(c.pooled.sizes(), (std::vector<int64_t>{4, 20}));
  EXPECT_LT(scaled_error(c.context, reference.load("full.context")), 1e-5);
  EXPECT_LT(scaled_error(c.pooled, reference.load("full.pooled")), 1e-5);
  const Conditioning negative = encoder.encode({"", "", "", ""}).embeddings;
  EXPECT_LT(scaled_error(negative.context, reference.load("full.negative")), 1e-5);
  EXPECT_LT(scaled_error(negative.pooled, reference.load("full.negative_pooled")), 1e-5);
}

TEST_F(Sd3PromptTest, WithoutT5ItsPartIsZeroAsInDiffusers) {
  Sd3PromptOptions o = options();
  o.use_t5 = false;
  const Conditioning c = Sd3PromptEncoder(model_folder(), o).encode(prompts).embeddings;
  EXPECT_LT(scaled_error(c.context, reference.load("no_t5.context")), 1e-5);
  EXPECT_LT(scaled_error(c.pooled, reference.load("no_t5.pooled")), 1e-5);
  EXPECT_EQ(c.context.narrow(1, 77, 20).abs().max().item<float>(), 0);
  EXPECT_EQ(c.context.narrow(2, 20, 4).abs().max().item<float>(), 0)
      << "channels beyond both CLIPs'";
}

TEST_F(Sd3PromptTest, SaysOnceForAllPromptsWhatWasCut) {
  Sd3PromptEncoder encoder(model_folder(), options());
  EXPECT_THAT(encoder.encode({"a cat", ""}).warnings, IsEmpty());
  const auto warnings =
      encoder.encode({"a cat", prompts[3], prompts[3], prompts[3] + " and more"}).warnings;
  EXPECT_THAT(warnings,
              ElementsAre(::testing::StartsWith(
                  "2 of 3 prompts are longer than an encoder reads and were cut, by CLIP (reads 75 "
                  "tokens), T5 (reads 19 tokens); the first lost 'e cat naïve cat")));
  EXPECT_THAT(warnings[0], ::testing::EndsWith("...'"));
  EXPECT_LT(warnings[0].size(), 230u) << "the text that was cut is clipped";
}

// Where L knows "!!" as one token and G, whose padding it is, takes every "!" apart, they cut at
// different places.
TEST_F(Sd3PromptTest, NamesBothClipsWhereTheyCutDifferently) {
  const auto other = copied_model();
  const auto replace = [&](const char* file, const std::string& from, const std::string& to) {
    std::string text = read_text(other / "tokenizer" / file);
    ASSERT_NE(text.find(from), std::string::npos) << file;
    write_text(other / "tokenizer" / file, text.replace(text.find(from), from.size(), to));
  };
  replace("vocab.json", "\"photo</w>\"", "\"!!</w>\"");
  replace("merges.txt", "phot o</w>", "! !</w>");
  std::string text = "!!";
  for (int i = 0; i < 73; ++i) text += " a";
  const auto warnings = Sd3PromptEncoder(other, options()).encode({text + " b c"}).warnings;
  EXPECT_THAT(warnings,
              ElementsAre("1 of 1 prompts are longer than an encoder reads and were cut, by CLIP-G "
                          "(reads 75 tokens), CLIP-L (reads 75 tokens), T5 (reads 19 "
                          "tokens); the first lost 'c'"));
}

TEST_F(Sd3PromptTest, ABatchGivesWhatSinglePromptsGive) {
  Sd3PromptOptions o = options();
  const Conditioning together = Sd3PromptEncoder(model_folder(), o).encode(prompts).embeddings;
  o.batch = 3;
  const Conditioning in_parts = Sd3PromptEncoder(model_folder(), o).encode(prompts).embeddings;
  EXPECT_LT(relative_error(in_parts.context, together.context), 1e-6);
  Sd3PromptEncoder encoder(model_folder(), o);
  const Conditioning twice = encoder.encode({prompts[1], prompts[0], prompts[1]}).embeddings;
  EXPECT_EQ(encoder.encoded(), 2);
  EXPECT_TRUE(at::equal(twice.context[0], twice.context[2]));
  EXPECT_LT(relative_error(twice.context[1], together.context[0]), 1e-6);
}

TEST_F(Sd3PromptTest, KeepsResultsAndThenNeedsNoEncoders) {
  Conditioning first;
  {
    Sd3PromptEncoder encoder(model_folder(), keeping());
    EXPECT_FALSE(encoder.holds_encoders());
    first = encoder.encode(prompts).embeddings;
    EXPECT_EQ(encoder.encoded(), 4);
    EXPECT_TRUE(encoder.holds_encoders());
    encoder.drop_encoders();
    EXPECT_FALSE(encoder.holds_encoders());
    encoder.encode(prompts);
    EXPECT_EQ(encoder.loads(), 1);
    encoder.encode({"another"});
    EXPECT_EQ(encoder.loads(), 2);
  }
  Sd3PromptEncoder encoder(model_folder(), keeping());
  const Sd3Prompt again = encoder.encode(prompts);
  EXPECT_EQ(encoder.loads(), 0);
  EXPECT_EQ(encoder.encoded(), 0);
  EXPECT_TRUE(at::equal(again.embeddings.context, first.context));
  EXPECT_TRUE(at::equal(again.embeddings.pooled, first.pooled));
  EXPECT_EQ(again.warnings.size(), 1u) << "what is cut is said of kept results too";
}

TEST_F(Sd3PromptTest, AnotherLengthTypeModelOrTokenizerIsAnotherEntry) {
  Sd3PromptEncoder(model_folder(), keeping()).encode({"a cat"});
  Sd3PromptOptions longer = keeping(), half = keeping(), without = keeping();
  longer.t5_tokens = 21;
  half.dtype = at::kBFloat16;
  without.use_t5 = false;
  const auto other = copied_model();
  TensorList weights;
  {
    const SafetensorsFile file(other / "text_encoder/model.safetensors");
    for (const auto& [name, entry] : file.tensors())
      weights.emplace_back(name, file.load(name) * 2);
  }
  write_safetensors(other / "text_encoder/model.safetensors", weights);
  const auto shorter = cache / "shorter";  // the same weights, one merge less
  fs::copy(model_folder(), shorter, fs::copy_options::recursive);
  const std::string merges = read_text(shorter / "tokenizer_2/merges.txt");
  write_text(shorter / "tokenizer_2/merges.txt",
             merges.substr(0, merges.rfind('\n', merges.size() - 2) + 1));
  for (auto& [folder, o] : {std::pair{model_folder(), longer},
                            {model_folder(), half},
                            {model_folder(), without},
                            {other, keeping()},
                            {shorter, keeping()}}) {
    Sd3PromptEncoder encoder(folder, o);
    EXPECT_THAT(encoder.encode({"a cat"}).warnings, IsEmpty());
    EXPECT_EQ(encoder.encoded(), 1);
  }
}

TEST_F(Sd3PromptTest, TakesTheVariantThatIsAskedFor) {
  const auto other = copied_model();
  for (const char* component : {"text_encoder", "text_encoder_2"}) {
    fs::rename(other / component / "model.safetensors",
               other / component / "model.fp16.safetensors");
  }
  Sd3PromptOptions o = options();
  o.use_t5 = false;
  o.variant = "bf16";
  EXPECT_THAT(
      message_of([&] { Sd3PromptEncoder encoder(other, o); }),
      HasSubstr("has no weights of variant 'bf16' and no plain ones; it has the variants fp16"));
  o.variant = "fp16";
  EXPECT_LT(relative_error(Sd3PromptEncoder(other, o).encode(prompts).embeddings.context,
                           reference.load("no_t5.context")),
            1e-5);
}

// As from a single-file checkpoint: the folder holds configurations and tokenizers alone.
TEST_F(Sd3PromptTest, TakesWeightsThatLieElsewhere) {
  const auto other = copied_model();
  std::map<std::string, ComponentWeights> weights;
  for (const char* component : {"text_encoder", "text_encoder_2", "text_encoder_3"}) {
    weights[component] = open_component(model_folder() / component);
    for (const auto& file : weights[component].files)
      fs::remove(other / component / file.filename());
  }
  Sd3PromptEncoder encoder(other, options(),
                           [&](const std::string& component) { return weights.at(component); });
  EXPECT_LT(
      scaled_error(encoder.encode(prompts).embeddings.context, reference.load("full.context")),
      1e-5);
}

TEST_F(Sd3PromptTest, DamagedEntriesAreMadeAnewWithAWarning) {
  const auto encode = [&](const std::string& prompt) {
    Sd3PromptEncoder encoder(model_folder(), keeping());
    const Sd3Prompt out = encoder.encode({prompt});
    EXPECT_EQ(encoder.encoded(), out.warnings.empty() ? 0 : 1);
    return out;
  };
  const Conditioning want =
      Sd3PromptEncoder(model_folder(), keeping()).encode({"a cat"}).embeddings;
  EXPECT_THAT(encode("a cat").warnings, IsEmpty());
  const fs::path entry = only_entry();
  const std::string whole = read_text(entry);

  std::ofstream(entry, std::ios::binary) << whole.substr(0, whole.size() / 2);
  Sd3Prompt got = encode("a cat");
  EXPECT_THAT(got.warnings,
              ElementsAre(HasSubstr("of the prompt 'a cat' is made anew: [safetensors]")));
  EXPECT_TRUE(at::equal(got.embeddings.context, want.context));
  EXPECT_THAT(encode("a cat").warnings, IsEmpty()) << "the new one is good";

  std::string flipped = whole;
  flipped[flipped.size() / 2] ^= 1;
  std::ofstream(entry, std::ios::binary) << flipped;
  EXPECT_THAT(encode("a cat").warnings, ElementsAre(HasSubstr("its content is damaged")));

  // A file of another prompt under this one's name.
  Sd3PromptEncoder(model_folder(), keeping()).encode({"a dog"});
  for (const auto& file : fs::directory_iterator(cache)) {
    if (file.path() != entry) fs::rename(file.path(), entry);
  }
  got = encode("a cat");
  EXPECT_THAT(got.warnings, ElementsAre(HasSubstr("it is of another prompt or model")));
  EXPECT_TRUE(at::equal(got.embeddings.context, want.context));
}

TEST_F(Sd3PromptTest, PromptsThatAreNotUtf8AreKeptToo) {
  const std::string prompt = "cat \xFF\xC3";
  const Conditioning first =
      Sd3PromptEncoder(model_folder(), keeping()).encode({prompt}).embeddings;
  Sd3PromptEncoder encoder(model_folder(), keeping());
  EXPECT_TRUE(at::equal(encoder.encode({prompt}).embeddings.context, first.context));
  EXPECT_EQ(encoder.encoded(), 0);
}

TEST_F(Sd3PromptTest, ResultsMayTakePartInTraining) {
  const Tensor context =
      Sd3PromptEncoder(model_folder(), options()).encode({"a cat"}).embeddings.context;
  Tensor w = at::ones({24}).requires_grad_(true);
  (context * w).sum().backward();
  EXPECT_LT(relative_error(w.grad(), context.sum(at::IntArrayRef{0, 1})), 1e-5);
}

TEST_F(Sd3PromptTest, RefusesWhatDoesNotFit) {
  Sd3PromptEncoder encoder(model_folder(), options());
  EXPECT_THAT(message_of([&] { encoder.encode({}); }),
              HasSubstr("[sd3_prompt] expected at least one prompt, got none"));
  Sd3PromptOptions o = options();
  o.context_dim = 19;
  EXPECT_THAT(message_of([&] { Sd3PromptEncoder(model_folder(), o).encode({"a"}); }),
              HasSubstr("at most 19 channels together, got 20"));
  o.context_dim = 25;
  EXPECT_THAT(message_of([&] { Sd3PromptEncoder(model_folder(), o).encode({"a"}); }),
              HasSubstr("expected T5 tokens of 25 channels, got (1, 20, 24)"));
  o = options();
  o.t5_tokens = 0;
  EXPECT_THAT(message_of([&] { Sd3PromptEncoder bad(model_folder(), o); }),
              HasSubstr("expected t5_tokens and batch of at least 1"));
  EXPECT_THAT(message_of([&] { Sd3PromptEncoder bad(model_folder() / "absent", options()); }),
              HasSubstr("the model folder is incomplete"));
}

}  // namespace
}  // namespace vggflow
