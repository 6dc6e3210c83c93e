#include "vggflow/dist/nccl_ranks.h"

#include <array>
#include <memory>
#include <thread>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"

namespace vggflow {
namespace {

// Between two looks at whether the GPU is done: a sum of gradients takes milliseconds.
constexpr std::chrono::microseconds kBetweenLooks{20};

void check(const char* problem) { VGGFLOW_CHECK(!problem, "[ranks] NCCL: {}", problem); }

}  // namespace

std::string identity_of(const GpuRank& gpu) {
  if (!gpu.api) return "";
  std::array<char, 128> text{};
  check(gpu.api->identity(gpu.device.index(), text.data(), std::ssize(text)));
  return text.data();
}

NcclRanks::NcclRanks(const GpuRank& gpu, const void* store, int rank, int size,
                     std::chrono::milliseconds timeout)
    : gpu_(gpu), timeout_(timeout) {
  check(gpu_.api->open(store, rank, size, gpu_.device.index(), &group_));
}

NcclRanks::~NcclRanks() { gpu_.api->close(group_, lost_); }

// A work that fails or does not end counts as a lost rank.
void NcclRanks::wait(void* work) const {
  const Stopwatch watch;
  for (bool done = false;;) {
    check(gpu_.api->poll(work, &done));
    if (done) return;
    VGGFLOW_CHECK(watch.seconds() < 1e-3 * static_cast<double>(timeout_.count()),
                  "[ranks] NCCL: no end within {} s", timeout_.count() / 1000);
    std::this_thread::sleep_for(kBetweenLooks);
  }
}

std::function<void()> NcclRanks::begin(Begin operation, const Tensor& bytes, const Tensor& into) {
  void* begun = nullptr;
  check(operation(group_, &bytes, &into, &begun));
  const std::shared_ptr<void> work(begun, gpu_.api->free_work);
  return [this, work, bytes, into] { wait(work.get()); };
}

std::function<void()> NcclRanks::begin_gather(const Tensor& bytes, const Tensor& into) {
  return begin(gpu_.api->gather, bytes, into);
}

void NcclRanks::exchange(const Tensor& bytes, const Tensor& into) {
  begin(gpu_.api->exchange, bytes, into)();
}

}  // namespace vggflow
