#pragma once
// What stands between this program and the code of a plug-in. While a PluginScope lives, a crash,
// an abort or an exit is the plug-in's: it is said so in one line, and the program ends with status
// 1, never with success. _exit and _Exit are the program's own for this, which it exports to what
// it loads.

#include <cstdint>
#include <exception>
#include <string>

#include "vggflow/core/error.h"

namespace vggflow {

class PluginScope {
 public:
  /// `doing` is what is asked of it ("the score"), and outlives the program's end.
  PluginScope(const std::string& path, const char* doing);
  ~PluginScope();
  PluginScope(const PluginScope&) = delete;
  PluginScope& operator=(const PluginScope&) = delete;
};

/// f() in a PluginScope; whatever it throws becomes an Error that names the plug-in.
template <class F>
auto call_plugin(const std::string& path, const char* doing, F&& f) {
  const PluginScope scope(path, doing);
  try {
    return f();
  } catch (const std::exception& e) {
    fail("[plugin] {} threw an exception in {}, which no C interface lets through: {}", path, doing,
         e.what());
  } catch (...) {
    fail("[plugin] {} threw something that is no std::exception in {}", path, doing);
  }
}

/// Numbers that a plug-in writes, all NaN at first. Memory that nobody may touch begins at most 63
/// bytes behind the last, and those bytes are looked at: to write past the end is found.
class GuardedFloats {
 public:
  explicit GuardedFloats(int64_t count);
  ~GuardedFloats();
  GuardedFloats(const GuardedFloats&) = delete;
  GuardedFloats& operator=(const GuardedFloats&) = delete;

  float* data() const { return data_; }
  /// Whether the bytes around the numbers are as they were.
  bool untouched_around() const;

 private:
  size_t bytes_, mapped_;
  unsigned char *map_, *begin_, *end_;  ///< all of it; what may be written to
  float* data_;
};

}  // namespace vggflow
