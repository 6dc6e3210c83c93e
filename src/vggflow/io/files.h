#pragma once
// Files that are either whole or absent: written under a temporary name that nobody can guess,
// flushed to the disk, renamed, and their folder flushed too, so that what comes later cannot be
// there without what came before; folders get their completion mark last.

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

/// Fills a folder under a temporary name, marks it complete and renames it to `target`. An older
/// one is exchanged with it and then removed; where the file system cannot exchange, it is put
/// aside first, and a crash in between leaves neither under that name.
void write_folder(const std::filesystem::path& target,
                  const std::function<void(const std::filesystem::path&)>& fill);

/// A name in the folder of `target` that nothing has and nobody can guess, for what is not whole
/// yet.
std::filesystem::path temporary_beside(const std::filesystem::path& target);
/// Removes what carries such a name in `folder`: what dead processes left. Only for whoever has the
/// folder for itself (FolderLock).
void remove_temporaries(const std::filesystem::path& folder);

/// Whether `folder` holds its completion mark.
bool is_complete(const std::filesystem::path& folder);

}  // namespace vggflow
