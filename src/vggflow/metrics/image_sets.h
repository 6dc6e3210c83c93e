#pragma once
// Sets of images with their prompts: folders, lists, or tensors that a model has just made. Pixels
// are read when they are asked for, so that a set may be larger than the memory.

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "vggflow/dist/group.h"
#include "vggflow/ops/dual.h"

namespace vggflow {

struct ImageSet {
  std::string name;                       ///< what reports call it
  std::vector<std::string> labels;        ///< a file's path, one per image
  std::vector<std::string> prompts;       ///< one per image; empty where there is none
  std::vector<std::string> groups;        ///< images of one group are compared with each other: the
                                          ///< prompt, or else the subfolder
  std::function<Tensor(int64_t)> pixels;  ///< image i, (3, H, W) in [0, 1]
  int64_t left_out = 0;  ///< images without a prompt beside images with one, such as grids
  std::vector<std::string> unread =
      {};  ///< files of folders that are images of a kind that is not read, such as WebP
  int64_t size() const { return static_cast<int64_t>(prompts.size()); }
  int64_t without_prompt() const;
};

/// What becomes of images without a prompt beside images with one.
enum class Unprompted { kLeaveOut, kKeep };

/// "3 files are images of kinds that are not read (expected PNG or JPEG): a.webp, b.gif, ...";
/// empty of none.
std::string unread_note(const std::vector<std::string>& unread);

/// The images of folders (with their subfolders), image files and lists, in the order of their
/// names; the program's own grids (io/grid_file.h) in a folder are none of its images. A list is a
/// table (data/table.h) with a column `image`, `file`, `file_name` or `path`, relative to the list,
/// and one `prompt` or `text`. Otherwise an image's prompt is its PNG's text chunk `prompt` or
/// `parameters` (up to its "Negative prompt:" or "Steps:"), or the text file beside it (cat.png,
/// cat.txt).
ImageSet read_image_set(const std::vector<std::filesystem::path>& sources,
                        Unprompted unprompted = Unprompted::kLeaveOut);

/// Images (N, 3, H, W) in [0, 1] with their prompts.
ImageSet image_set_of(std::string name, const Tensor& images, std::vector<std::string> prompts);

/// The images of `set` at `places`, in that order.
ImageSet subset(const ImageSet& set, const std::vector<int64_t>& places);

/// Throws on every rank where the images and prompts of `set` are not rank 0's.
void agree_on_images(const Group& group, const ImageSet& set);

/// Places of each group's images; groups in order of their first image.
struct GroupedImages {
  std::vector<std::string> groups;
  std::vector<std::vector<int64_t>> places;
};
GroupedImages group_images(const ImageSet& set);

/// The first `count` images of every prompt; refuses a prompt that has fewer.
ImageSet first_of_each(const ImageSet& set, int64_t count);

/// The same set with images resized to size x size (bicubic, antialiased, clipped), the first that
/// is stretched with a line in the log; 0 leaves them as they are.
ImageSet resized(ImageSet set, int64_t size);

/// Calls f(first place, images (B, 3, H, W)) on runs of at most `batch` images of one size, fewer
/// where that many would be larger than 64 of 1024 x 1024. The runs are dealt to the processes of
/// `group` in turn, and f is called for this one's. Returns the lengths of all runs.
std::vector<int64_t> for_batches(const ImageSet& set, int64_t batch,
                                 const std::function<void(int64_t first, const Tensor& images)>& f,
                                 const Group& group = {});

}  // namespace vggflow
