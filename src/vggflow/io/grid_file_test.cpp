#include "vggflow/io/grid_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vggflow/io/image_file.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::ElementsAre;

TEST(GridFile, GivesBackItsCellsWithTheirCaptions) {
  const testing::TemporaryFolder folder;
  const at::Tensor images = at::rand({11, 3, 5, 4});
  std::vector<std::string> captions(11, "a cat; a dog");
  captions[10] = "ein \"Igel\" \xc3\xa4";
  write_grid(folder.path() / "grid.png", grid_of(images), captions, {{"guidance", "3"}});
  const auto cells = read_grid(folder.path() / "grid.png");
  ASSERT_TRUE(cells);
  EXPECT_EQ(cells->captions, captions);
  ASSERT_EQ(cells->images.size(), 11u);
  const auto labels = read_grid_labels(folder.path() / "grid.png");
  ASSERT_TRUE(labels);
  EXPECT_EQ(labels->columns, 8);
  EXPECT_EQ(labels->captions, captions);
  for (int64_t i = 0; i < 11; ++i)
    EXPECT_EQ(cells->images[static_cast<size_t>(i)].rgb, to_image(images[i]).rgb) << i;
  const TextChunks text = read_image_text(folder.path() / "grid.png");
  EXPECT_TRUE(is_grid(text));
  EXPECT_EQ(text.at("guidance"), "3");
}

TEST(GridFile, IsNoneOfOtherImagesAndOfDamagedCaptions) {
  const testing::TemporaryFolder folder;
  const Image image = to_image(at::rand({3, 8, 8}));
  write_png(folder.path() / "a.png", image, {{"prompt", "a cat"}});
  EXPECT_FALSE(read_grid(folder.path() / "a.png"));
  EXPECT_FALSE(is_grid({{"prompt", "a cat"}}));
  for (const char* captions : {"", "{", "{}", "[]", "[1,2,3,4,5,6,7,8,9]"}) {
    write_png(folder.path() / "b.png", image,
              {{"vggflow.grid_columns", "9"}, {"vggflow.grid_captions", captions}});
    EXPECT_FALSE(read_grid(folder.path() / "b.png")) << captions;
  }
}

}  // namespace
}  // namespace vggflow
