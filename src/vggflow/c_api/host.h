#pragma once
// What a library owes the program that it is loaded into, and every call begins with.

#include <functional>

namespace vggflow::c_api {

/// Runs `work` with LibTorch's settings of this thread as ours, whatever the program (a Python
/// process that uses torch, say) has made of them, and restores them: gradients on, fp32 by
/// default, no autocast, warnings that changed numbers refused. One call is served after the
/// other; a callback's call within its own. What is thrown becomes last_error(); returns whether
/// nothing was.
bool served(const std::function<void()>& work);

/// Why the last call on this thread that failed did.
const char* last_error();

}  // namespace vggflow::c_api
