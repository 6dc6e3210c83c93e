#pragma once
// Reads tensors from PyTorch's zip files (.pth, .pt, .bin) without running what is in them. A
// pickle is a program; this machine knows the few instructions that torch.save needs for
// dictionaries of tensors and refuses every other one by name, so nothing of the file is ever
// executed. Allowed globals: collections.OrderedDict, torch._utils._rebuild_tensor_v2,
// torch._utils._rebuild_parameter and torch.<type>Storage. fuzz/pickle_fuzz.cpp throws random bytes
// at it.

#include <filesystem>
#include <memory>

#include "vggflow/io/mapped_file.h"
#include "vggflow/io/safetensors.h"

namespace vggflow {

/// The tensors of a file, in its order; the keys of nested dictionaries are joined by dots and
/// leaves that are no tensors (step counts, settings) are left out. The tensors view the mapped
/// file (see mapped_file.h): they must not be written to. Where the storages were saved from
/// ('cuda:0') is ignored, and so are requires_grad and hooks.
TensorList read_torch_pickle(const std::filesystem::path& file);
/// The same from bytes.
TensorList read_torch_pickle(const std::shared_ptr<const MappedFile>& bytes);

}  // namespace vggflow
