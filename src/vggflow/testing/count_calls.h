#pragma once
// How often an operator of ATen runs: whether checkpointing really ran something twice is counted,
// not inferred.

#include <ATen/record_function.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

namespace vggflow::testing {

/// Calls of `name` ("aten::linear") while `f` runs, by all threads; not for two threads at once.
inline int count_calls(const std::string& name, const std::function<void()>& f) {
  static std::atomic<int> calls;
  static std::string wanted;
  calls = 0;
  wanted = name;
  const auto handle = at::addGlobalCallback(at::RecordFunctionCallback(
      [](const at::RecordFunction& op) -> std::unique_ptr<at::ObserverContext> {
        calls += op.name() == wanted;
        return nullptr;
      }));
  f();
  at::removeCallback(handle);
  return calls;
}

}  // namespace vggflow::testing
