// Models and adapters as sets of images: what they are told apart by, and that a comparison draws
// the same images for the same seeds.
#include "vggflow/eval/model_sets.h"

#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/eval/metrics_run.h"
#include "vggflow/families/lora.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image_file.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/reference.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;

const std::string kNano = std::string(VGGFLOW_SOURCE_DIR) + "/models/nano";

class ModelSets : public ::testing::Test {
 protected:
  ModelSets() {
    const auto nano = NanoModel::load(kNano, at::kFloat);
    LoraSet set(nano->network(),
                {.rank = 1, .alpha = 1, .targets = {"transformer_blocks.0.attn.to_q"}}, 1);
    write_lora(folder / "fresh.safetensors", set.adapters(), LoraLayout::kDiffusers, at::kFloat);
    for (const NamedTensor& p : set.parameters()) *p.tensor = at::full(p.tensor->sizes(), 0.3);
    write_lora(folder / "pushed.safetensors", set.adapters(), LoraLayout::kDiffusers, at::kFloat);
    write_lora(folder / "peft", set.adapters(), LoraLayout::kPeft, at::kFloat);
  }
  MetricsConfig config(const std::string& a, const std::string& b) const {
    MetricsConfig c;
    c.a = {path(a)};
    c.b = {b};
    c.out = path("out");
    c.features = {"pixels-8x8"};
    c.panel = {"colorfulness"};
    c.models.prompt_count = 2;
    c.models.images = 3;
    c.models.generator.flow.model = kNano;
    c.models.generator.time_grid.steps = 2;
    return c;
  }
  std::string path(const std::string& name) const { return (folder / name).string(); }
  std::vector<uint8_t> pixels(const std::string& set, const std::string& name) const {
    return read_image(folder / "out" / set / name).image.rgb;
  }
  Json result() const { return Json::parse(read_text(folder / "out/metrics.json")); }
  const testing::TemporaryFolder folder;
};

TEST_F(ModelSets, AreToldFromImages) {
  fs::create_directories(folder / "images");
  EXPECT_EQ(source_of(path("images")), SetSource::kImages);
  fs::create_directories(folder / "diffusers");
  fs::copy_file(testing::models_testdata("lora/lora_state_dict.bin"),
                folder / "diffusers/pytorch_lora_weights.bin");
  EXPECT_EQ(source_of(path("diffusers")), SetSource::kLora) << "saved by torch";
  EXPECT_EQ(source_of(path("absent.safetensors")), SetSource::kImages);
  EXPECT_EQ(source_of(kNano), SetSource::kModel);
  EXPECT_EQ(source_of(kNano + "/model.safetensors"), SetSource::kModel);
  EXPECT_EQ(source_of(path("fresh.safetensors")), SetSource::kLora);
  EXPECT_EQ(source_of(path("peft")), SetSource::kLora);
  EXPECT_EQ(source_of("base"), SetSource::kBase);
  const fs::path before = fs::current_path();
  fs::create_directories(folder / "base");
  fs::current_path(folder.path());
  EXPECT_THAT(
      message_of([] { source_of("base"); }),
      HasSubstr("'base' is the base model, and there is a folder of that name too: write ./base"));
  EXPECT_EQ(source_of("./base"), SetSource::kImages);
  fs::current_path(before);
}

TEST_F(ModelSets, AnAdapterThatChangesNothingDrawsTheBasesImages) {
  run_metrics(config("fresh.safetensors", "base"));
  for (const char* name : {"00000.png", "00005.png"}) {
    EXPECT_EQ(pixels("a", name), pixels("b", name)) << name;
    EXPECT_NE(pixels("b", name), pixels("base", name)) << "other seeds";
  }
  int changes = 0;
  const Json found = result();
  for (const Json& m : found["by_prompt"]) {
    if (m["change"].is_null()) continue;
    EXPECT_EQ(m["change"]["mean"].get<double>(), 0) << m.dump();
    changes += 1;
  }
  EXPECT_GE(changes, 2) << "colourfulness and diversity";
}

TEST_F(ModelSets, AnAdapterIsHeldAgainstAModelsFolder) {
  run_metrics(config("pushed.safetensors", kNano));
  EXPECT_NE(pixels("a", "00000.png"), pixels("b", "00000.png"));
  EXPECT_THAT(message_of([&] { run_metrics(config("pushed.safetensors", "base")); }),
              HasSubstr("holds something already"));
}

}  // namespace
}  // namespace vggflow
