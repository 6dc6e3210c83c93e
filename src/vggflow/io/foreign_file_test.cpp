#include "vggflow/core/foreign_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "vggflow/core/error.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image_file.h"
#include "vggflow/io/model_files.h"
#include "vggflow/testing/message.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

struct Case {
  std::string bytes;
  const char* said;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {std::string("GGUF\3\0\0\0", 8) + "weights", "is a GGUF file, whose weights are quantised"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n",
       "is a Git LFS pointer and not the file itself: run `git lfs pull`"},
      {"\n  <!DOCTYPE html>\n<html>Log in</html>", "is a web page and not the file"},
      {"<HTML><body>404</body>", "is a web page and not the file"},
      {"\x1f\x8b\x08", "is compressed by gzip: unpack it"}};
  return all;
}

TEST(ForeignFile, EveryReaderOfWeightsAndImagesNamesTheKind) {
  const testing::TemporaryFolder folder;
  for (const Case& c : cases()) {
    for (const char* name : {"a.safetensors", "a.bin", "a.pth"}) {
      write_text(folder / name, c.bytes);
      EXPECT_THAT(message_of([&] { open_weights(folder / name); }), HasSubstr(c.said)) << name;
    }
    write_text(folder / "a.png", c.bytes);
    EXPECT_THAT(message_of([&] { read_image(folder / "a.png"); }), HasSubstr(c.said));
    write_text(folder / "config.json", c.bytes);
    EXPECT_THAT(message_of([&] { read_model_config(folder.path()); }), HasSubstr(c.said));
  }
}

}  // namespace
}  // namespace vggflow
