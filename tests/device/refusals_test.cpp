#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <torch/headeronly/version.h>

#include <cstdio>
#include <cstdlib>

#include "vggflow/core/error.h"
#include "vggflow/device/device.h"
#include "vggflow/flow/precision.h"
#include "vggflow/ops/attention.h"

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
  const auto none = open_plugin("libc.so.6");
  EXPECT_EQ(none.api, nullptr);
  EXPECT_THAT(none.problem.what,
              AllOf(StartsWith("libc.so.6"), HasSubstr("no plug-in of vggflow")));
  EXPECT_THAT(open_plugin("libno_such_plugin.so").problem.what, HasSubstr("does not load"));
}

// What each lack is called, with a library (fake_cuda.cpp) that answers as the driver, LibTorch's
// CUDA and the plug-in do. In a process of its own, as LibTorch hears of CUDA once.
void tell_what_lacks() {
  const auto tell = [](const char* name, const CudaFiles& files,
                       const std::vector<std::pair<const char*, const char*>>& answers = {}) {
    for (const auto& [key, value] : answers) setenv(key, value, 1);
    const auto [what, remedy] = open_cuda(files);
    std::fprintf(stderr, "%s: %s; %s\n", name, what.c_str(), remedy.c_str());
    for (const auto& [key, value] : answers) unsetenv(key);
  };
  const char* const fake = VGGFLOW_FAKE_CUDA;
  unsetenv("CUDA_VISIBLE_DEVICES");
  tell("no card", {.driver = fake}, {{"FAKE_CUDA_INIT", "100"}});
  tell("none of them", {.driver = fake}, {{"FAKE_CUDA_COUNT", "0"}});
  tell("hidden", {.driver = fake}, {{"FAKE_CUDA_COUNT", "0"}, {"CUDA_VISIBLE_DEVICES", "7"}});
  tell("start", {.driver = fake}, {{"FAKE_CUDA_INIT", "3"}});
  tell("wheels", {.driver = fake, .library = "/nowhere/libtorch_cuda.so"});
  tell("companions", {.driver = fake, .library = "/proc/version"});
  const CudaFiles all{.driver = fake, .library = fake, .plugin = fake};
  tell("old driver", all, {{"FAKE_CUDA_VERSION", "12080"}});
  tell("late", all, {{"FAKE_TORCH_HAS_CUDA", "0"}});
  tell("interface", all, {{"FAKE_PLUGIN_ABI", "99"}});
  tell("release", all, {{"FAKE_PLUGIN_TORCH", "2.10.0"}});
  const DeviceScope card(at::Device(at::kCUDA, 0));
  for (const char* major : {"7", "8", "9"}) {
    setenv("FAKE_CUDA_MAJOR", major, 1);
    std::fprintf(stderr, "auto on %s.0: %s\n", major,
                 c10::toString(precision_dtype(Precision::kAuto)));
  }
  std::fprintf(stderr, "card: %s\n", device::describe_card(0).c_str());
  std::exit(0);
}

TEST(DeviceDeathTest, SaysWhatLacksAndPrecisionAutoAsksTheCard) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      tell_what_lacks(), ::testing::ExitedWithCode(0),
      AllOf(HasSubstr("no card: the NVIDIA driver shows no card; see what nvidia-smi lists\n"),
            HasSubstr("none of them: the NVIDIA driver shows no card; see"),
            HasSubstr("hidden: the NVIDIA driver shows no card; CUDA_VISIBLE_DEVICES is '7': "),
            HasSubstr("start: the NVIDIA driver does not start (error 3); see what nvidia-smi"),
            HasSubstr("wheels: this LibTorch has no CUDA; install the one that has it with "
                      "scripts/setup.sh --cuda (/nowhere/libtorch_cuda.so is not there)\n"),
            HasSubstr("companions: LibTorch's CUDA library does not load (/proc/version: "),
            HasSubstr("old driver: the NVIDIA driver serves CUDA 12.8, LibTorch needs 13.0; "
                      "install a newer driver\n"),
            HasSubstr("late: LibTorch finds no GPU although the driver shows one; "),
            HasSubstr(fmt::format(" was built for interface 99 and LibTorch {}, this program for "
                                  "{} and {}; build it together with this program, or remove",
                                  TORCH_VERSION, device::kCudaAbi, TORCH_VERSION)),
            HasSubstr(" and LibTorch 2.10.0, this program for "),
            HasSubstr("auto on 7.0: Float\nauto on 8.0: BFloat16\nauto on 9.0: BFloat16\n"),
            HasSubstr("card: A card of paper, 24.0 GiB, compute capability 9.0, driver for CUDA "
                      "13.0\n")));
}

// What the options say to LibTorch's context, which is there without CUDA too.
TEST(Device, TakesFusedAttentionInOneOrderAndNeverThePlainFormula) {
  at::Context& context = at::globalContext();
  device::set_up_cuda({});
  const auto order = context.sDPPriorityOrder();
  ASSERT_GE(order.size(), 3u);
  EXPECT_EQ(order[0], at::SDPBackend::cudnn_attention);
  EXPECT_EQ(order[1], at::SDPBackend::flash_attention);
  EXPECT_EQ(order[2], at::SDPBackend::efficient_attention);
  EXPECT_TRUE(context.userEnabledCuDNNSDP());
  EXPECT_FALSE(context.userEnabledMathSDP());
  EXPECT_FALSE(context.deterministicAlgorithms());
  device::set_up_cuda({.deterministic = true, .tf32 = false});
  EXPECT_FALSE(context.userEnabledCuDNNSDP());
  EXPECT_FALSE(context.userEnabledMathSDP());
  EXPECT_TRUE(context.deterministicAlgorithms());
  EXPECT_TRUE(context.deterministicCuDNN());
  EXPECT_FALSE(context.allowTF32CuBLAS());
  device::set_up_cuda({});
  context.setSDPUseMath(true);
}

// As on a GPU whose fused kernels do not take the inputs.
TEST(Device, CallsAFallOfAttentionToThePlainFormulaAnError) {
  at::Context& context = at::globalContext();
  context.setSDPUseMath(false);
  context.setSDPUseFlash(false);
  const at::Tensor x = at::ones({1, 2, 5, 8});
  const std::string text = message_of([&] { (void)ops::fused_attention(x, x, x, std::nullopt); });
  context.setSDPUseMath(true);
  context.setSDPUseFlash(true);
  EXPECT_THAT(text, AllOf(HasSubstr("[attention] no fused kernel of this GPU takes q (1, 2, 5, 8)"),
                          HasSubstr("is not taken in silence")));
}

TEST(Device, TakesPlainKernelsForTheScopeOfACommand) {
  const DeviceScope plain(DeviceOptions{.device = "cpu", .kernels = Kernels::kPlain});
  EXPECT_FALSE(fused_kernels());
  const DeviceScope fused(DeviceOptions{.device = "cpu"});
  EXPECT_TRUE(fused_kernels());
}

}  // namespace
}  // namespace vggflow
