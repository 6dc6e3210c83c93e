#pragma once
// Grids of images as the program writes them: PNG files that say of themselves that they are grids,
// and what their cells show.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "vggflow/io/image.h"

namespace vggflow {

/// Images side by side.
struct ImageGrid {
  Image image;
  int64_t columns = 1;
};

/// N images (N, 3, H, W) in [0, 1], eight in a row at most.
ImageGrid grid_of(const at::Tensor& images);

/// A PNG with the captions of its cells, in their order, and what `more` says.
void write_grid(const std::filesystem::path& file, const ImageGrid& grid,
                const std::vector<std::string>& captions, TextChunks more = {});

/// Whether an image with these text chunks is a grid that write_grid wrote.
bool is_grid(const TextChunks& text);

/// What a grid says of its cells.
struct GridLabels {
  int64_t columns = 1;
  std::vector<std::string> captions;
};
/// The same without decoding the image; none of a file that write_grid did not write.
std::optional<GridLabels> read_grid_labels(const std::filesystem::path& file);

/// The cells of a grid with their captions; none of a file that write_grid did not write, such as
/// the grids of earlier programs.
struct GridCells {
  std::vector<Image> images;
  std::vector<std::string> captions;
};
std::optional<GridCells> read_grid(const std::filesystem::path& file);

}  // namespace vggflow
