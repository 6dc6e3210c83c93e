#pragma once
// What is written, checked and only then given its name: a file or folder that fails its checks is
// never seen under the name that was asked for.

#include <filesystem>
#include <string>

namespace vggflow {

/// A temporary name beside `target`, with its ending. Write to path(), check it, then commit();
/// without that it is removed with what is in it.
class StagedOutput {
 public:
  /// Throws where `target` exists.
  explicit StagedOutput(std::filesystem::path target);
  ~StagedOutput();
  StagedOutput(const StagedOutput&) = delete;
  StagedOutput& operator=(const StagedOutput&) = delete;
  const std::filesystem::path& path() const { return temporary_; }
  /// Renames it. Throws where something took the target's name meanwhile.
  void commit();

 private:
  std::filesystem::path target_, temporary_;
};

/// Refuses a name that reads as a file's ("x.safetensors", "x.ckpt") for what will be a folder;
/// `what` is called so in the error.
void expect_folder_name(const std::filesystem::path& target, const std::string& what);

}  // namespace vggflow
