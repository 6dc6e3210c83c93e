#include "vggflow/metrics/image_sets.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <utility>

#include "vggflow/io/files.h"
#include "vggflow/io/grid_file.h"
#include "vggflow/io/image_file.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/ranks.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Pair;
using testing::TemporaryFolder;

Image plain(uint8_t level, int64_t side = 4) {
  return {side, side, std::vector<uint8_t>(static_cast<size_t>(3 * side * side), level)};
}

class ImageSets : public ::testing::Test {
 protected:
  void png(const std::string& name, uint8_t level, const TextChunks& text = {}) {
    fs::create_directories((folder_ / name).parent_path());
    write_png(folder_ / name, plain(level), text);
  }
  double level_of(const ImageSet& set, int64_t i) {
    return set.pixels(i).mean().item<double>() * 255;
  }
  TemporaryFolder folder_;
};

TEST_F(ImageSets, TakePromptsFromTextChunksAndFilesBeside) {
  png("a.png", 10, {{"prompt", "a cat"}});
  png("b.png", 20, {{"parameters", "a dog, sitting\nNegative prompt: cat\nSteps: 20"}});
  png("c.png", 30, {{"prompt", "{\"3\": {\"class_type\": \"KSampler\"}}"}});
  write_text(folder_ / "c.txt", "a bird\n");
  const auto jpeg = encode_jpeg(plain(40));
  write_text(folder_ / "d.JPG", {jpeg.begin(), jpeg.end()});
  write_text(folder_ / "d.txt", "a fish");
  png("grid.png", 50);
  const ImageSet set = read_image_set({folder_.path()});
  EXPECT_THAT(set.prompts, ElementsAre("a cat", "a dog, sitting", "a bird", "a fish"));
  EXPECT_EQ(set.left_out, 1);
  const ImageSet all = read_image_set({folder_.path()}, Unprompted::kKeep);
  EXPECT_EQ(all.size(), 5);
  EXPECT_EQ(all.without_prompt(), 1);
  EXPECT_NEAR(level_of(set, 1), 20, 1e-4);
  EXPECT_NEAR(level_of(set, 3), 40, 1);
  EXPECT_EQ(set.pixels(0).sizes(), at::IntArrayRef({3, 4, 4}));
}

// `score` counted and scored the sheet of `sample` as one image more.
TEST_F(ImageSets, HaveNoPlaceForTheProgramsOwnGrids) {
  png("00000.png", 10, {{"prompt", "a cat"}});
  write_grid(folder_ / "sheet.png", {plain(50), 1}, {"a cat"});
  png("grid.png", 50);
  EXPECT_EQ(read_image_set({folder_.path()}, Unprompted::kKeep).size(), 1);
  const ImageSet set = read_image_set({folder_.path()});
  EXPECT_EQ(set.size(), 1);
  EXPECT_EQ(set.left_out, 0) << "nor does it count as left out";
  EXPECT_EQ(read_image_set({folder_ / "grid.png"}).size(), 1) << "unless it is asked for by name";
}

TEST_F(ImageSets, WithoutPromptsGroupBySubfolder) {
  png("one/x.png", 1);
  png("two/y.png", 2);
  png("one/z.png", 3);
  const ImageSet set = read_image_set({folder_.path()});
  EXPECT_EQ(set.without_prompt(), 3);
  const GroupedImages grouped = group_images(set);
  EXPECT_THAT(grouped.groups, ElementsAre("one", "two"));
  EXPECT_THAT(grouped.places[0], ElementsAre(0, 1));
}

TEST_F(ImageSets, TakeFilesAndPromptsFromLists) {
  png("images/x.png", 7);
  png("images/y.png", 8);
  write_text(folder_ / "list.csv",
             "file,prompt\nimages/y.png,\"second, really\"\nimages/x.png,first\n");
  const ImageSet set = read_image_set({folder_ / "list.csv"});
  EXPECT_THAT(set.prompts, ElementsAre("second, really", "first"));
  EXPECT_NEAR(level_of(set, 0), 8, 1e-4);
  write_text(folder_ / "list.jsonl", "{\"file_name\": \"images/x.png\", \"text\": \"x\"}\n");
  EXPECT_THAT(read_image_set({folder_ / "list.jsonl"}).prompts, ElementsAre("x"));
}

