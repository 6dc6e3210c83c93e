// What the program says where memory ran out, and of LibTorch's own errors.
#include "vggflow/device/error_text.h"

#include <c10/util/Exception.h>
#include <gmock/gmock.h>

#include <new>
#include <stdexcept>

namespace vggflow {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

template <class F>
std::string text_of(F&& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return error_text(e);
  }
  return "no error";
}

TEST(ErrorText, SaysThatTheDeviceIsFullAndWhatNeedsLess) {
  EXPECT_THAT(text_of([] {
                TORCH_CHECK_WITH(
                    OutOfMemoryError, false,
                    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
                    "capacity of 79.11 GiB of which 1.00 GiB is free. See the "
                    "documentation of the allocator.");
              }),
              AllOf(StartsWith("[memory] the device is full (CUDA out of memory. Tried to allocate "
                               "2.00 GiB."),
                    HasSubstr("1.00 GiB is free): lower batch or micro_batch"),
                    Not(HasSubstr("documentation")), Not(HasSubstr("frame #"))));
}

TEST(ErrorText, SaysThatTheHostIsFull) {
  EXPECT_THAT(text_of([] { throw std::bad_alloc(); }),
              AllOf(StartsWith("[memory] the host's memory is full"), HasSubstr("micro_batch")));
  EXPECT_THAT(text_of([] { TORCH_CHECK(false, "DefaultCPUAllocator: can't allocate memory"); }),
              StartsWith("[memory] the host's memory is full (DefaultCPUAllocator"));
}

TEST(ErrorText, LeavesOutStackFrames) {
  EXPECT_EQ(text_of([] { TORCH_CHECK(false, "shapes differ"); }), "shapes differ");
  EXPECT_EQ(text_of([] { throw std::runtime_error("as it is"); }), "as it is");
}

}  // namespace
}  // namespace vggflow
