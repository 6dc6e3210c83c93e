#pragma once
// What LibTorch warns of and goes on, where going on gives other numbers.

namespace vggflow {

/// From here on such a warning ends the work with an Error: matrix products that oneDNN could not
/// do and another library would, in another order. All other warnings are said as they were.
void refuse_changed_numbers();

}  // namespace vggflow
