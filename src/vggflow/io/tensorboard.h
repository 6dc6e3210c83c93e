#pragma once
// TensorBoard event files: TFRecords (length, masked CRC-32C, payload) of the Event protobuf's few
// fields that scalars, images and texts need, encoded by hand.

#include <filesystem>
#include <fstream>
#include <string>

#include "vggflow/io/image.h"

namespace vggflow {

class EventWriter {
 public:
  /// A new file events.out.tfevents.<time>.<host>.<pid> in `folder`, as TensorBoard expects of
  /// every process.
  explicit EventWriter(const std::filesystem::path& folder);
  void scalar(const std::string& tag, double value, int64_t step);
  void image(const std::string& tag, const Image& image, int64_t step);
  /// Markdown.
  void text(const std::string& tag, const std::string& text, int64_t step);

 private:
  void record(const std::string& payload);
  std::ofstream out_;
};

/// CRC-32C (Castagnoli).
uint32_t crc32c(const std::string& bytes);

}  // namespace vggflow
