#include "vggflow/report/grid_cards.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include "vggflow/io/grid_file.h"
#include "vggflow/io/image_file.h"
#include "vggflow/report/page.h"
#include "vggflow/report/plot.h"
#include "vggflow/report/thumbnail.h"

namespace vggflow {
namespace {

constexpr size_t kOpen = 12;     // cards that are not folded away
constexpr int64_t kSide = 256;   // of an embedded image
constexpr size_t kNarrow = 110;  // pixels of a card for each of its images

// All of them, or none where one is no grid of the same prompts.
std::vector<GridCells> cells_of(const std::vector<LabelledGrid>& grids) {
  std::vector<GridCells> all;
  for (const LabelledGrid& grid : grids) {
    auto cells = read_grid(grid.file);
    if (!cells || (!all.empty() && all.front().captions != cells->captions)) return {};
    all.push_back(std::move(*cells));
  }
  return all;
}

std::string card(const std::vector<LabelledGrid>& grids, const std::vector<GridCells>& cells,
                 size_t prompt) {
  const std::string& caption = cells.front().captions[prompt];
  std::string shots;
  for (size_t g = 0; g < grids.size(); ++g) {
    const std::string image =
        thumbnail(to_pixels(cells[g].images[prompt]), kSide, caption + ", " + grids[g].label);
    shots += "<div>" + zoomable(image) + "<span>" + escape_html(grids[g].label) + "</span></div>";
  }
  return fmt::format(
      "<figure><div class='shots' style='grid-template-columns:repeat({},1fr)'>{}</div>"
      "<figcaption>{}</figcaption></figure>",
      std::min<size_t>(grids.size(), 4), shots, escape_html(caption));
}

}  // namespace

std::string grid_cards(const std::vector<LabelledGrid>& grids) {
  const std::vector<GridCells> cells = cells_of(grids);
  std::string whole = "<div class='grid2'>";
  for (const LabelledGrid& grid : grids) whole += figure(grid.file, grid.label);
  whole += "</div>";
  if (cells.empty()) return whole;
  const auto cards = [&](size_t from, size_t to) {
    std::string out = fmt::format("<div class='cards' style='--wide:{}px'>",
                                  kNarrow * std::min<size_t>(grids.size(), 4));
    for (size_t i = from; i < to; ++i) out += card(grids, cells, i);
    return out + "</div>";
  };
  const size_t count = cells.front().captions.size(), open = std::min(count, kOpen);
  std::string out = cards(0, open);
  if (count > open)
    out += fmt::format("<details><summary>The other {} prompts</summary>{}</details>", count - open,
                       cards(open, count));
  return out + "<details><summary>The grids as a whole</summary>" + whole + "</details>";
}

}  // namespace vggflow
