#include "vggflow/page/live_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "vggflow/core/json.h"
#include "vggflow/io/files.h"
#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;

constexpr const char* kLine =
    R"({"kind":"update","update":1,"reward":{"mean":0.5,"sd":0.1},"images_per_second":8})";

TEST(LivePage, GivesItsFilesAndNothingByAPath) {
  const testing::TemporaryFolder folder;
  LivePage page({folder.path()});
  EXPECT_THAT(page.get({.path = "/"}).body, HasSubstr("<!doctype html>"));
  EXPECT_THAT(page.get({.path = "/page.js"}).type, HasSubstr("javascript"));
  EXPECT_THAT(page.get({.path = "/page.css"}).body, HasSubstr("prefers-color-scheme"));
  EXPECT_EQ(parse_json(page.get({.path = "/runs.json"}).body, "runs").size(), 1u);
  for (const char* path : {"/../etc/passwd", "/metrics.jsonl", "//page.js", "", "/events/"})
    EXPECT_EQ(page.get({.path = path}).status, 404) << path;
  for (const char* run : {"1", "-1", "0x0", "", "9999999999999999999", "../0"})
    EXPECT_EQ(page.get({.path = "/grid", .query = {{"run", run}, {"update", "0"}}}).status, 404)
        << run;
}

// The page names nothing that is not of this server.
TEST(LivePage, NamesNothingOutsideItself) {
  const testing::TemporaryFolder folder;
  LivePage page({folder.path()});
  for (const char* path : {"/", "/page.css", "/page.js"}) {
    const std::string text = page.get({.path = path}).body;
    for (const char* foreign : {"https:", "//cdn", "@import", "url(", "innerHTML", "eval("})
      EXPECT_EQ(text.find(foreign), std::string::npos) << path << " has " << foreign;
  }
}

TEST(LivePage, SendsAllToANewReaderAndThenWhatIsNew) {
  const testing::TemporaryFolder folder;
  write_text(folder / "metrics.jsonl", std::string(kLine) + "\n");
  LivePage page({folder.path()});
  const WebReply reply = page.get({.path = "/events"});
  bool ended = false;
  const std::string first = reply.stream(ended);
  EXPECT_THAT(first, HasSubstr("data: {\"runs\":1}\n\n"));
  EXPECT_THAT(first, HasSubstr("\"anew\":true"));
  std::ofstream(folder / "metrics.jsonl", std::ios::app) << kLine << "\n";
  std::string next;
  for (int i = 0; i < 40 && next.empty(); ++i) next = reply.stream(ended);
  EXPECT_THAT(next, HasSubstr("\"anew\":false"));
  EXPECT_THAT(next, HasSubstr("\"run\":0"));
  EXPECT_FALSE(ended);
}

}  // namespace
}  // namespace vggflow
