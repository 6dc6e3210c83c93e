#include "vggflow/device/cuda_driver.h"

#include <dlfcn.h>

#include <array>
#include <cstdlib>

#include "vggflow/core/error.h"

namespace vggflow::device {
namespace {

// The attributes' numbers, fixed by the driver's interface.
constexpr int kMajor = 75, kMinor = 76, kNoDevice = 100;

// Functions of the driver; each returns 0 for success.
struct Driver {
  int (*init)(unsigned);
  int (*version)(int*);
  int (*name)(char*, int, int);
  int (*memory)(size_t*, int);
  int (*attribute)(int*, int, int);
  int (*device)(int*, int);
  int (*count)(int*);
};

Driver driver{};

template <class F>
bool find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  return function != nullptr;
}

bool find_all(void* library) {
  return find(library, "cuInit", driver.init) &&
         find(library, "cuDriverGetVersion", driver.version) &&
         find(library, "cuDeviceGetName", driver.name) &&
         find(library, "cuDeviceTotalMem_v2", driver.memory) &&
         find(library, "cuDeviceGetAttribute", driver.attribute) &&
         find(library, "cuDeviceGet", driver.device) &&
         find(library, "cuDeviceGetCount", driver.count);
}

int attribute(int index, int which) {
  int device = 0, value = 0;
  if (driver.device && driver.device(&device, index) == 0) driver.attribute(&value, which, device);
  return value;
}

}  // namespace

Problem open_driver(const std::string& file) {
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return {"no NVIDIA driver is on this machine",
            fmt::format("install the card's driver, version 580 or later ({} is not found)", file)};
  if (!find_all(library))
    return {fmt::format("{} is no NVIDIA driver that is known here", file),
            "install the card's driver, version 580 or later"};
  const int status = driver.init(0);
  int count = 0;
  if (status == 0) driver.count(&count);
  if (status == kNoDevice || (status == 0 && count == 0)) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    return {"the NVIDIA driver shows no card",
            visible ? fmt::format("CUDA_VISIBLE_DEVICES is '{}': unset it", visible)
                    : "see what nvidia-smi lists"};
  }
  if (status != 0)
    return {fmt::format("the NVIDIA driver does not start (error {})", status),
            "see what nvidia-smi says of it"};
  return {};
}

int driver_cuda_version() {
  int version = 0;
  if (driver.version) driver.version(&version);
  return version;
}

std::string describe_card(int index) {
  std::array<char, 256> name{};
  size_t bytes = 0;
  int device = 0;
  if (!driver.device || driver.device(&device, index) != 0) return "unknown card";
  driver.name(name.data(), static_cast<int>(name.size()) - 1, device);
  driver.memory(&bytes, device);
  const int version = driver_cuda_version();
  return fmt::format("{}, {:.1f} GiB, compute capability {}.{}, driver for CUDA {}.{}", name.data(),
                     static_cast<double>(bytes) / (1024.0 * 1024.0 * 1024.0),
                     attribute(index, kMajor), attribute(index, kMinor), version / 1000,
                     version % 1000 / 10);
}

bool card_multiplies_bf16(int index) { return attribute(index, kMajor) >= 8; }

}  // namespace vggflow::device
