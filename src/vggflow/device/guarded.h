#pragma once
// For the plug-in: no exception crosses its C functions.

#include <c10/util/Exception.h>

#include <exception>
#include <string>

namespace vggflow::device {

/// Runs f; its exception as a text that lives until the thread's next call.
template <class F>
const char* guarded(F f) {
  thread_local std::string problem;
  try {
    f();
    return nullptr;
  } catch (const c10::Error& e) {
    problem = e.what_without_backtrace();
  } catch (const std::exception& e) {
    problem = e.what();
  } catch (...) {
    problem = "an unknown exception";
  }
  return problem.c_str();
}

}  // namespace vggflow::device
