// What the program says where memory ran out, and of LibTorch's own errors.
#include "vggflow/device/error_text.h"

#include <c10/util/Exception.h>
#include <gmock/gmock.h>

#include <cerrno>
#include <new>
#include <stdexcept>
#include <system_error>

#include "vggflow/device/warnings.h"

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
  for (const char* words : {"CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA",
                            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"})
    EXPECT_THAT(text_of([&] { TORCH_CHECK(false, words); }),
                AllOf(StartsWith("[memory] the device is full (CUDA error: "),
                      HasSubstr("micro_batch"), Not(HasSubstr("\n"))));
}

TEST(ErrorText, SaysThatTheHostIsFull) {
  EXPECT_THAT(text_of([] { throw std::bad_alloc(); }),
              AllOf(StartsWith("[memory] the host's memory is full"), HasSubstr("micro_batch")));
  EXPECT_THAT(text_of([] { TORCH_CHECK(false, "DefaultCPUAllocator: can't allocate memory"); }),
              StartsWith("[memory] the host's memory is full (DefaultCPUAllocator"));
  EXPECT_THAT(text_of([] { throw std::system_error(ENOMEM, std::generic_category(), "mmap"); }),
              StartsWith("[memory] the host's memory is full (mmap: Cannot allocate memory)"));
}

TEST(ErrorText, LeavesOutStackFrames) {
  EXPECT_EQ(text_of([] { TORCH_CHECK(false, "shapes differ"); }), "shapes differ");
  EXPECT_EQ(text_of([] { throw std::runtime_error("as it is"); }), "as it is");
}

TEST(Warnings, ThatNumbersWillBeOthersEndTheWork) {
  refuse_changed_numbers();
  for (const char* text :
       {"mkldnn_matmul failed, switching to BLAS gemm: could not create a primitive",
        "mkldnn_matmul failed, switching to baddbmm: out of memory\nframes"}) {
    EXPECT_THAT(text_of([&] { TORCH_WARN(text); }),
                AllOf(StartsWith("[device] LibTorch could not go on with the numbers"),
                      HasSubstr("lower batch or micro_batch"), Not(HasSubstr("frames"))));
  }
  EXPECT_EQ(text_of([] { TORCH_WARN("something is deprecated"); }), "no error");
}

}  // namespace
}  // namespace vggflow
