#include "vggflow/rewards/plugin_guard.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>

namespace vggflow {
namespace {

constexpr std::array kSignals{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
constexpr unsigned char kCanary = 0xA5;
constexpr size_t kAlignment = 64;  // of what LibTorch allocates, which plug-ins may rely on

// Read by a signal handler: plain memory that lives as long as the program.
std::mutex words_mutex;
std::array<char, 1024> words;  // "vggflow: [plugin] PATH"
const char* volatile doing_now = "";
std::atomic<int> inside = 0;
std::atomic<pid_t> process = 0;  // whose plug-in runs: a child that it forks ends as it likes
std::array<struct sigaction, NSIG> before;

[[noreturn]] void leave(int status) {
  for (;;) ::syscall(SYS_exit_group, status);
}

// A handler may call write and end the process alone.
[[noreturn]] void end(const char* what) {
  for (const char* part :
       {static_cast<const char*>(words.data()), what, " in ", static_cast<const char*>(doing_now),
        "; this is a fault of the plug-in\n"})
    (void)!::write(STDERR_FILENO, part, std::strlen(part));
  leave(1);
}

void on_fault(int signal, siginfo_t* info, void*) {
  if (inside > 0) {
    end(signal == SIGABRT  ? " called abort"
        : signal == SIGFPE ? " divided by zero"
        : signal == SIGILL ? " ran into code that this processor does not have"
                           : " crashed (it used memory that is not its own, often past the end of "
                             "the scores or the gradient)");
  }
  // As it was without this handler: the faulting instruction is run again, a sent signal is sent
  // again.
  ::sigaction(signal, &before[static_cast<size_t>(signal)], nullptr);
  if (info->si_code <= 0) ::raise(signal);
}

void on_exit() {
  if (inside > 0 && process == ::getpid()) end(" ended the program");
}

void install() {
  // A stack of its own, since one that overflowed holds no handler.
  alignas(16) static std::array<unsigned char, 64 << 10> spare;
  stack_t stack{};
  if (::sigaltstack(nullptr, &stack) == 0 && (stack.ss_flags & SS_DISABLE) != 0) {
    stack = {};
    stack.ss_sp = spare.data();
    stack.ss_size = spare.size();
    ::sigaltstack(&stack, nullptr);
  }
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int signal : kSignals)
    ::sigaction(signal, &action, &before[static_cast<size_t>(signal)]);
  std::atexit(on_exit);
  ::at_quick_exit(on_exit);
}

[[noreturn]] void exit_now(int status) {
  on_exit();
  leave(status);
}

size_t rounded_up(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

}  // namespace

PluginScope::PluginScope(const std::string& path, const char* doing) {
  static const bool installed = (install(), true);
  (void)installed;
  const std::lock_guard lock(words_mutex);
  *fmt::format_to_n(words.data(), words.size() - 1, "vggflow: [plugin] {}", path).out = '\0';
  doing_now = doing;
  process = ::getpid();
  ++inside;
}

PluginScope::~PluginScope() { --inside; }

GuardedFloats::GuardedFloats(int64_t count) : bytes_(static_cast<size_t>(count) * sizeof(float)) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t inner = rounded_up(bytes_ + kAlignment - 1, page);
  mapped_ = inner + 2 * page;
  void* map = ::mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  VGGFLOW_CHECK(map != MAP_FAILED,
                "[memory] can't allocate memory: {} bytes for a plug-in's numbers", mapped_);
  map_ = static_cast<unsigned char*>(map);
  begin_ = map_ + page;
  end_ = begin_ + inner;
  const size_t at = (inner - bytes_) / kAlignment * kAlignment;
  if (::mprotect(begin_, inner, PROT_READ | PROT_WRITE) != 0) {
    ::munmap(map, mapped_);
    fail("[memory] can't allocate memory: {} bytes for a plug-in's numbers", mapped_);
  }
  std::fill(begin_, begin_ + at, kCanary);
  std::fill(begin_ + at + bytes_, end_, kCanary);
  data_ = reinterpret_cast<float*>(begin_ + at);
  std::fill_n(data_, count, std::numeric_limits<float>::quiet_NaN());
}

GuardedFloats::~GuardedFloats() { ::munmap(map_, mapped_); }

bool GuardedFloats::untouched_around() const {
  const auto is_canary = [](unsigned char c) { return c == kCanary; };
  const auto* first = reinterpret_cast<const unsigned char*>(data_);
  return std::all_of(static_cast<const unsigned char*>(begin_), first, is_canary) &&
         std::all_of(first + bytes_, static_cast<const unsigned char*>(end_), is_canary);
}

}  // namespace vggflow

// Sanitizers have their own.
#ifndef VGGFLOW_SANITIZED
extern "C" {
__attribute__((visibility("default"))) void _exit(int status) { vggflow::exit_now(status); }
__attribute__((visibility("default"))) void _Exit(int status) noexcept {
  vggflow::exit_now(status);
}
}
#endif
