#include "vggflow/io/grid_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "vggflow/core/json.h"
#include "vggflow/io/image_file.h"
#include "vggflow/io/jsonl.h"

namespace vggflow {
namespace {

// The chunks that make a PNG a grid: its columns, and its captions as a JSON array.
constexpr const char *kColumns = "vggflow.grid_columns", *kCaptions = "vggflow.grid_captions";
constexpr int64_t kGap = 2, kMostColumns = 8;

Image cut(const Image& grid, int64_t left, int64_t top, int64_t width, int64_t height) {
  Image cell{width, height, {}};
  for (int64_t y = top; y < top + height; ++y) {
    const auto row = grid.rgb.begin() + static_cast<std::ptrdiff_t>(3 * (y * grid.width + left));
    cell.rgb.insert(cell.rgb.end(), row, row + static_cast<std::ptrdiff_t>(3 * width));
  }
  return cell;
}

std::vector<std::string> captions_of(const std::string& json) {
  const Json list = try_parse_json<Json>(json);
  std::vector<std::string> captions;
  if (!list.is_array()) return captions;
  for (const Json& each : list) captions.push_back(each.is_string() ? each.get<std::string>() : "");
  return captions;
}

int64_t number_of(const std::string& text) {
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::optional<GridLabels> labels_of(const TextChunks& text) {
  if (!is_grid(text) || !text.contains(kCaptions)) return std::nullopt;
  GridLabels labels{number_of(text.at(kColumns)), captions_of(text.at(kCaptions))};
  if (labels.columns < 1 || labels.columns > std::ssize(labels.captions)) return std::nullopt;
  return labels;
}

}  // namespace

ImageGrid grid_of(const at::Tensor& images) {
  const int64_t columns = std::min(kMostColumns, images.size(0));
  return {image_grid(images, columns, 1, kGap), columns};
}

void write_grid(const std::filesystem::path& file, const ImageGrid& grid,
                const std::vector<std::string>& captions, TextChunks more) {
  more[kColumns] = fmt::to_string(grid.columns);
  more[kCaptions] = json_text(Json(captions), -1, /*ascii=*/true);
  write_png(file, grid.image, more);
}

bool is_grid(const TextChunks& text) { return text.contains(kColumns); }

std::optional<GridLabels> read_grid_labels(const std::filesystem::path& file) {
  return labels_of(read_image_text(file));
}

std::optional<GridCells> read_grid(const std::filesystem::path& file) {
  const ImageFile read = read_image(file);
  const auto labels = labels_of(read.text);
  if (!labels) return std::nullopt;
  GridCells cells{{}, labels->captions};
  const int64_t columns = labels->columns, count = std::ssize(cells.captions);
  const int64_t rows = (count + columns - 1) / columns;
  const int64_t width = (read.image.width - kGap) / columns - kGap,
                height = (read.image.height - kGap) / rows - kGap;
  if (width < 1 || height < 1) return std::nullopt;
  for (int64_t i = 0; i < count; ++i)
    cells.images.push_back(cut(read.image, kGap + i % columns * (width + kGap),
                               kGap + i / columns * (height + kGap), width, height));
  return cells;
}

}  // namespace vggflow
