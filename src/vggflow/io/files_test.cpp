#include "vggflow/io/files.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <ios>
#include <iterator>

#include "vggflow/core/error.h"
#include "vggflow/io/image.h"
#include "vggflow/io/jsonl.h"
#include "vggflow/io/tensorboard.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::message_of;

class Files : public ::testing::Test {
 protected:
  size_t entries() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  const testing::TemporaryFolder scratch_;
  const fs::path folder_ = scratch_.path();
};

TEST_F(Files, AreReplacedWholeOrNotAtAll) {
  const fs::path file = folder_ / "a.txt";
  write_text(file, "first");
  {
    AtomicFile half(file);
    half.write("seco");
  }
  EXPECT_EQ(read_text(file), "first");
  EXPECT_EQ(entries(), 1u);
  write_text(file, "second");
  EXPECT_EQ(read_text(file), "second");
}

// A full disk, by a limit on file sizes in a child: the error is clear, the old file stays, nothing
// half-written is left.
TEST_F(Files, AFullDiskLeavesWhatWasThere) {
  const fs::path file = folder_ / "a.txt";
  write_text(file, "first");
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string message = message_of([&] { write_text(file, std::string(5000, 'x')); });
    ::_exit(message.find("What was there before is unchanged; free some space") != std::string::npos
                ? 0
                : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read_text(file), "first");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, FoldersAreCompleteOnlyWithTheirMark) {
  write_folder(folder_ / "c", [](const fs::path& f) { write_text(f / "x", "1"); });
  EXPECT_TRUE(is_complete(folder_ / "c"));
  EXPECT_THROW(write_folder(folder_ / "d", [](const fs::path&) { fail("broken off"); }), Error);
  EXPECT_FALSE(fs::exists(folder_ / "d"));
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, FoldersAreReplacedAndLeaveNothingBeside) {
  for (const char* text : {"1", "2"})
    write_folder(folder_ / "c", [&](const fs::path& f) { write_text(f / text, text); });
  EXPECT_TRUE(is_complete(folder_ / "c"));
  EXPECT_TRUE(fs::exists(folder_ / "c/2"));
  EXPECT_FALSE(fs::exists(folder_ / "c/1"));
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, TemporariesHaveNamesThatNobodyGuesses) {
  EXPECT_NE(temporary_beside(folder_ / "a").string(), temporary_beside(folder_ / "a").string());
  write_text(temporary_beside(folder_ / "a"), "");
  write_text(folder_ / "a", "");
  remove_temporaries(folder_);
  EXPECT_EQ(entries(), 1u);
  EXPECT_TRUE(fs::exists(folder_ / "a"));
}

TEST_F(Files, UnwritablePlacesAreNamed) {
  write_text(folder_ / "file", "");
  EXPECT_THAT(message_of([&] { make_writable_folder(folder_ / "file" / "run"); }),
              HasSubstr("cannot make the folder"));
  EXPECT_THAT(message_of([&] { make_writable_folder("/proc/vggflow"); }),
              HasSubstr("Choose another place"));
  EXPECT_THAT(message_of([&] { write_text(folder_ / "none" / "a", ""); }),
              HasSubstr("cannot write"));
}

TEST_F(Files, PngRoundTripsAndADamagedOneIsRefused) {
  const at::Tensor pixels = at::rand({3, 5, 7});
  const Image image = to_image(pixels);
  write_png(folder_ / "a.png", image, {{"prompt", "red heart"}});
  const Image back = read_png(folder_ / "a.png");
  EXPECT_EQ(back.width, 7);
  EXPECT_EQ(back.rgb, image.rgb);
  const std::string bytes = read_text(folder_ / "a.png");
  EXPECT_THAT(bytes, HasSubstr("tEXtprompt"));
  write_text(folder_ / "b.png", bytes.substr(0, bytes.size() / 2));
  EXPECT_THAT(message_of([&] { read_png(folder_ / "b.png"); }), HasSubstr("is not a readable PNG"));
}

TEST_F(Files, GridsPutEachImageInItsCell) {
  at::Tensor images = at::zeros({3, 3, 2, 2});
  images[1].fill_(1);
  const Image grid = image_grid(images, 2, /*enlarge=*/2, /*gap=*/1);
  EXPECT_EQ(grid.width, 11);
  EXPECT_EQ(grid.height, 11);
  const auto at = [&](int64_t y, int64_t x) {
    return grid.rgb[static_cast<size_t>((y * grid.width + x) * 3)];
  };
  EXPECT_EQ(at(1, 1), 0);
  EXPECT_EQ(at(1, 6), 255);
  EXPECT_EQ(at(9, 4), 0);
  EXPECT_EQ(at(9, 9), 255);
}

TEST(Base64, FollowsRfc4648) {
  const auto encode = [](const std::string& s) { return base64({s.begin(), s.end()}); };
  EXPECT_EQ(encode(""), "");
  EXPECT_EQ(encode("f"), "Zg==");
  EXPECT_EQ(encode("fo"), "Zm8=");
  EXPECT_EQ(encode("foobar"), "Zm9vYmFy");
}

TEST(Crc32c, GivesTheCheckValue) { EXPECT_EQ(crc32c("123456789"), 0xe3069283u); }

TEST_F(Files, JsonLinesSurviveACrashAndCanBeCutForAResume) {
  const fs::path file = folder_ / "m.jsonl";
  {
    JsonLines out(file);
    for (int i = 0; i < 4; ++i)
      out.write({{"kind", "update"}, {"update", i}, {"loss", i == 2 ? std::nan("") : 1.0}});
  }
  std::ofstream(file, std::ios::app) << R"({"kind":"upda)";
  auto lines = read_json_lines(file);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_TRUE(lines[2]["loss"].is_null());
  truncate_after(file, 1, 3);
  lines = read_json_lines(file);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines.back()["update"], 1);
  write_text(file, "{\"a\":1}\nbroken\n{\"a\":2}\n");
  EXPECT_THAT(message_of([&] { read_json_lines(file); }), HasSubstr("line 2 of"));
}

}  // namespace
}  // namespace vggflow
