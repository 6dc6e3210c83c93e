#pragma once
// Figures of the base model's images, which runs of the same model and evaluation keep for each
// other: all runs of a comparison draw the same ones.

#include <filesystem>
#include <optional>
#include <string>

#include "vggflow/io/safetensors.h"

namespace vggflow {

class BaseCache {
 public:
  /// A file of `folder` whose name is a hash of `identity`: what tells these figures from others
  /// there.
  BaseCache(const std::filesystem::path& folder, std::string identity);
  /// None where they are not there, or the file is damaged (a line of the log says so).
  std::optional<TensorMap> read() const;
  /// In one piece: another run may read or write at the same time. Where that fails, a line of the
  /// log says so, and nothing else follows of it.
  void write(const TensorMap& figures) const;
  const std::filesystem::path& file() const { return file_; }

 private:
  std::string identity_;
  std::filesystem::path file_;
};

}  // namespace vggflow
