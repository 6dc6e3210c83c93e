#include "vggflow/data/photo_set.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "vggflow/io/files.h"
#include "vggflow/io/image.h"
#include "vggflow/io/safetensors.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/stored_zip.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

// A PNG of one colour.
std::string picture(int red, int side = 4) {
  const auto png = encode_png(to_image(at::full({3, side, side}, red / 255.0)));
  return {png.begin(), png.end()};
}

struct Zip {
  std::filesystem::path write(const testing::ZipEntries& entries) const {
    write_text(folder / "photos.zip", testing::zip_of(entries));
    return folder / "photos.zip";
  }
  testing::TemporaryFolder folder;
};

TEST(PhotoSet, ReadsClassesInAlphabeticalOrderWithTheirPixels) {
  const Zip zip;
  const PhotoSet set = read_photo_zip(zip.write({{"frog/1.png", picture(200)},
                                                 {"cat/2.png", picture(20)},
                                                 {"cat/", ""},
                                                 {"cat/1.png", picture(10)}}));
  EXPECT_EQ(set.classes, (std::vector<std::string>{"cat", "frog"}));
  EXPECT_TRUE(at::equal(set.labels, at::tensor(std::vector<int64_t>{0, 0, 1})));
  EXPECT_EQ(set.images.scalar_type(), at::kByte);
  EXPECT_EQ(set.images.sizes(), (std::vector<int64_t>{3, 3, 4, 4}));
  for (const auto& [row, red] : {std::pair{0, 10}, {1, 20}, {2, 200}})
    EXPECT_TRUE((set.images[row] == red).all().item<bool>()) << row;
  EXPECT_TRUE(at::equal(read_photo_zip(zip.folder / "photos.zip", /*per_class=*/1).labels,
                        at::tensor(std::vector<int64_t>{0, 1})));
}

TEST(PhotoSet, RefusesWhatIsNoSetOfPhotographs) {
  const Zip zip;
  const auto said = [&](const testing::ZipEntries& entries) {
    return message_of([&] { read_photo_zip(zip.write(entries)); });
  };
  EXPECT_THAT(said({{"loose.png", picture(1)}}),
              HasSubstr("expected entries CLASS/NAME.jpg, got 'loose.png'"));
  EXPECT_THAT(said({{"cat/", ""}}), HasSubstr("holds no images"));
  EXPECT_THAT(
      said({{"cat/1.png", picture(1)}, {"cat/2.png", picture(1, 6)}}),
      HasSubstr("expected images of one size, got 6x6 in 'cat/2.png' and 4x4 in the first"));
  EXPECT_THAT(said({{"cat/notes.txt", "no image"}}), HasSubstr("cat/notes.txt"));
}

TEST(PhotoSet, LatentsComeBackAsTheyWereWritten) {
  const testing::TemporaryFolder folder;
  const LatentSet set{{"cat", "frog"},
                      at::arange(24).view({3, 2, 2, 2}).to(at::kFloat) / 8,
                      at::tensor(std::vector<int64_t>{1, 0, 1}),
                      "abc"};
  write_latents(folder / "l.safetensors", set);
  const LatentSet back = read_latents(folder / "l.safetensors");
  EXPECT_EQ(back.classes, set.classes);
  EXPECT_EQ(back.encoder, "abc");
  EXPECT_TRUE(at::equal(back.latents, set.latents));  // eighths are exact in fp16
  EXPECT_TRUE(at::equal(back.labels, set.labels));
}

TEST(PhotoSet, RefusesFilesThatHoldNoLatents) {
  const testing::TemporaryFolder folder;
  write_safetensors(folder / "other.safetensors", {{"latents", at::zeros({1, 2, 2, 2})}});
  EXPECT_THAT(message_of([&] { read_latents(folder / "other.safetensors"); }),
              HasSubstr("holds no latents: expected a file that `vggflow prepare` wrote"));
  write_latents(folder / "labels.safetensors",
                {{"cat"}, at::zeros({2, 2, 2, 2}), at::tensor(std::vector<int64_t>{0, 1}), "abc"});
  EXPECT_THAT(message_of([&] { read_latents(folder / "labels.safetensors"); }),
              HasSubstr("expected latents (N, C, h, w) with N labels below 1"));
}

TEST(PhotoSet, CaptionsAreInTheirVocabulary) {
  const Vocabulary words = photo_vocabulary({"cat", "fire engine"});
  EXPECT_EQ(words.max_tokens(), 6);
  EXPECT_NE(words.tokenize(photo_caption("cat")), words.tokenize(photo_caption("fire engine")));
  EXPECT_EQ(photo_display({"cat", "frog"}).size(), 8u);
}

TEST(PhotoSet, DrawsDependOnTheSampleAlone) {
  const Tensor whole = draw_places(5, /*seed=*/3, /*update=*/2, 0, 60);
  EXPECT_TRUE(at::equal(whole.narrow(0, 20, 40), draw_places(5, 3, 2, 20, 40)));
  EXPECT_FALSE(at::equal(whole, draw_places(5, 3, 1, 0, 60)));
  const auto* p = whole.const_data_ptr<int64_t>();
  EXPECT_EQ(std::set<int64_t>(p, p + 60), (std::set<int64_t>{0, 1, 2, 3, 4}));
}

}  // namespace
}  // namespace vggflow
