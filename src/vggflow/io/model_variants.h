#pragma once
// Variants of a component's weights, such as fp16: which files are there, and which are taken.

#include <filesystem>
#include <set>
#include <string>

namespace vggflow {

/// The variants ("fp16") for which a component's folder holds weights; "" stands for the plain files.
std::set<std::string> variants_in(const std::filesystem::path& folder);

/// The variant that is taken where `wanted` is asked for, "" being the plain files: it itself, else, as in diffusers, the plain files, else, where
/// none was asked for, the only variant there is. An error where that leaves a choice or nothing.
std::string variant_to_open(const std::filesystem::path& folder, const std::string& wanted);

}  // namespace vggflow
