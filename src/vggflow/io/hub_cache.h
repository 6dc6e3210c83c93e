#pragma once
// Where the Hugging Face cache is.

#include <filesystem>
#include <string>

namespace vggflow {

/// `text` with "~" or "~user" at its begin and $NAME or ${NAME} anywhere replaced, as Python's
/// os.path.expandvars(os.path.expanduser(text)): what is not known stays as it is.
std::filesystem::path expand_path(const std::string& text);

/// The folder of the cache by huggingface_hub's variables in its order (its constants.py), each
/// expanded: $HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub,
/// ~/.cache/huggingface/hub.
std::filesystem::path hub_cache();

}  // namespace vggflow
