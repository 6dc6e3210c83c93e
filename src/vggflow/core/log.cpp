#include "vggflow/core/log.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "vggflow/core/descriptors.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/result.h"
#include "vggflow/core/secret.h"
#include "vggflow/core/status_line.h"
#include "vggflow/core/version.h"
#include "vggflow/core/visible.h"
#include "vggflow/core/wait_policy.h"

namespace vggflow {
namespace {

std::mutex log_mutex;
std::FILE* log_file = nullptr;
bool off_terminal = false;
size_t shown_columns = 0;  // of the status line; 0: there is none
std::chrono::steady_clock::time_point last_line = std::chrono::steady_clock::now();

// Whether escape sequences are wanted (no-color.org asks for none that change colours; we send
// none at all then).
bool may_escape() {
  static const bool yes = [] {
    const char* none = std::getenv("NO_COLOR");
    return !none || !*none;
  }();
  return yes;
}

// Erases the status line; with spaces, where escape sequences are not wanted.
void clear_shown() {
  if (shown_columns == 0) return;
  const std::string blank = may_escape() ? "\x1b[K" : std::string(shown_columns, ' ') + "\r";
  std::fputs(("\r" + blank).c_str(), stderr);
  shown_columns = 0;
}

// "VmRSS:   123456 kB" -> GiB.
double status_gib(const std::string& key) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(key)) return std::stod(line.substr(key.size() + 1)) / (1024.0 * 1024.0);
  }
  return 0;
}

volatile std::sig_atomic_t interrupts = 0;
// Ctrl-C's before an InterruptsScope.
struct sigaction interrupt_before;
// What takes the status line away where a signal comes.
const char* volatile erase = "";
// What is said at the first signal, and at a second one that does not end the program.
const char* volatile first_words = nullptr;
const char* volatile second_words = nullptr;

// A handler may call write alone.
void say(const char* words) {
  const auto put = [](const char* text) { (void)!::write(STDERR_FILENO, text, std::strlen(text)); };
  put(erase);
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
  clear_shown();
  if (!off_terminal) {
    std::fputs(text.c_str(), stream);
    std::fflush(stream);
  }
  last_line = std::chrono::steady_clock::now();
  if (!log_file) return;
  std::fputs(text.c_str(), log_file);
  std::fflush(log_file);
}

}  // namespace

bool can_redraw() {
  static const bool yes = [] {
    const char* kind = std::getenv("TERM");
    return ::isatty(STDERR_FILENO) == 1 && !(kind && std::strcmp(kind, "dumb") == 0);
  }();
  return yes;
}

void log_line(const std::string& line) { write_line(stderr, line); }

void print_result(const std::string& line) { write_line(stdout, line); }

void open_log(const std::filesystem::path& file) {
  const std::lock_guard lock(log_mutex);
  if (log_file) std::fclose(log_file);
  const int descriptor = open_to_append(file);
  log_file = descriptor >= 0 ? ::fdopen(descriptor, "a") : nullptr;
  VGGFLOW_CHECK(log_file, "[log] cannot write {}: {}. Choose another run folder", file.string(),
                std::strerror(errno));
}

void close_log() {
  const std::lock_guard lock(log_mutex);
  if (log_file) std::fclose(log_file);
  log_file = nullptr;
}

void keep_off_terminal(bool off) {
  const std::lock_guard lock(log_mutex);
  off_terminal = off;
}

size_t status_columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void show_status(const std::string& given) {
  const std::string line = visible(given);
  const std::lock_guard lock(log_mutex);
  if (off_terminal) return;
  clear_shown();
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
  shown_columns = line.size();
}

void clear_status() {
  const std::lock_guard lock(log_mutex);
  clear_shown();
}

double seconds_since_line() {
  const std::lock_guard lock(log_mutex);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - last_line).count();
}

// The handler cannot ask what the terminal can do.
static void know_terminal() {
  if (can_redraw()) erase = may_escape() ? "\r\x1b[K" : "\n";
}

void catch_interrupts_saying(const char* words) {
  first_words = words;
  catch_interrupts();
}

void catch_interrupts() {
  know_terminal();
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  catch_unless_ignored(SIGHUP, on_loss);
  catch_unless_ignored(SIGXFSZ, on_loss);
  catch_unless_ignored(SIGPIPE, on_broken_pipe);
}

bool interrupted() { return interrupts != 0; }

InterruptsScope::InterruptsScope(const char* words) {
  first_words = words;
  interrupts = 0;
  know_terminal();
  struct sigaction ours{};
  ours.sa_handler = on_signal;
  ours.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &ours, &interrupt_before);
}

InterruptsScope::~InterruptsScope() {
  ::sigaction(SIGINT, &interrupt_before, nullptr);
  interrupts = 0;
}

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
  out["waiting threads"] = wait_policy();
  out["vggflow"] = fmt::format("{} (commit {})", version(), commit());
  return out;
}

std::string date_text() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M UTC", &utc);
  return text.data();
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
