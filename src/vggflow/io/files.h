#pragma once
// Files that are either whole or absent: written under a temporary name, flushed to the disk,
// renamed; folders get their completion mark last.

#include <filesystem>
#include <functional>
#include <span>
#include <string>

namespace vggflow {

/// Collects bytes into a temporary file beside `target`; commit() renames it. Without commit the
/// temporary is removed. Throws with the system's reason (no space, no permission) and leaves what
/// was there.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, size_t size);
  void write(const std::string& text) { write(text.data(), text.size()); }
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;
};

void write_text(const std::filesystem::path& file, const std::string& text);
std::string read_text(const std::filesystem::path& file);

/// Makes a folder with all its parents; one clear error where that is not possible or it is not
/// writable.
void make_writable_folder(const std::filesystem::path& folder);

/// Fills a folder under a temporary name, marks it complete and renames it to `target` (an older
/// one is replaced).
void write_folder(const std::filesystem::path& target,
                  const std::function<void(const std::filesystem::path&)>& fill);

/// Whether `folder` holds its completion mark.
bool is_complete(const std::filesystem::path& folder);

}  // namespace vggflow
