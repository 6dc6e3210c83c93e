#pragma once
// Standard input, output and error of a process that was started without them, as by cron or a
// daemon.

namespace vggflow {

/// Opens each of the descriptors 0 to 2 that is closed on /dev/null, so that no file that is opened
/// later takes its place and receives the log. Call first in main.
void open_standard_descriptors();

}  // namespace vggflow
