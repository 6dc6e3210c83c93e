#pragma once
// Standard input, output and error of a process that was started without them, as by cron or a
// daemon; and the files that a run's lines are appended to.

#include <filesystem>

namespace vggflow {

/// Opens each of the descriptors 0 to 2 that is closed on /dev/null, so that no file that is opened
/// later takes its place and receives the log. Call first in main.
void open_standard_descriptors();

/// Opens a file to append to, made where it is missing, closed by exec. A symbolic link in its
/// place is not followed, because a run folder may come from somebody else. Returns -1 and sets
/// errno (ELOOP of a link) where it cannot.
int open_to_append(const std::filesystem::path& file);

}  // namespace vggflow