TEST_F(ImageSets, AreCutToTheFirstImagesOfEachPromptAndResized) {
  const Tensor images = at::arange(6, at::kFloat).div(10).view({6, 1, 1, 1}).expand({6, 3, 5, 4});
  const ImageSet set = image_set_of("six", images, {"a", "b", "a", "b", "a", "b"});
  const ImageSet cut = first_of_each(set, 2);
  EXPECT_THAT(cut.prompts, ElementsAre("a", "a", "b", "b"));
  EXPECT_NEAR(cut.pixels(1).mean().item<double>(), 0.2, 1e-6);
  EXPECT_NEAR(cut.pixels(2).mean().item<double>(), 0.1, 1e-6);
  EXPECT_EQ(resized(cut, 8).pixels(0).sizes(), at::IntArrayRef({3, 8, 8}));
  EXPECT_NEAR(resized(cut, 8).pixels(3).mean().item<double>(), 0.3, 1e-5);
  EXPECT_THAT(message_of([&] { first_of_each(set, 4); }),
              HasSubstr("six: expected at least 4 images per prompt, got 3 of 'a'"));
}

TEST_F(ImageSets, NameFilesThatOtherProgramsTakeForImages) {
  png("a.png", 10);
  for (const char* name : {"b.webp", "c.GIF", "d.tiff", "notes.txt"})
    write_text(folder_ / name, "");
  const ImageSet set = read_image_set({folder_.path()});
  EXPECT_EQ(set.size(), 1);
  EXPECT_EQ(set.unread.size(), 3u);
  EXPECT_EQ(unread_note(set.unread),
            "3 files are images of a kind that is not read (expected PNG or JPEG): b.webp, c.GIF, "
            "d.tiff");
  EXPECT_EQ(first_of_each(set, 1).unread.size(), 3u);
}

TEST_F(ImageSets, EnterLinkedFoldersOnceAndCountWhatIsNoImage) {
  png("real/a.png", 10);
  png("elsewhere/b.png", 20);
  const fs::path all = folder_ / "all";
  fs::create_directories(all);
  fs::rename(folder_ / "real", all / "real");
  fs::create_directory_symlink(folder_ / "elsewhere", all / "linked");
  fs::create_directory_symlink("real", all / "again");
  fs::create_directory_symlink(all, all / "real/up");
  fs::create_symlink(folder_ / "elsewhere/b.png", all / "c.png");
  fs::create_symlink("nowhere.png", all / "d.png");
  write_text(all / "._a.png", "Mac OS X");
  write_text(all / "e.webp", "");
  const ImageSet set = read_image_set({all});
  EXPECT_EQ(set.size(), 3);
  EXPECT_THAT(set.groups, ElementsAre("", "linked", "real"));
  EXPECT_EQ(unread_note(set.unread),
            "1 file is an image of a kind that is not read (expected PNG or JPEG): e.webp; 1 link "
            "leads nowhere: d.png; 1 file is macOS' attributes of an image: ._a.png");
  fs::create_directories(folder_ / "empty");
  fs::create_symlink("nowhere.png", folder_ / "empty/x.png");
  EXPECT_THAT(
      message_of([&] { read_image_set({folder_ / "empty"}); }),
      HasSubstr("holds no image: expected .png, .jpg or .jpeg files; 1 link leads nowhere"));
}

TEST_F(ImageSets, PassOverALinkToItself) {
  png("a.png", 10);
  fs::create_symlink("loop.png", folder_ / "loop.png");
  const ImageSet set = read_image_set({folder_.path()});
  EXPECT_EQ(set.size(), 1);
  EXPECT_EQ(unread_note(set.unread), "1 link leads nowhere: loop.png");
}

