#include "vggflow/eval/model_sets.h"

#include <algorithm>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/core/shipped_files.h"
#include "vggflow/families/open_model.h"
#include "vggflow/io/model_files.h"
#include "vggflow/weights/lora_formats.h"

namespace vggflow {

namespace fs = std::filesystem;

SetSource source_of(const std::string& name) {
  const fs::path path = find_shipped(name);
  if (name == "base") {
    VGGFLOW_CHECK(!fs::exists(path),
                  "[metrics] 'base' is the base model, and there is a folder of that name too: "
                  "write ./base for the folder, or a model's folder for the model");
    return SetSource::kBase;
  }
  if (fs::is_directory(path)) {
    if (is_model_folder(path)) return SetSource::kModel;
    const bool lora = fs::exists(path / "adapter_config.json") || lora_file_in(path);
    return lora ? SetSource::kLora : SetSource::kImages;
  }
  if (path.extension() != ".safetensors" || !fs::exists(path)) return SetSource::kImages;
  const TensorMap tensors = open_weights(path);
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const auto& t) { return t.first.find("lora") != std::string::npos; })
             ? SetSource::kLora
             : SetSource::kModel;
}

void check_set(const std::string& source, const ModelSetOptions& o) {
  ModelOptions flow = o.generator.flow;
  if (source_of(source) == SetSource::kModel) flow.model = source;
  require_prompts(flow, o.prompts);
}

void draw_set(const std::string& source, const ModelSetOptions& o, int64_t skip,
              const fs::path& out, const Group& group) {
  check_set(source, o);
  SampleConfig sampled{
      .out = out.string(),
      .prompts =
          captions_of(make_prompt_source(o.prompts, o.data)
                          ->evaluation(o.split, static_cast<uint64_t>(o.seed), o.prompt_count)),
      .prompts_file = {},
      .images = o.images,
      .seed = o.seed + skip,
      .seeds = {},
      .batch = o.batch,
      .enlarge = 1,
      .threads = 0,
      .device = {},
      .dist = {},
      .generator = o.generator};
  const SetSource kind = source_of(source);
  VGGFLOW_CHECK(kind != SetSource::kImages, "[metrics] {} is no model and no LoRA", source);
  if (kind == SetSource::kModel) sampled.generator.flow.model = source;
  if (kind == SetSource::kLora) {
    sampled.generator.lora = source;
  } else {
    sampled.generator.lora.clear();
    sampled.generator.guide.kind = GuideKind::kNone;
  }
  group.lead([&] {
    VGGFLOW_CHECK(!fs::exists(out) || fs::is_empty(out),
                  "[metrics] {} holds something already, and the images of {} belong there: choose "
                  "another out=FOLDER",
                  out.string(), source);
  });
  log_info("{}: drawing {} images of each of {} prompts", source, o.images, sampled.prompts.size());
  sample_images(sampled, group);
}

}  // namespace vggflow
