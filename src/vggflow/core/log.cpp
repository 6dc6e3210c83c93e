#include "vggflow/core/log.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "vggflow/core/interrupt.h"
#include "vggflow/core/result.h"
#include "vggflow/core/secret.h"
#include "vggflow/core/visible.h"

namespace vggflow {
namespace {

std::mutex log_mutex;
std::FILE* log_file = nullptr;
bool bar_on_screen = false;

bool on_terminal() {
  static const bool yes = ::isatty(STDERR_FILENO) == 1;
  return yes;
}

void clear_bar() {
  if (!bar_on_screen) return;
  std::fputs("\r\x1b[K", stderr);
  bar_on_screen = false;
}

std::string duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  return s >= 3600 ? fmt::format("{}h{:02}m", s / 3600, s / 60 % 60)
                   : fmt::format("{}m{:02}s", s / 60, s % 60);
}

// "VmRSS:   123456 kB" -> GiB.
double status_gib(const std::string& key) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(key)) return std::stod(line.substr(key.size() + 1)) / (1024.0 * 1024.0);
  }
  return 0;
}

volatile std::sig_atomic_t interrupts = 0, terminal = 0;
// What is said at the first signal, and at a second one that does not end the program.
const char* volatile first_words = nullptr;
const char* volatile second_words = nullptr;

// A handler may call write alone.
void say(const char* words) {
  const auto put = [](const char* text) { (void)!::write(STDERR_FILENO, text, std::strlen(text)); };
  if (terminal) put("\r\x1b[K");
  put(words);
  put("\n");
}

void on_signal(int) {
  interrupts = interrupts + 1;
  if (interrupts == 1) {
    if (first_words) say(first_words);
    return;
  }
  if (interrupts > 2 || !second_words) ::_exit(130);
  say(second_words);
}

// A terminal that is gone, a reader of our words that left, a full quota of a file: asked for once,
// however often they come, since the words of the end bring them again.
void on_loss(int) {
  if (interrupts == 0) interrupts = 1;
}

// A pipe that breaks is the one that our words go to, or a connection whose own code handles it.
void on_broken_pipe(int) {
  pollfd words[]{{STDOUT_FILENO, 0, 0}, {STDERR_FILENO, 0, 0}};
  if (::poll(words, 2, 0) > 0 && ((words[0].revents | words[1].revents) & POLLERR)) on_loss(0);
}

// What was ignored when the program began stays ignored (nohup).
void catch_unless_ignored(int signal, void (*handler)(int)) {
  if (std::signal(signal, handler) == SIG_IGN) std::signal(signal, SIG_IGN);
}

void write_line(std::FILE* stream, const std::string& line) {
  const std::string text = visible(without_password(line)) + "\n";
  const std::lock_guard lock(log_mutex);
  clear_bar();
  std::fputs(text.c_str(), stream);
  std::fflush(stream);
  if (!log_file) return;
  std::fputs(text.c_str(), log_file);
  std::fflush(log_file);
}

}  // namespace

void log_line(const std::string& line) { write_line(stderr, line); }

void print_result(const std::string& line) { write_line(stdout, line); }

void open_log(const std::filesystem::path& file) {
  const std::lock_guard lock(log_mutex);
  if (log_file) std::fclose(log_file);
  log_file = std::fopen(file.c_str(), "a");
  VGGFLOW_CHECK(log_file, "[log] cannot write {}: choose another run folder", file.string());
}

Progress::Progress(std::string title, int64_t total, int64_t done)
    : title_(std::move(title)),
      total_(total),
      start_(done),
      begin_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  const std::lock_guard lock(log_mutex);
  clear_bar();
}

void Progress::advance(int64_t done, const std::string& note) {
  if (!on_terminal()) return;
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  const double rate = static_cast<double>(done - start_) / std::max(seconds, 1e-9);
  const double share =
      static_cast<double>(done) / static_cast<double>(std::max<int64_t>(1, total_));
  const auto full = static_cast<size_t>(24 * std::clamp(share, 0.0, 1.0));
  const std::lock_guard lock(log_mutex);
  std::fprintf(
      stderr, "\r\x1b[K%s",
      fmt::format(
          "{} [{}{}] {}/{} | {:.2f}/s | ETA {} | {:.1f} GiB | {}", visible(title_),
          std::string(full, '#'), std::string(24 - full, '.'), done, total_, rate,
          done > start_ ? duration(static_cast<double>(total_ - done) / std::max(rate, 1e-9)) : "?",
          memory_now_gib(), visible(note))
          .c_str());
  std::fflush(stderr);
  bar_on_screen = true;
}

void catch_interrupts_saying(const char* words) {
  first_words = words;
  catch_interrupts();
}

void catch_interrupts() {
  terminal = on_terminal();
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  catch_unless_ignored(SIGHUP, on_loss);
  catch_unless_ignored(SIGXFSZ, on_loss);
  catch_unless_ignored(SIGPIPE, on_broken_pipe);
}

bool interrupted() { return interrupts != 0; }

SecondInterruptThrows::SecondInterruptThrows(const char* second) { second_words = second; }
SecondInterruptThrows::~SecondInterruptThrows() { second_words = nullptr; }

void leave_if_asked() {
  if (interrupts > 1) throw Interrupted();
}

double memory_now_gib() { return status_gib("VmRSS:"); }
double memory_peak_gib() { return status_gib("VmHWM:"); }

std::map<std::string, std::string> environment() {
  std::map<std::string, std::string> out;
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line) && out.size() < 2;) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name")) out["processor"] = line.substr(colon + 2);
    if (!line.starts_with("flags")) continue;
    std::istringstream flags(line.substr(colon + 2));
    std::string kept;
    for (std::string flag; flags >> flag;) {
      if (flag == "avx2" || flag == "avx512f" || flag == "avx512_bf16" || flag == "amx_bf16")
        kept += (kept.empty() ? "" : " ") + flag;
    }
    out["instruction sets"] = kept;
  }
  out["hardware threads"] = fmt::to_string(std::thread::hardware_concurrency());
  out["compiler"] = __VERSION__;
  return out;
}

double Stopwatch::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

double Stopwatch::lap() {
  const double s = seconds();
  begin_ = std::chrono::steady_clock::now();
  return s;
}

}  // namespace vggflow
