#pragma once
// Counts the bytes of tensors that this thread allocates on the CPU and has not freed, by the
// allocator's own reports.

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <atomic>
#include <memory>

namespace vggflow::testing {

/// While one lives: `live()` bytes more than when it was made (or last reset), and the largest such
/// number.
class MemoryMeter {
 public:
  MemoryMeter()
      : count_(std::make_shared<Count>()), guard_(c10::DebugInfoKind::PROFILER_STATE, count_) {}
  double live() const { return static_cast<double>(count_->live); }
  double peak() const { return static_cast<double>(count_->peak); }
  void reset() { count_->live = count_->peak = 0; }

 private:
  struct Count : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
      live += size;
      peak = std::max<int64_t>(peak, live);
    }
    bool memoryProfilingEnabled() const override { return true; }
    std::atomic<int64_t> live = 0;
    int64_t peak = 0;
  };
  std::shared_ptr<Count> count_;
  c10::DebugInfoGuard guard_;
};

}  // namespace vggflow::testing
