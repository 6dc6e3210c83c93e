#include "vggflow/families/registry.h"

#include "vggflow/families/nano/family.h"
#include "vggflow/families/nano/write_model.h"
#include "vggflow/families/sd3/family.h"
#include "vggflow/families/sd3/lora_names.h"
#include "vggflow/families/sd3/write_model.h"

namespace vggflow {
namespace {

ModelUse use_of(const ModelOptions& o) {
  return {model_path(o).string(), o.precision, o.checkpointing, o.offload, o.weights};
}

std::vector<Family>& rows() {
  static std::vector<Family> list{
      {.name = "nano",
       .sign = "vocabulary.txt (nano)",
       .claims = is_nano_folder,
       .model =
           [](const ModelOptions& o, const FamilyModel* opened) {
             return nano_family(use_of(o), o.sd3.taesd, opened);
           },
       .check = [](const ModelOptions& o) { check_nano_settings(o.model, o.sd3, o.offload); },
       .has_own_prompts = nano_draws_emoji,
       .write = [](const ModelOptions& o, const std::filesystem::path& out,
                   const ModelCopy& copy) { return write_nano(model_path(o), out, copy); }},
      {.name = "sd3",
       .sign = "model_index.json (Stable Diffusion 3 in diffusers' layout)",
       .claims = may_be_sd3,
       .model = [](const ModelOptions& o,
                   const FamilyModel* opened) { return sd3_family(use_of(o), o.sd3, opened); },
       .write =
           [](const ModelOptions& o, const std::filesystem::path& out, const ModelCopy& copy) {
             return write_sd3(Sd3Files(model_path(o).string(), o.sd3), out, copy);
           },
       .lora_names = mmdit_lora_names()}};
  return list;
}

}  // namespace

const std::vector<Family>& families() { return rows(); }

void add_family(const Family& family) { rows().insert(rows().begin(), family); }

const Family* family_of(const std::filesystem::path& path) {
  for (const Family& family : rows()) {
    if (family.claims(path)) return &family;
  }
  return nullptr;
}

}  // namespace vggflow
