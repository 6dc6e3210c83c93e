#pragma once
// The family's row in families/registry.cpp.

#include <filesystem>
#include <memory>
#include <string>

#include "vggflow/families/sd3/model.h"
#include "vggflow/flow/model_shape.h"

namespace vggflow {

bool is_nano_folder(const std::filesystem::path& folder);
/// Refuses settings of Stable Diffusion 3 (sd3.taesd is a place, which may be given for all models)
/// and offloading.
void check_nano_settings(const std::string& model, const Sd3Options& sd3, Offload offload);
/// Whether its states are images: such models were trained on the emoji, and have their captions
/// and their judge.
bool nano_draws_emoji(const std::filesystem::path& folder);
/// `taesd`: where the decoder of a latent model lies.
std::shared_ptr<const FamilyModel> nano_family(const ModelUse& use, const std::string& taesd,
                                               const FamilyModel* opened);

}  // namespace vggflow