TEST_F(ImageSets, SayOnceThatImagesAreStretched) {
  const auto said = [](int64_t width) {
    const ImageSet set = resized(image_set_of("some", at::zeros({2, 3, 4, width}), {"a", "b"}), 8);
    ::testing::internal::CaptureStderr();
    for (int64_t i = 0; i < 2; ++i) set.pixels(i);
    return ::testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(said(4), "");
  EXPECT_EQ(
      said(6),
      "some: images that are not square, such as one of 6 x 4 pixels, are stretched to 8 x 8\n");
}

TEST_F(ImageSets, ComeInBatchesOfOneSize) {
  ImageSet set = image_set_of("mixed", at::zeros({5, 3, 2, 2}), {"", "", "", "", ""});
  set.pixels = [](int64_t i) { return at::full({3, i < 3 ? 2 : 4, 2}, static_cast<double>(i)); };
  std::vector<std::pair<int64_t, int64_t>> runs;
  for_batches(set, 2, [&](int64_t first, const Tensor& images) {
    runs.emplace_back(first, images.size(0));
    EXPECT_EQ(images[0].mean().item<double>(), static_cast<double>(first));
  });
  EXPECT_THAT(runs,
              ElementsAre(std::pair<int64_t, int64_t>{0, 2}, std::pair<int64_t, int64_t>{2, 1},
                          std::pair<int64_t, int64_t>{3, 2}));
  // One of these is 1.6 GB where its pixels are its own.
  set.pixels = [](int64_t) { return at::zeros({1}).expand({3, 16384, 8192}); };
  runs.clear();
  for_batches(set, 4, [&](int64_t first, const Tensor& images) {
    runs.emplace_back(first, images.size(0));
  });
  EXPECT_THAT(runs, ElementsAre(Pair(0, 1), Pair(1, 1), Pair(2, 1), Pair(3, 1), Pair(4, 1)));
}

TEST_F(ImageSets, AreDealtToRanksInTheBatchesOfOneProcess) {
  ImageSet set = image_set_of("mixed", at::zeros({7, 3, 2, 2}), {"", "", "", "", "", "", ""});
  set.pixels = [](int64_t i) { return at::full({3, i < 4 ? 2 : 4, 2}, static_cast<double>(i)); };
  const auto batches = [&](const Group& group, std::vector<std::pair<int64_t, int64_t>>& own) {
    return for_batches(
        set, 3,
        [&](int64_t first, const Tensor& images) {
          own.emplace_back(first, images.size(0));
          EXPECT_EQ(images[-1].mean().item<double>(),
                    static_cast<double>(first + images.size(0) - 1));
        },
        group);
  };
  std::vector<std::pair<int64_t, int64_t>> alone, of_two[2];
  EXPECT_THAT(batches({}, alone), ElementsAre(3, 1, 3));
  testing::on_threads(2, [&](const Group& group) {
    EXPECT_THAT(batches(group, of_two[group.rank()]), ElementsAre(3, 1, 3));
  });
  EXPECT_THAT(alone, ElementsAre(Pair(0, 3), Pair(3, 1), Pair(4, 3)));
  EXPECT_THAT(of_two[0], ElementsAre(Pair(0, 3), Pair(4, 3)));
  EXPECT_THAT(of_two[1], ElementsAre(Pair(3, 1)));
}

TEST_F(ImageSets, ThatRanksSeeDifferentlyAreRefused) {
  EXPECT_THAT(message_of([] {
                testing::on_threads(2, [](const Group& group) {
                  agree_on_images(group, image_set_of("some", at::zeros({1, 3, 2, 2}),
                                                      {group.leads() ? "cat" : "dog"}));
                });
              }),
              HasSubstr("the images of some to be the same on all ranks; rank 1 differs"));
}

TEST_F(ImageSets, RefuseWhatHoldsNoImages) {
  EXPECT_THAT(message_of([&] { read_image_set({folder_.path()}); }),
              HasSubstr("holds no image: expected .png, .jpg or .jpeg files"));
  EXPECT_THAT(message_of([&] { read_image_set({folder_ / "absent"}); }),
              HasSubstr("expected a folder, an image or a list of images"));
  EXPECT_THAT(message_of([] { read_image_set({}); }),
              HasSubstr("expected at least one folder, image or list"));
  write_text(folder_ / "x.webp", "");
  EXPECT_THAT(
      message_of([&] { read_image_set({folder_.path()}); }),
      HasSubstr(
          "expected .png, .jpg or .jpeg files; 1 file is an image of a kind that is not read"));
  EXPECT_THAT(message_of([&] { read_image_set({folder_ / "x.webp"}); }),
              HasSubstr("expected a folder, a .png, .jpg or .jpeg file, or a list"));
  write_text(folder_ / "a.csv", "name,prompt\nx.png,a\n");
  EXPECT_THAT(
      message_of([&] { read_image_set({folder_ / "a.csv"}); }),
      HasSubstr(
          "expected a column image or file or file_name or path, got the columns name, prompt"));
  write_text(folder_ / "b.csv", "file,prompt\nx.png,a\n");
  EXPECT_THAT(message_of([&] { read_image_set({folder_ / "b.csv"}); }),
              HasSubstr("b.csv:2: there is no file"));
  EXPECT_THAT(message_of([] { image_set_of("x", at::zeros({2, 3, 4, 4}), {"a"}); }),
              HasSubstr("expected images (N, 3, H, W) and N prompts"));
}

}  // namespace
}  // namespace vggflow
