#include "vggflow/device/device.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceType.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/core/error.h"
#include "vggflow/core/processor.h"
#include "vggflow/device/range.h"

namespace vggflow {
namespace {

at::Device current = at::kCPU;
bool fused = true;
std::string& current_description() {
  static std::string description = "cpu";
  return description;
}

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

// What a setting asks for.
struct Wanted {
  bool cuda = false, needed = false, other = false;
  c10::DeviceIndex index = 0;
};

// LibTorch has a place for one accelerator besides those that it knows, by a name of its own.
bool is_loaded_backend(const std::string& name) {
  return c10::is_privateuse1_backend_registered() && name == c10::get_privateuse1_backend();
}

Wanted parse(const std::string& setting) {
  if (is_loaded_backend(setting)) return {.other = true};
  if (setting == "auto") return {.cuda = true};
  if (setting == "cpu") return {};
  if (setting == "cuda") return {.cuda = true, .needed = true};
  int number = -1;
  const std::string start = "cuda:";
  if (setting.starts_with(start)) {
    const char *begin = setting.data() + start.size(), *end = setting.data() + setting.size();
    const auto [stop, problem] = std::from_chars(begin, end, number);
    if (problem != std::errc() || stop != end) number = -1;
  }
  VGGFLOW_CHECK(number >= 0 && number < 128,
                "[device] expected device=auto, cpu, cuda or cuda:N with N from 0, got '{}'",
                setting);
  return {.cuda = true, .needed = true, .index = static_cast<c10::DeviceIndex>(number)};
}

// cuDNN's, flash, memory-efficient; LibTorch wants all others named too.
std::vector<int64_t> attention_order() {
  std::vector<int64_t> order;
  const auto add = [&](at::SDPBackend backend) {
    const auto number = static_cast<int64_t>(backend);
    if (std::find(order.begin(), order.end(), number) == order.end()) order.push_back(number);
  };
  add(at::SDPBackend::cudnn_attention);
  add(at::SDPBackend::flash_attention);
  add(at::SDPBackend::efficient_attention);
  for (const at::SDPBackend backend : at::globalContext().sDPPriorityOrder()) add(backend);
  return order;
}

std::string settings_text(const DeviceOptions& o) {
  return fmt::format(
      "attention by {}flash or memory-efficient kernels, TF32 {}, {}kernels {}{}",
      o.deterministic ? "" : "cuDNN, ", o.tf32 ? "on" : "off",
      o.deterministic ? "deterministic, " : "", word_of(o.kernels),
      device::opened_plugin() ? "" : " (LibTorch's: there is no libvggflow_cuda.so)");
}

struct Opened {
  at::Device device = at::kCPU;
  std::string description = "cpu";
};

Opened open(const DeviceOptions& o) {
  const Wanted wanted = parse(o.device);
  if (wanted.other) {
    const at::Device place(at::kPrivateUse1, 0);
    return {place, fmt::format("{}, an accelerator that was loaded into LibTorch", place.str())};
  }
  if (!wanted.cuda) return {};
  const auto [problem, remedy] = device::open_cuda({});
  VGGFLOW_CHECK(problem.empty() || !wanted.needed, "[device] device={}: {}; {}", o.device, problem,
                remedy);
  if (!problem.empty()) return {at::kCPU, fmt::format("cpu, since {}", problem)};
  const auto count = at::accelerator::deviceCount();
  VGGFLOW_CHECK(wanted.index < count, "[device] expected device=cuda:0 to cuda:{}, got '{}'",
                count - 1, o.device);
  at::accelerator::setDeviceIndex(wanted.index);
  device::set_up_cuda(o);
  const at::Device place(at::kCUDA, wanted.index);
  return {place, fmt::format("{}, {}; {}", place.str(), device::describe_card(wanted.index),
                             settings_text(o))};
}

}  // namespace

// Attention runs on cuDNN's, the flash or the memory-efficient kernels: the plain formula holds
// all tokens against all tokens, and a silent fall to it would take a hundred times the memory.
// cuDNN's backward pass is not deterministic.
void device::set_up_cuda(const DeviceOptions& o) {
  at::Context& context = at::globalContext();
  context.setSDPPriorityOrder(attention_order());
  context.setSDPUseCuDNN(!o.deterministic);
  context.setSDPUseFlash(true);
  context.setSDPUseMemEfficient(true);
  context.setSDPUseMath(false);
  context.setAllowTF32CuBLAS(o.tf32);
  context.setAllowTF32CuDNN(o.tf32);
  // Sums over the parts of a long product stay in fp32.
  context.setAllowBF16ReductionCuBLAS(false);
  context.setAllowFP16ReductionCuBLAS(false);
  context.setDeterministicCuDNN(o.deterministic);
  context.setDeterministicAlgorithms(o.deterministic, /*warn_only=*/false);
  context.setDeterministicFillUninitializedMemory(false);
}

at::Device current_device() { return current; }
const std::string& device_description() { return current_description(); }
bool fused_kernels() { return fused; }

void check_device_options(const DeviceOptions& options) { parse(options.device); }

DeviceScope::DeviceScope(const DeviceOptions& options)
    : device_(at::kCPU),
      before_(current),
      fused_before_(fused),
      description_before_(current_description()) {
  Opened opened = open(options);
  description_ = current_description() = std::move(opened.description);
  current = device_ = opened.device;
  fused = options.kernels != Kernels::kPlain;
}

DeviceScope::DeviceScope(at::Device device)
    : device_(device),
      before_(std::exchange(current, device)),
      fused_before_(fused),
      description_(device.str()),
      description_before_(std::exchange(current_description(), description_)) {}

DeviceScope::~DeviceScope() {
  current = before_;
  fused = fused_before_;
  current_description() = std::move(description_before_);
}

DeviceRange::DeviceRange(const char* name) : api_(cuda_api()) {
  if (api_) api_->range_push(name);
}
DeviceRange::~DeviceRange() {
  if (api_) api_->range_pop();
}

namespace {

c10::DeviceAllocator* allocator() {
  return current.is_cpu() ? nullptr : c10::getDeviceAllocator(current.type());
}

}  // namespace

std::optional<DeviceMemory> device_memory() {
  c10::DeviceAllocator* const from = allocator();
  if (!from) return std::nullopt;
  const auto stats = from->getDeviceStats(current.index());
  const auto& bytes =
      stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
  return DeviceMemory{static_cast<double>(bytes.current) / kGib,
                      static_cast<double>(bytes.peak) / kGib};
}

void reset_device_peak() {
  if (c10::DeviceAllocator* const from = allocator()) from->resetPeakStats(current.index());
}

at::ScalarType fast_dtype(at::Device place) {
  const bool fast =
      place.is_cuda() ? device::card_multiplies_bf16(place.index()) : processor().avx512_bf16;
  return fast ? at::kBFloat16 : at::kFloat;
}

}  // namespace vggflow
