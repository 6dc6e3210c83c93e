#pragma once
// The device of a process: where its networks lie and its tensors are computed. The program links
// LibTorch's CPU library alone; CUDA's back end is opened at run time, and our plug-in with kernels
// after it. Keyed noise, prompts and initial weights are drawn on the CPU and moved, so that a seed
// means the same everywhere.

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <optional>
#include <string>

#include "vggflow/core/field.h"
#include "vggflow/device/cuda_api.h"
#include "vggflow/device/cuda_driver.h"

namespace vggflow {

/// What the device's own functions run on.
enum class Kernels {
  kAuto,  ///< the fused kernels of the device
  kPlain  ///< LibTorch's own operations, which are their specification
};
inline OptionWords<Kernels> option_words(Kernels) {
  return {{"auto", Kernels::kAuto}, {"plain", Kernels::kPlain}};
}

/// The settings of a command's device. They are no part of a run's numbers' meaning: a resume may
/// change them.
struct DeviceOptions {
  std::string device = "auto";
  bool deterministic = false;
  bool tf32 = true;
  Kernels kernels = Kernels::kAuto;

  template <class V>
  void fields(V& v) {
    v("device", device,
      "device: cpu, cuda, cuda:N (GPU number N), or auto: a GPU if there is one, else the CPU; or "
      "the name of another accelerator whose back end is loaded into LibTorch (PrivateUse1)");
    v("deterministic", deterministic,
      "on a GPU, use deterministic kernels only; slower, and an operation without one is an error");
    v("tf32", tf32,
      "TF32 on a GPU: fp32 matrix products of decoders, rewards and value networks round their "
      "inputs to 10 mantissa bits; set false to compare with the CPU");
    v("kernels", kernels,
      "auto: fused kernels of the device; plain: LibTorch operations, the reference "
      "implementation");
  }
};

/// The device that modules are made on and states are moved to: the CPU but in a DeviceScope's
/// life.
at::Device current_device();
/// One line for logs: the current device with its settings, or why it is the CPU.
const std::string& device_description();

/// Makes a device the process's current one, and restores the one before at its end. A command
/// holds one from its first line on: LibTorch asks once per process whether there is CUDA, at the
/// first operation that wants to know, and a later answer is never heard.
class DeviceScope {
 public:
  /// Opens what the options name. `cuda` throws, with what to install, where it cannot be had;
  /// `auto` takes the CPU then.
  explicit DeviceScope(const DeviceOptions& options);
  /// A device that is open already: the CPU, or the pretend one of the tests.
  explicit DeviceScope(at::Device device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

  at::Device device() const { return device_; }
  /// device_description() while this lives.
  const std::string& description() const { return description_; }

 private:
  at::Device device_, before_;
  bool fused_before_;
  std::string description_, description_before_;
};

/// Whether the setting is one of cpu, cuda, cuda:N, auto or a loaded back end's name; throws with
/// these words.
void check_device_options(const DeviceOptions& options);

/// What LibTorch's allocator holds on the current device; none on the CPU, whose memory is the
/// process's (memory_now_gib).
struct DeviceMemory {
  double now_gib = 0, peak_gib = 0;  ///< of tensors: now, and at most since reset_device_peak
};
std::optional<DeviceMemory> device_memory();
void reset_device_peak();

/// bf16 where the device multiplies it in hardware, else fp32.
at::ScalarType fast_dtype(at::Device device);

/// The plug-in's table; null where it is not there, or on the CPU.
const device::CudaApi* cuda_api();
/// False with kernels=plain: fused functions take their compositions.
bool fused_kernels();

namespace device {

/// Opens CUDA once per process. The file names are arguments for the tests.
struct CudaFiles {
  std::string driver = "libcuda.so.1";
  std::string library = {};  ///< libtorch_cuda.so; empty: beside the loaded libtorch_cpu.so
  std::string plugin = {};   ///< libvggflow_cuda.so; empty: beside the program or in its lib/
};
Problem open_cuda(const CudaFiles& files);
/// The plug-in that open_cuda found; null: none.
const CudaApi* opened_plugin();

/// What a file is as a plug-in.
struct Plugin {
  const CudaApi* api = nullptr;  ///< null where it is none of this build
  Problem problem = {};          ///< then, what differs
};
Plugin open_plugin(const std::string& file);

/// While one lives, a table of the tests is the plug-in.
class PluginScope {
 public:
  explicit PluginScope(const CudaApi& api);
  ~PluginScope();
  PluginScope(const PluginScope&) = delete;
  PluginScope& operator=(const PluginScope&) = delete;

 private:
  const CudaApi* before_;
};

/// Which of LibTorch's kernels a run on CUDA takes: attention by cuDNN's, flash, then the
/// memory-efficient ones, never by the plain formula, and what the options say.
void set_up_cuda(const DeviceOptions& options);

}  // namespace device
}  // namespace vggflow
