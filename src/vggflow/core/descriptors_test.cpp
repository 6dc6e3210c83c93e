#include "vggflow/core/descriptors.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "vggflow/testing/temporary_folder.h"

namespace vggflow {
namespace {

// In a child: closes the descriptors named by the bits, opens them again, and says whether 0 to 2
// are open and a file that is opened then is none of them.
bool reopened(int closed) {
  const pid_t child = ::fork();
  if (child == 0) {
    for (int fd = 0; fd < 3; ++fd) {
      if (closed >> fd & 1) ::close(fd);
    }
    open_standard_descriptors();
    bool good = ::open("/dev/null", O_RDONLY) > 2;
    for (int fd = 0; fd < 3; ++fd) {
      struct stat now{}, null{};
      good = good && ::fstat(fd, &now) == 0 && ::stat("/dev/null", &null) == 0;
      if (closed >> fd & 1) good = good && now.st_rdev == null.st_rdev;
    }
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(StandardDescriptors, AreOpenedOnDevNullWhereTheyAreClosed) {
  for (int closed = 0; closed < 8; ++closed) EXPECT_TRUE(reopened(closed)) << closed;
}

TEST(OpenToAppend, GoesOnWithAFileAndFollowsNoLink) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "file", link = folder.path() / "link";
  for (const char text : {'a', 'b'}) {
    const int opened = open_to_append(file);
    ASSERT_GE(opened, 0);
    EXPECT_EQ(::write(opened, &text, 1), 1);
    ::close(opened);
  }
  EXPECT_EQ(std::filesystem::file_size(file), 2);
  std::filesystem::create_symlink(file, link);
  EXPECT_EQ(open_to_append(link), -1);
  EXPECT_EQ(errno, ELOOP);
}

}  // namespace
}  // namespace vggflow
