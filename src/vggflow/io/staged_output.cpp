#include "vggflow/io/staged_output.h"

#include <set>
#include <system_error>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

void expect_free(const fs::path& target) {
  VGGFLOW_CHECK(!fs::exists(target), "[export] {} exists already: choose another name or remove it",
                target.string());
}

}  // namespace

StagedOutput::StagedOutput(fs::path target) : target_(std::move(target)) {
  expect_free(target_);
  if (target_.filename().empty()) target_ = target_.parent_path();  // "folder/"
  temporary_ = temporary_beside(target_);
}

StagedOutput::~StagedOutput() {
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void StagedOutput::commit() {
  expect_free(target_);
  std::error_code error;
  fs::rename(temporary_, target_, error);
  VGGFLOW_CHECK(!error, "[export] cannot give {} its name: {}", target_.string(), error.message());
}

void expect_folder_name(const fs::path& target, const std::string& what) {
  static const std::set<std::string> files{".safetensors", ".sft",     ".ckpt", ".pt",
                                           ".pth",         ".bin",     ".gguf", ".onnx",
                                           ".h5",          ".msgpack", ".zip"};
  VGGFLOW_CHECK(!files.contains(target.extension().string()),
                "[export] {} reads as the name of a file, but {} is a folder: leave out '{}'",
                target.string(), what, target.extension().string());
}

}  // namespace vggflow
