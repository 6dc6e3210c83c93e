#include "vggflow/core/descriptors.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

}  // namespace
}  // namespace vggflow
