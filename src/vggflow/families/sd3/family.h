#pragma once
// The family's row in families/registry.cpp.

#include <filesystem>
#include <memory>

#include "vggflow/families/sd3/model.h"
#include "vggflow/flow/model_shape.h"

namespace vggflow {

/// A folder in diffusers' layout or of the Hugging Face cache, or what is no folder: an org/name or
/// a single file.
bool may_be_sd3(const std::filesystem::path& path);

/// Where nothing of an org/name lies in the cache and it is one of Stable Diffusion 3's releases,
/// its published sizes are taken; a model that is there and does not open is an error.
std::shared_ptr<const FamilyModel> sd3_family(const ModelUse& use, const Sd3Options& options,
                                              const FamilyModel* opened);

double clip_text_parameters(const ClipTextOptions& options);
double t5_parameters(const T5Options& options);

}  // namespace vggflow
