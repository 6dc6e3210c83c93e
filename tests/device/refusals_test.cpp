#include <gmock/gmock.h>

#include "vggflow/core/error.h"
#include "vggflow/device/device.h"

namespace vggflow {
namespace {

using device::CudaFiles;
using device::open_cuda;
using device::open_plugin;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Device, IsTheCpuUnlessAScopeSaysOtherwise) {
  EXPECT_TRUE(current_device().is_cpu());
  {
    const DeviceScope scope{at::Device(at::kMeta)};
    EXPECT_TRUE(current_device().is_meta());
    const DeviceScope inner(DeviceOptions{.device = "cpu"});
    EXPECT_TRUE(current_device().is_cpu());
    EXPECT_EQ(inner.description(), "cpu");
  }
  EXPECT_TRUE(current_device().is_cpu());
  EXPECT_FALSE(device_memory().has_value());
  EXPECT_EQ(cuda_api(), nullptr);
}

TEST(Device, RefusesWordsThatNameNoDevice) {
  for (const char* word : {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "CUDA", ""}) {
    EXPECT_THAT(message_of([&] { check_device_options({.device = word}); }),
                HasSubstr("expected device=auto, cpu, cuda or cuda:N"))
        << word;
  }
  for (const char* word : {"auto", "cpu", "cuda", "cuda:0", "cuda:7"})
    EXPECT_EQ(message_of([&] { check_device_options({.device = word}); }), "no error") << word;
}

TEST(Device, SaysInOneSentenceThatThereIsNoDriver) {
  const CudaFiles files{.driver = "libno_such_driver.so.1"};
  const auto [what, remedy] = open_cuda(files);
  EXPECT_EQ(what, "no NVIDIA driver is on this machine");
  EXPECT_EQ(remedy,
            "install the card's driver, version 580 or later (libno_such_driver.so.1 is not "
            "found)");
}

TEST(Device, SaysThatALibraryIsNoDriver) {
  EXPECT_THAT(open_cuda({.driver = "libc.so.6"}).what, HasSubstr("libc.so.6 is no NVIDIA driver"));
}

// Only where there is no card: with one these would open it.
TEST(Device, FallsBackToTheCpuOrRefusesWhereThereIsNoCard) {
  if (open_cuda({}).what.empty()) GTEST_SKIP() << "there is a card";
  const DeviceScope any(DeviceOptions{.device = "auto"});
  EXPECT_TRUE(any.device().is_cpu());
  EXPECT_THAT(any.description(), StartsWith("cpu, since "));
  EXPECT_THAT(message_of([] { const DeviceScope one(DeviceOptions{.device = "cuda:1"}); }),
              AllOf(StartsWith("[device] device=cuda:1: "), HasSubstr("; ")));
}

TEST(Device, RefusesAPlugInThatIsNone) {
  EXPECT_THAT(message_of([] { open_plugin("libc.so.6"); }),
              AllOf(StartsWith("[device] libc.so.6"), HasSubstr("no plug-in of vggflow")));
  EXPECT_THAT(message_of([] { open_plugin("libno_such_plugin.so"); }), HasSubstr("does not load"));
}

TEST(Device, TakesPlainKernelsForTheScopeOfACommand) {
  const DeviceScope plain(DeviceOptions{.device = "cpu", .kernels = Kernels::kPlain});
  EXPECT_FALSE(fused_kernels());
  const DeviceScope fused(DeviceOptions{.device = "cpu"});
  EXPECT_TRUE(fused_kernels());
}

}  // namespace
}  // namespace vggflow
