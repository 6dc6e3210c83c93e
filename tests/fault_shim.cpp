// Preloaded into a program under test (LD_PRELOAD): counts its operations on files below one folder
// and its larger allocations, and at the one that is asked for fails it once or kills the process.
//   SHIM_OPERATION  write, fsync, rename, open, allocate, or any (the first four together)
//   SHIM_AT         its number, from 1; 0: none, the numbers alone are counted
//   SHIM_ACTION     fail or kill
//   SHIM_FOLDER     files elsewhere are left alone
//   SHIM_COUNTS     file that is given "operation count" lines at the end
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

enum Operation { kWrite, kFsync, kRename, kOpen, kAllocate, kOperations };
constexpr const char* kNames[kOperations] = {"write", "fsync", "rename", "open", "allocate"};
constexpr size_t kLarge = 64 << 10;  // an allocation that counts

std::atomic<long> counts[kOperations], any;

const char* setting(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// Found once, before the first file is opened.
struct Settings {
  char folder[PATH_MAX] = "";
  int wanted = -1;  // kOperations: any
  long at = 0;
  bool kills = false;
  Settings() {
    std::snprintf(folder, sizeof folder, "%s", setting("SHIM_FOLDER"));
    for (int i = 0; i < kOperations; ++i) {
      if (!std::strcmp(setting("SHIM_OPERATION"), kNames[i])) wanted = i;
    }
    if (!std::strcmp(setting("SHIM_OPERATION"), "any")) wanted = kOperations;
    at = std::atol(setting("SHIM_AT"));
    kills = !std::strcmp(setting("SHIM_ACTION"), "kill");
  }
};
const Settings& settings() {
  static const Settings all;
  return all;
}

template <class F>
F next(const char* name) {
  return reinterpret_cast<F>(::dlsym(RTLD_NEXT, name));
}

bool below(const char* path) {
  const char* folder = settings().folder;
  return *folder && !std::strncmp(path, folder, std::strlen(folder));
}

bool below(int descriptor) {
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t size = ::readlink(link, path, sizeof path - 1);
  if (size <= 0) return false;
  path[size] = 0;
  return below(path);
}

// Whether this one is to fail.
bool fails(Operation operation) {
  const long own = ++counts[operation], all = operation == kAllocate ? 0 : ++any;
  const Settings& s = settings();
  const bool now = s.at > 0 && ((s.wanted == operation && own == s.at) ||
                                (s.wanted == kOperations && all == s.at));
  if (now && s.kills) ::kill(::getpid(), SIGKILL);
  return now;
}

struct Report {
  ~Report() {
    const char* file = setting("SHIM_COUNTS");
    std::FILE* out = *file ? std::fopen(file, "w") : nullptr;
    if (!out) return;
    for (int i = 0; i < kOperations; ++i)
      std::fprintf(out, "%s %ld\n", kNames[i], counts[i].load());
    std::fprintf(out, "any %ld\n", any.load());
    std::fclose(out);
  }
} report;

}  // namespace

extern "C" {

ssize_t write(int descriptor, const void* data, size_t size) {
  static const auto real = next<ssize_t (*)(int, const void*, size_t)>("write");
  if (below(descriptor) && fails(kWrite)) return errno = ENOSPC, -1;
  return real(descriptor, data, size);
}

ssize_t writev(int descriptor, const struct iovec* parts, int count) {
  static const auto real = next<ssize_t (*)(int, const struct iovec*, int)>("writev");
  if (below(descriptor) && fails(kWrite)) return errno = ENOSPC, -1;
  return real(descriptor, parts, count);
}

int fsync(int descriptor) {
  static const auto real = next<int (*)(int)>("fsync");
  if (below(descriptor) && fails(kFsync)) return errno = EIO, -1;
  return real(descriptor);
}

int rename(const char* from, const char* to) noexcept {
  static const auto real = next<int (*)(const char*, const char*)>("rename");
  if (below(to) && fails(kRename)) return errno = EIO, -1;
  return real(from, to);
}

int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned flags) noexcept {
  static const auto real = next<int (*)(int, const char*, int, const char*, unsigned)>("renameat2");
  if (below(to) && fails(kRename)) return errno = EIO, -1;
  return real(from_at, from, to_at, to, flags);
}

int open(const char* path, int flags, ...) {
  static const auto real = next<int (*)(const char*, int, ...)>("open");
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if (below(path) && fails(kOpen)) return errno = EMFILE, -1;
  return real(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  static const auto real = next<int (*)(const char*, int, ...)>("open64");
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if (below(path) && fails(kOpen)) return errno = EMFILE, -1;
  return real(path, flags, mode);
}

// operator new and the libraries take their memory from here. glibc's own name needs no look-up,
// which would itself ask for memory.
void* __libc_malloc(size_t size);
void* malloc(size_t size) noexcept {
  if (size >= kLarge && fails(kAllocate)) return errno = ENOMEM, nullptr;
  return __libc_malloc(size);
}

// LibTorch takes its tensors' memory on the host from here.
int posix_memalign(void** out, size_t alignment, size_t size) noexcept {
  static const auto real = next<int (*)(void**, size_t, size_t)>("posix_memalign");
  if (size >= kLarge && fails(kAllocate)) return ENOMEM;
  return real(out, alignment, size);
}

}  // extern "C"
