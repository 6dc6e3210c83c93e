#pragma once
// What a person reads while it runs: plain lines on the terminal and in the run's log.txt;
// interrupts, and the machine's state.

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>

#include "vggflow/core/error.h"

namespace vggflow {

/// Writes a line to standard error and, once open_log was called, to the log file. Users and
/// passwords in addresses are left out (secret.h).
void log_line(const std::string& line);
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(fmt::format(format, std::forward<Args>(args)...));
}
/// Appends all further lines to `file` too.
void open_log(const std::filesystem::path& file);
/// Further lines go to no file. A program ends with its run and needs not ask for it.
void close_log();
/// From now on lines go to that file alone, and there is no status line: processes of one run share
/// a terminal, which one of them has, and a library's terminal is its program's. Errors that end
/// the program are printed as ever. `off` = false takes it back.
void keep_off_terminal(bool off = true);

/// Makes Ctrl-C (and SIGTERM) set a flag; a second one ends the program at once.
void catch_interrupts();
bool interrupted();

/// Resident memory of this process in GiB, now and at its peak.
double memory_now_gib();
double memory_peak_gib();
/// This program, processor, threads, instruction sets: what a report says of a run's surroundings.
std::map<std::string, std::string> environment();

/// Date and time now, "2026-11-26 23:59 UTC".
std::string date_text();

class Stopwatch {
 public:
  /// Seconds since construction or the last lap.
  double lap();
  double seconds() const;

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace vggflow
