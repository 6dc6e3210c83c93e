// What OpenMP's threads do while they wait for work. By default GNU's spin for milliseconds after
// every parallel loop, which on a machine that others use too takes the time from them and from us:
// everything is 3 to 12 times slower. Ours spin for a thirtieth of that, longer than the gap
// between two loops of a network, and sleep then. bench/wait_policy.sh measures both cases.
//
// The runtime reads its variables once, as the dynamic linker initializes it, which is before main.
// So the program sets them and starts itself anew, before any library is initialized. Variables of
// the user win: where one of them is set, nothing happens.
#include <unistd.h>

#include <cstddef>

#include "vggflow/core/wait_policy.h"

namespace {

// Nothing is initialized yet where this runs, the C library's environment neither: plain loops and
// system calls alone, and no instrumentation.
#define VGGFLOW_BEFORE_ALL __attribute__((no_sanitize("address", "undefined", "thread")))

// OMP_WAIT_POLICY=passive would make GNU's threads sleep at once, which costs an idle machine time.
char spins[] = "GOMP_SPINCOUNT=10000";

VGGFLOW_BEFORE_ALL bool sets(const char* assignment, const char* name) {
  while (*name != '\0') {
    if (*assignment++ != *name++) return false;
  }
  return *assignment == '=';
}

VGGFLOW_BEFORE_ALL void choose_wait_policy(int, char** arguments, char** variables) {
  constexpr size_t kMost = 4096;  // variables; of more, the runtime's default stays
  char* all[kMost + 2];
  size_t count = 0;
  for (; variables[count] != nullptr; ++count) {
    if (count == kMost) return;
    for (const char* name : vggflow::kWaitVariables) {
      if (sets(variables[count], name)) return;
    }
    all[count] = variables[count];
  }
  all[count] = spins;
  all[count + 1] = nullptr;
  char program[4096];
  const ssize_t length = ::readlink("/proc/self/exe", program, sizeof(program) - 1);
  if (length <= 0) return;
  program[length] = '\0';
  ssize_t name = length;
  while (name > 0 && program[name - 1] != '/') --name;
  if (program[name] == 'l' && program[name + 1] == 'd') return;  // the linker, called by hand
  ::execve(program, arguments, all);  // where it fails, the program goes on as it is
}

// The dynamic linker calls what stands here before it initializes any library.
__attribute__((section(".preinit_array"),
               used)) void (*const before_all)(int, char**, char**) = choose_wait_policy;

}  // namespace
