#pragma once
// Several pieces of work of one process that go by turns and meet in between, as the shares of a
// batch do where something is asked of the whole batch.

#include <cstddef>
#include <functional>
#include <vector>

#include "vggflow/ops/dual.h"

namespace vggflow {

/// What a piece of work calls to meet the others: gives its own tensor, waits until all others have
/// given theirs, and gets what the join makes of them.
using Meet = std::function<Tensor(const Tensor& own)>;

/// Calls work(i, meet) for i = 0 ... count - 1. One runs at a time: a piece runs until it meets or
/// ends, and then the next one does, `enter(i)` being called before each turn of i. When all have
/// met, `join` is called once with their tensors in order, and all go on with its result. All must
/// meet equally often. They run on the calling thread, with stacks of their own: the thread's pool
/// of workers, heap and device stay one. What a piece or the join throws ends all pieces, is thrown
/// on, and no piece goes on after it.
void take_turns(size_t count, const std::function<Tensor(const std::vector<Tensor>&)>& join,
                const std::function<void(size_t)>& enter,
                const std::function<void(size_t, const Meet&)>& work);

}  // namespace vggflow
