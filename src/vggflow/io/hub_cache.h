#pragma once
// The Hugging Face cache on this machine: where a repository's files lie once they are there.

#include <filesystem>
#include <string>

namespace vggflow {

/// "org/name", each of letters, digits, '.', '_' and '-', and no part that is a way out of the cache.
bool is_repo_id(const std::string& id);

/// Where the cache keeps a repository, there or not: CACHE/models--org--name, CACHE being $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub.
std::filesystem::path cached_repo(const std::string& id);

}  // namespace vggflow
