#pragma once
// What a file is that is not what it is taken for, told by its first bytes: a Git LFS pointer, a
// saved web page, quantised weights. One table for every reader of files: weights, images,
// configurations, tokenizers, prompts.

#include <string>
#include <string_view>
#include <vector>

namespace vggflow {

/// "is a GGUF file of quantised weights, which are not read: get ..." for bytes that no reader here
/// takes and that are known; empty for all else.
std::string foreign_kind(std::string_view bytes);

/// Throws "WHERE is a Git LFS pointer ..." for bytes of such a kind; `where` names reader and file:
/// "[prompts] a.txt".
void refuse_foreign(std::string_view bytes, const std::string& where);

/// Whether the bytes begin as torch.save's do: a zip archive, or the pickle of PyTorch before 1.6.
bool looks_like_torch(std::string_view bytes);

/// How tensors of these names are quantised, with an example: "scaled fp8
/// ('x.scale_weight')"; empty for plain weights. Such files hold floating point of other values
/// than the weights, or bytes.
std::string quantised_kind(const std::vector<std::string>& names);

}  // namespace vggflow
