#include "vggflow/families/sd3/write_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "vggflow/core/error.h"
#include "vggflow/core/foreign_file.h"
#include "vggflow/core/json.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/families/sd3/mmdit_network.h"
#include "vggflow/families/sd3/original_names.h"
#include "vggflow/flow/network_probe.h"
#include "vggflow/io/files.h"
#include "vggflow/io/staged_output.h"
#include "vggflow/weights/frozen_weights.h"
#include "vggflow/weights/lora_formats.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

// One tensor of diffusers' layout: what the model has, and what becomes of it.
struct Piece {
  Tensor base;  // a view of the model's file
  const LoraLayer* adapter = nullptr;
  at::ScalarType dtype = at::kFloat;

  Tensor exact() const {
    if (!adapter) return base;
    return base.to(at::kFloat) + adapter->scale * at::matmul(adapter->b, adapter->a);
  }
  Tensor rounded() const { return exact().to(dtype); }
};
using Pieces = std::map<std::string, std::map<std::string, Piece>>;  // by component and name

// Every adapter has one matrix of its shape.
void attach(std::map<std::string, Piece>& transformer, const std::vector<LoraLayer>& adapters) {
  std::vector<std::string> problems;
  for (const LoraLayer& layer : adapters) {
    const auto found = transformer.find(layer.path + ".weight");
    if (found == transformer.end()) {
      problems.push_back(fmt::format("no layer '{}'", layer.path));
    } else if (const Tensor& w = found->second.base;
               w.dim() != 2 || w.size(0) != layer.b.size(0) || w.size(1) != layer.a.size(1)) {
      problems.push_back(fmt::format("'{}' is ({}), its adapter is for ({}, {})", layer.path,
                                     fmt::join(w.sizes().vec(), ", "), layer.b.size(0),
                                     layer.a.size(1)));
    } else {
      found->second.adapter = &layer;
    }
  }
  VGGFLOW_CHECK(problems.empty(), "[export] the adapters do not fit the transformer: {}",
                examples_of(problems));
}

// Holds a component's weights against the network of its configuration, as opening the model does.
// In the weights' own dtype, which copies nothing.
void expect_component(const Sd3Files& files, const std::string& component,
                      const ComponentWeights& weights) {
  const fs::path folder = files.folder(component);
  const auto number = std::find_if(weights.tensors.begin(), weights.tensors.end(),
                                   [](const auto& t) { return t.second.is_floating_point(); });
  const at::ScalarType dtype =
      number == weights.tensors.end() ? at::kFloat : number->second.scalar_type();
  if (component == "transformer") {
    load_sd3_transformer(files, dtype);
  } else if (component == "vae") {
    load_frozen<AutoencoderKl>(AutoencoderKlOptions::read(folder / "config.json"), weights, dtype);
  } else if (component == "text_encoder_3") {
    T5Encoder::load(T5Options::read(folder), weights, dtype);
  } else {
    ClipTextModel::load(ClipTextOptions::read(folder), weights, dtype);
  }
}

Pieces pieces_of(const Sd3Files& files, const ModelCopy& copy) {
  Pieces pieces;
  std::vector<std::string> absent, problems;
  for (const std::string component :
       {"transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"}) {
    if (!files.has_weights(component)) {
      // Stability gives files of the transformer and the autoencoder alone; a folder without them
      // is an incomplete download.
      VGGFLOW_CHECK(files.single_file() || component == "text_encoder_3",
                    "[sd3] {} has no {}, which every model of Stable Diffusion 3 needs",
                    files.root().string(), component);
      absent.push_back(component);
      continue;
    }
    const ComponentWeights weights = files.weights(component);
    try {
      expect_component(files, component, weights);
    } catch (const Error& e) {
      problems.emplace_back(e.what());
    }
    for (const auto& [name, tensor] : weights.tensors) {
      const bool rounds = tensor.is_floating_point() && copy.dtype;
      pieces[component][name] = {tensor, nullptr, rounds ? *copy.dtype : tensor.scalar_type()};
    }
  }
  VGGFLOW_CHECK(problems.empty(),
                "[export] the weights do not fit their configurations, nothing is written: {}",
                examples_of(problems));
  if (!absent.empty()) log_info("missing, skipped: {}", fmt::join(absent, ", "));
  attach(pieces.at("transformer"), copy.adapters);
  return pieces;
}

// ---- the two layouts
// -------------------------------------------------------------------------------------------------

// The files beside the weights: configurations and tokenizers. Those that a model is opened with
// are what their names say: a pointer that was copied would make a folder that does not open.
void copy_settings(const fs::path& from, const fs::path& to) {
  fs::create_directories(to);
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename();
    const std::string ending = entry.path().extension();
    const std::set<std::string> weights{".safetensors", ".bin",     ".pth", ".pt",
                                        ".ckpt",        ".msgpack", ".h5",  ".onnx"};
    const std::set<std::string> opened{".json", ".txt", ".model"};
    if (!entry.is_regular_file() || weights.contains(ending) || name.ends_with(".index.json"))
      continue;
    if (opened.contains(ending))
      refuse_foreign(read_text(entry.path()), fmt::format("[export] {}", entry.path().string()));
    fs::copy_file(entry.path(), to / name);
  }
}

