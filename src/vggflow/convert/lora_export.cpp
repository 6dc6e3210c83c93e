#include "vggflow/convert/lora_export.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "vggflow/convert/sd3_write.h"
#include "vggflow/core/error.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/families/open_model.h"
#include "vggflow/io/staged_output.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/weights/lora_read.h"

namespace vggflow {
namespace {

LoraLayout layout_of(const std::string& name) {
  for (const LoraLayout layout : {LoraLayout::kDiffusers, LoraLayout::kPeft, LoraLayout::kKohya}) {
    if (name == name_of(layout)) return layout;
  }
  fail("[export] expected format diffusers, peft, kohya or merged, got '{}'", name);
}

// What a change of the weights became after rounding, over all adapted layers.
struct Rounding {
  double worst = 0;  ///< largest relative error of a layer's change
  std::string worst_name;
};

// Holds the weights that were written against base + change: everything but the rounding must be
// exact, and no change may vanish in it.
Rounding compare_merged(const NanoModel& written, const NanoModel& merged, const NanoModel& base,
                        at::ScalarType dtype, const std::string& folder) {
  const auto got = written.parameters(), want = merged.parameters(), before = base.parameters();
  VGGFLOW_CHECK(got.size() == want.size(), "[export] {} holds {} tensors, {} were written", folder,
                got.size(), want.size());
  Rounding rounding;
  for (size_t i = 0; i < got.size(); ++i) {
    VGGFLOW_CHECK(at::equal(*got[i].tensor, want[i].tensor->detach().to(dtype).to(at::kFloat)),
                  "[export] {} does not read back as written: '{}' differs", folder, got[i].name);
    const double change = (*want[i].tensor - *before[i].tensor).norm().item<double>();
    if (change == 0) continue;
    VGGFLOW_CHECK(!at::equal(*got[i].tensor, before[i].tensor->to(dtype).to(at::kFloat)),
                  "[export] the change of '{}' is lost by rounding to {}: write fp32", got[i].name,
                  name_of(dtype));
    const double error = (*got[i].tensor - *want[i].tensor).norm().item<double>() / change;
    if (error >= rounding.worst) rounding = {error, got[i].name};
  }
  return rounding;
}

Metadata merged_metadata(const ExportOptions& options, const LoraFile& lora) {
  Metadata metadata = lora.metadata;
  metadata.erase("lora_adapter_metadata");
  metadata["vggflow.merged_lora"] = std::filesystem::path(options.lora).filename();
  return metadata;
}

std::string merged_line(const ExportOptions& options, size_t layers, double worst,
                        const std::string& worst_name, double error) {
  return fmt::format(
      "wrote {}: model with {} layers merged, {}; weights read back exactly, rounding moves a "
      "layer's change by at most {:.1e} of it ('{}'), "
      "the network's output by {:.1e}",
      options.out, layers, options.dtype, worst, worst_name, error);
}

std::string export_merged_sd3(const ExportOptions& options, const LoraFile& lora) {
  const auto dtype = dtype_of(options.dtype);
  const Sd3Files files(options.model, options.sd3);
  double error = 0;
  const auto check = [&](const Sd3Files& written) {
    // One network after the other: in fp32 two of them may not fit.
    const auto outputs = [](const Sd3Files& model,
                            const std::vector<std::vector<LoraLayer>>& each) {
      const MmditNetwork network(load_sd3_transformer(model, at::kFloat));
      std::vector<Tensor> all;
      for (const auto& layers : each) all.push_back(denoiser_of(network)(layers));
      return all;
    };
    const auto before = outputs(files, {{}, lora.layers});
    error = check_merged_output(before[0], before[1], outputs(written, {{}})[0], dtype);
  };
  const Sd3Written seen = write_sd3(files, options.out,
                                    {.dtype = dtype,
                                     .adapters = lora.layers,
                                     .metadata = merged_metadata(options, lora),
                                     .check = check});
  return merged_line(options, seen.merged, seen.worst_rounding, seen.worst_name, error);
}

std::string export_merged(const ExportOptions& options, const LoraFile& lora) {
  VGGFLOW_CHECK(!options.model.empty(),
                "[export] format merged needs the base model: pass --model FOLDER");
  if (!NanoModel::is_folder(options.model)) return export_merged_sd3(options, lora);
  const auto dtype = dtype_of(options.dtype);
  expect_folder_name(options.out, "a nano model");
  StagedOutput staged(options.out);
  const auto base = NanoModel::load(options.model, at::kFloat),
             merged = NanoModel::load(options.model, at::kFloat);
  LoraSet set(merged->transformer, lora.layers);
  set.bake();
  merged->save(staged.path(), merged_metadata(options, lora), dtype);
  const auto written = NanoModel::load(staged.path(), at::kFloat);
  const Rounding rounding = compare_merged(*written, *merged, *base, dtype, options.out);
  const Denoiser before = denoiser_of(*base);
  const double error =
      check_merged_output(before({}), before(lora.layers), denoiser_of(*written)({}), dtype);
  staged.commit();
  return merged_line(options, lora.layers.size(), rounding.worst, rounding.worst_name, error);
}

std::string export_layout(const ExportOptions& options, const LoraFile& lora) {
  const LoraLayout layout = layout_of(options.format);
  if (layout == LoraLayout::kPeft) expect_folder_name(options.out, "PEFT's layout");
  StagedOutput staged(options.out);
  const auto model = options.model.empty()
                         ? nullptr
                         : open_flow_model({options.model, Precision::kFp32,
                                            /*checkpointing=*/false, options.sd3});
  const LoadBack seen = write_lora(staged.path(), lora.layers, layout, dtype_of(options.dtype),
                                   lora.metadata, model ? denoiser_of(*model) : Denoiser{});
  staged.commit();
  std::string line = fmt::format(
      "wrote {}: {}, {}, {} tensors, {} layers{}; read back, the layers' outputs differ by at most "
      "{:.1e}",
      options.out, options.format, options.dtype, seen.tensors, seen.layers,
      seen.fresh ? ", fresh (changes nothing)" : "", seen.worst_layer);
  if (model)
    line += fmt::format(", the network's output by {:.1e} (the adapter changes it by {:.1e})",
                        seen.denoiser_error, seen.denoiser_change);
  return line;
}

}  // namespace

Denoiser denoiser_of(const FlowNetwork& network) {
  return [&network](const std::vector<LoraLayer>& layers) {
    at::NoGradGuard no_grad;
    const NetworkInputs o = network.inputs();
    const auto random = [](uint64_t id, at::IntArrayRef shape) {
      return keyed_normal(/*seed=*/2, Purpose::kTest, 0, id, 2, shape);
    };
    const Conditioning conditioning{random(10, {5, o.context_width}), random(20, {o.pooled_width})};
    const auto side = [&](size_t dim) { return std::min<int64_t>(o.state[dim], 32); };
    const Tensor x = random(30, {o.state[0], side(1), side(2)}), t = at::tensor({0.75f, 0.2f});
    if (layers.empty()) return network.velocity(x, t, conditioning);
    const auto merged = network.view();
    LoraSet(merged->network(), layers).bake();
    return merged->velocity(x, t, conditioning);
  };
}

double check_merged_output(const Tensor& base, const Tensor& adapted, const Tensor& merged,
                           at::ScalarType dtype) {
  const double size = adapted.abs().max().item<double>(), bound = denoiser_tolerance(dtype);
  const double error = (merged - adapted).abs().max().item<double>() / size,
               change = (adapted - base).abs().max().item<double>() / size;
  const char* advice =
      "nothing is written: pass --dtype fp32 (of fp16 and bf16, fp16 rounds less), or keep the "
      "adapter a file of its own";
  VGGFLOW_CHECK(error <= bound,
                "[export] rounding every weight to {} moves the network's output by {:.1e} of its "
                "largest value, allowed are {:.0e}; {}",
                name_of(dtype), error, bound, advice);
  VGGFLOW_CHECK(change == 0 || error < change,
                "[export] rounding every weight to {} moves the network's output by {:.1e} of its "
                "largest value, the adapter by {:.1e} only: it "
                "would drown; {}",
                name_of(dtype), error, change, advice);
  return error;
}

std::string export_lora(const ExportOptions& options) {
  VGGFLOW_CHECK(!std::filesystem::exists(options.out),
                "[export] {} exists already: choose another name or remove it", options.out);
  const LoraFile lora = read_lora_as(options.lora, options.lora_text_encoders);
  return options.format == "merged" ? export_merged(options, lora) : export_layout(options, lora);
}

}  // namespace vggflow
