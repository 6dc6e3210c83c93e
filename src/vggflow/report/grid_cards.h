#pragma once
// Grids of the same prompts and noise under several models, as cards: an image of each model side
// by side, the prompt below.

#include <filesystem>
#include <string>
#include <vector>

namespace vggflow {

struct LabelledGrid {
  std::string label;           ///< of the model: "base", "after 60 updates", "strength 0.5"
  std::filesystem::path file;  ///< a PNG of write_grid (io/grid_file.h)
};

/// The cards, of more than a dozen prompts all but the first folded away; images enlarge on a
/// click. Grids whose prompts differ, or that do not name them (earlier programs'), stand as they
/// are under their labels.
std::string grid_cards(const std::vector<LabelledGrid>& grids);

}  // namespace vggflow