void write_diffusers(const Sd3Files& files, const Pieces& pieces, const fs::path& folder,
                     const Metadata& metadata) {
  nlohmann::json index = read_json_file(files.root() / "model_index.json");
  for (auto& [component, what] : index.items()) {
    if (!what.is_array()) continue;
    const std::string network =
        component.starts_with("tokenizer")
            ? "text_encoder" + component.substr(std::string("tokenizer").size())
            : component;
    const bool left_out =
        (network == "vae" || network.starts_with("text_encoder")) && !pieces.contains(network);
    if (left_out) what = {nullptr, nullptr};
    if (!left_out && files.has(component))
      copy_settings(files.folder(component), folder / component);
  }
  write_text(folder / "model_index.json", json_text(index, 2) + "\n");
  for (const auto& [component, tensors] : pieces) {
    std::vector<LazyTensor> all;
    for (const auto& [name, piece] : tensors)
      all.push_back({name, piece.dtype, piece.base.sizes().vec(),
                     [&piece = piece] { return piece.rounded(); }});
    Metadata header{{"format", "pt"}};
    if (component == "transformer") header.insert(metadata.begin(), metadata.end());
    const bool network = component == "transformer" || component == "vae";
    write_safetensors(folder / component /
                          (network ? "diffusion_pytorch_model.safetensors" : "model.safetensors"),
                      all, header);
  }
}

void write_single_file(const Pieces& pieces, const fs::path& file, const Metadata& metadata) {
  std::map<std::string, std::vector<std::string>> names;
  for (const auto& [component, tensors] : pieces) {
    for (const auto& [name, piece] : tensors) names[component].push_back(name);
  }
  std::vector<LazyTensor> all;
  for (const OriginalSource& source : original_sources(names)) {
    std::vector<const Piece*> parts;
    for (const OriginalTarget& t : source.parts)
      parts.push_back(&pieces.at(t.component).at(t.name));
    for (const Piece* p : parts) {
      VGGFLOW_CHECK(p->dtype == parts[0]->dtype && p->base.sizes() == parts[0]->base.sizes(),
                    "[export] the parts of '{}' differ in dtype or shape: pass --dtype",
                    source.name);
    }
    all.push_back({source.name, parts[0]->dtype,
                   original_shape(source, parts[0]->base.sizes().vec()), [source, parts] {
                     std::vector<Tensor> values;
                     for (const Piece* p : parts) values.push_back(p->rounded());
                     return to_original(source, values);
                   }});
  }
  write_safetensors(file, all, metadata);
}

// ---- the check
// ---------------------------------------------------------------------------------------------------------

WrittenModel check_written(const Sd3Files& written, const Pieces& pieces, const fs::path& out) {
  WrittenModel seen;
  for (const auto& [component, tensors] : pieces) {
    seen.components.push_back(component);
    const TensorMap got = written.weights(component).tensors;
    VGGFLOW_CHECK(got.size() == tensors.size(),
                  "[export] {} holds {} tensors of {}, {} were written", out.string(), got.size(),
                  component, tensors.size());
    for (const auto& [name, piece] : tensors) {
      const auto found = got.find(name);
      const Tensor exact = piece.exact();
      VGGFLOW_CHECK(found != got.end() && found->second.scalar_type() == piece.dtype &&
                        at::equal(found->second, exact.to(piece.dtype)),
                    "[export] {} does not read back as written: '{}' differs", out.string(), name);
      ++seen.tensors;
      if (piece.adapter)
        check_merged_layer(name, piece.base, exact, found->second, piece.dtype, seen);
    }
  }
  return seen;
}

// One network after the other: in fp32 two of them may not fit.
double check_output(const Sd3Files& files, const Sd3Files& written, const ModelCopy& copy) {
  const auto outputs = [](const Sd3Files& model, const std::vector<std::vector<LoraLayer>>& each) {
    const MmditNetwork network(load_sd3_transformer(model, at::kFloat));
    std::vector<Tensor> all;
    for (const auto& adapters : each) all.push_back(probe_velocity(network, adapters));
    return all;
  };
  const auto before = outputs(files, {{}, copy.adapters});
  return check_merged_output(before[0], before[1], outputs(written, {{}})[0],
                             copy.dtype.value_or(at::kFloat));
}

}  // namespace

Sd3Options with_config(const fs::path& folder) {
  Sd3Options options;
  options.config = folder;
  return options;
}

WrittenModel write_sd3(const Sd3Files& files, const fs::path& out, const ModelCopy& copy) {
  const bool one_file = out.extension() == ".safetensors";
  if (!one_file) expect_folder_name(out, "diffusers' layout");
  StagedOutput staged(out);
  const Pieces pieces = pieces_of(files, copy);
  if (one_file) {
    write_single_file(pieces, staged.path(), copy.metadata);
  } else {
    write_folder(staged.path(), [&](const fs::path& folder) {
      write_diffusers(files, pieces, folder, copy.metadata);
    });
  }
  const Sd3Files written(staged.path(), with_config(files.root()));
  WrittenModel seen = check_written(written, pieces, out);
  if (!copy.adapters.empty()) seen.output_error = check_output(files, written, copy);
  seen.layout = one_file ? "one file in Stability's layout" : "a folder in diffusers' layout";
  staged.commit();
  return seen;
}

}  // namespace vggflow
