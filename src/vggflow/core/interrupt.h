#pragma once
// How long work ends when the user asks for it once, and at once when asked twice
// (catch_interrupts: core/log.h). A terminal that is closed (SIGHUP), a pipe of the program's words
// that breaks and a file that reaches its limit (SIGXFSZ) ask once.

#include <exception>

namespace vggflow {

/// As catch_interrupts, and the first Ctrl-C says `words` at once. The text must live as long as
/// the program.
void catch_interrupts_saying(const char* words);

/// While one lives, Ctrl-C is caught as by catch_interrupts_saying, and has not come yet;
/// afterwards it is again what it was before: for a library, whose signals are its program's. One
/// at a time.
class InterruptsScope {
 public:
  explicit InterruptsScope(const char* words);
  ~InterruptsScope();
  InterruptsScope(const InterruptsScope&) = delete;
  InterruptsScope& operator=(const InterruptsScope&) = delete;
};

/// Work that was broken off because the user asked for it; whoever lets it go by has said so.
class Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "interrupted"; }
};

/// While one lives, a second Ctrl-C says `second` and makes leave_if_asked() throw, so that what is
/// whole can be saved; the third ends the program.
class SecondInterruptThrows {
 public:
  explicit SecondInterruptThrows(const char* second);
  ~SecondInterruptThrows();
  SecondInterruptThrows(const SecondInterruptThrows&) = delete;
  SecondInterruptThrows& operator=(const SecondInterruptThrows&) = delete;
};
/// Throws Interrupted after a second Ctrl-C; called between pieces of long work that may be
/// dropped.
void leave_if_asked();

}  // namespace vggflow
