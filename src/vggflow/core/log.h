#pragma once
// What a person reads while it runs: plain lines on the terminal and in the run's log.txt, a
// progress bar on a terminal only, interrupts, and the machine's state.

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

/// A bar with rate, ETA and memory: redrawn in place on a terminal, nothing elsewhere (there the
/// caller's lines tell).
class Progress {
 public:
  Progress(std::string title, int64_t total, int64_t done = 0);
  ~Progress();
  void advance(int64_t done, const std::string& note = "");
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

 private:
  std::string title_;
  int64_t total_, start_;
  std::chrono::steady_clock::time_point begin_;
};

/// Makes Ctrl-C (and SIGTERM) set a flag; a second one ends the program at once.
void catch_interrupts();
bool interrupted();

/// Resident memory of this process in GiB, now and at its peak.
double memory_now_gib();
double memory_peak_gib();
/// Processor, threads, instruction sets: what a report says of the machine.
std::map<std::string, std::string> environment();

class Stopwatch {
 public:
  /// Seconds since construction or the last lap.
  double lap();
  double seconds() const;

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace vggflow
