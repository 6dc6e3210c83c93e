#include "vggflow/core/descriptors.h"

#include <fcntl.h>
#include <unistd.h>

namespace vggflow {

void open_standard_descriptors() {
  for (int wanted = STDIN_FILENO; wanted <= STDERR_FILENO; ++wanted) {
    if (::fcntl(wanted, F_GETFD) != -1) continue;
    const int opened = ::open("/dev/null", wanted == STDIN_FILENO ? O_RDONLY : O_WRONLY);
    if (opened == -1 || opened == wanted) continue;
    ::dup2(opened, wanted);
    ::close(opened);
  }
}

int open_to_append(const std::filesystem::path& file) {
  return ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644);
}

}  // namespace vggflow
