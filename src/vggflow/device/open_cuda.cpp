// Opens LibTorch's CUDA back end and our plug-in in a program that is linked to neither.
#include <ATen/Context.h>
#include <dlfcn.h>
#include <link.h>
#include <torch/headeronly/version.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/module_file.h"
#include "vggflow/device/cuda_driver.h"
#include "vggflow/device/device.h"
#include "vggflow/device/installation.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

const device::CudaApi* plugin = nullptr;
bool opened = false;

// The folder of LibTorch as it is loaded into this process.
fs::path torch_folder() {
  Dl_info info{};
  const bool found = dladdr(reinterpret_cast<const void*>(&at::globalContext), &info) != 0;
  void* const library = dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_NOLOAD);
  link_map* map = nullptr;
  if (library && dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 && map)
    return fs::path(map->l_name).parent_path();
  return found ? fs::path(info.dli_fname).parent_path() : fs::path();
}

fs::path torch_cuda() { return torch_folder() / "libtorch_cuda.so"; }

device::Problem find_torch_cuda(const fs::path& library) {
  if (fs::exists(library)) return {};
  return {"this LibTorch has no CUDA",
          fmt::format("install the one that has it with scripts/setup.sh --cuda ({} is not there)",
                      library.string())};
}

device::Problem load_torch_cuda(const fs::path& library) {
  if (device::Problem problem = find_torch_cuda(library); !problem.what.empty()) return problem;
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  if (!dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL))
    return {fmt::format("LibTorch's CUDA library does not load ({})", dlerror()),
            "install the libraries that it needs with scripts/setup.sh --cuda, or pip install -r "
            "requirements-cuda.txt"};
  return {};
}

// The driver must serve the CUDA that LibTorch was built with, up to its minor version.
device::Problem check_versions() {
  const long built = at::globalContext().versionCUDART();
  const int served = device::driver_cuda_version();
  if (served / 1000 < built / 1000)
    return {fmt::format("the NVIDIA driver serves CUDA {}.{}, LibTorch needs {}.{}", served / 1000,
                        served % 1000 / 10, built / 1000, built % 1000 / 10),
            "install a newer driver"};
  if (!at::hasCUDA())
    return {"LibTorch finds no GPU although the driver shows one",
            "it was asked before its CUDA library was opened, which is a fault of this program: "
            "report it"};
  return {};
}

fs::path find_plugin() {
  const fs::path program = module_file().parent_path();
  for (const fs::path& folder : {program, program / "lib", program / ".." / "lib"}) {
    if (fs::exists(folder / "libvggflow_cuda.so")) return folder / "libvggflow_cuda.so";
  }
  return {};
}

}  // namespace

const device::CudaApi* cuda_api() { return current_device().is_cpu() ? nullptr : plugin; }

namespace device {

const CudaApi* opened_plugin() { return plugin; }

std::string missing_for_cuda() { return find_torch_cuda(torch_cuda()).what; }

void require_installed(const std::string& device) {
  if (!device.starts_with("cuda")) return;
  for (const auto& [what, remedy] :
       {open_driver(CudaFiles{}.driver), find_torch_cuda(torch_cuda())})
    VGGFLOW_CHECK(what.empty(), "[device] device={}: {}; {}", device, what, remedy);
}

Plugin open_plugin(const std::string& file) {
  const auto refused = [](const std::string& what) {
    return Plugin{nullptr, {what, "build it together with this program, or remove the file"}};
  };
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return refused(fmt::format("{} does not load ({})", file, dlerror()));
  const auto function = reinterpret_cast<CudaApiFunction>(dlsym(library, kCudaApiSymbol));
  if (!function)
    return refused(fmt::format("{} is no plug-in of vggflow: it has no {}", file, kCudaApiSymbol));
  const CudaApi& api = *function();
  if (api.abi != kCudaAbi || std::strcmp(api.torch_version, TORCH_VERSION) != 0)
    return refused(
        fmt::format("{} was built for interface {} and LibTorch {}, this program for {} and {}",
                    file, api.abi, api.torch_version, kCudaAbi, TORCH_VERSION));
  return {&api, {}};
}

PluginScope::PluginScope(const CudaApi& api) : before_(std::exchange(plugin, &api)) {}
PluginScope::~PluginScope() { plugin = before_; }

Problem open_cuda(const CudaFiles& files) {
  if (opened) return {};
  if (Problem problem = open_driver(files.driver); !problem.what.empty()) return problem;
  const fs::path library = files.library.empty() ? torch_cuda() : fs::path(files.library);
  if (Problem problem = load_torch_cuda(library); !problem.what.empty()) return problem;
  if (Problem problem = check_versions(); !problem.what.empty()) return problem;
  const fs::path ours = files.plugin.empty() ? find_plugin() : fs::path(files.plugin);
  if (!ours.empty()) {
    const Plugin found = open_plugin(ours.string());
    if (!found.api) return found.problem;
    plugin = found.api;
  }
  opened = true;
  return {};
}

}  // namespace device
}  // namespace vggflow
