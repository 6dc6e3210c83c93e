#include "vggflow/testing/pretend_device.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>

#include <atomic>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>

namespace vggflow::testing {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

struct AtomicCounts {
  std::atomic<int64_t> operations{0}, to_device{0}, to_host{0}, bytes_to_device{0},
      bytes_to_host{0}, items{0};
};
AtomicCounts& counted() {
  static AtomicCounts c;
  return c;
}

// ---- memory -------------------------------------------------------------------------------------

constexpr size_t kArena = size_t{1} << 37;  // address space; pages come with their first touch
constexpr size_t kPage = 4096, kUnit = 512;

size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// `device` is never accessible; `device + kArena` is the readable twin.
struct Arena {
  Arena() {
    void* const memory =
        mmap(nullptr, 2 * kArena, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(memory != MAP_FAILED, "[pretend device] no address space");
    device = static_cast<char*>(memory);
    TORCH_CHECK(mprotect(device + kArena, kArena, PROT_READ | PROT_WRITE) == 0,
                "[pretend device] no readable twin");
  }
  struct Block {
    size_t pages, counted;
  };
  char* device;
  size_t next = 0;
  std::mutex mutex;
  std::multimap<size_t, size_t> free;  ///< size of the pages -> offset
  std::map<size_t, Block> used;        ///< offset -> size
  int64_t now = 0, peak = 0, limit = std::numeric_limits<int64_t>::max();
};
Arena& arena() {
  static auto* a = new Arena;  // outlives the tensors of static objects
  return *a;
}

void release(void* pointer) {
  if (!pointer) return;
  Arena& a = arena();
  const std::lock_guard lock(a.mutex);
  const auto offset = static_cast<size_t>(static_cast<char*>(pointer) - a.device);
  const Arena::Block block = a.used.at(offset);
  a.used.erase(offset);
  a.now -= static_cast<int64_t>(block.counted);
  madvise(a.device + kArena + offset, block.pages, MADV_DONTNEED);
  a.free.emplace(block.pages, offset);
}

struct PretendAllocator final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &release, pretend_device()};
    Arena& a = arena();
    const std::lock_guard lock(a.mutex);
    const size_t pages = rounded(bytes, kPage), counted_bytes = rounded(bytes, kUnit);
    TORCH_CHECK_WITH(OutOfMemoryError, a.now + static_cast<int64_t>(counted_bytes) <= a.limit,
                     "[pretend device] out of memory: tried to allocate ", bytes, " bytes beside ",
                     a.now, " of ", a.limit);
    const size_t offset = place(a, pages);
    a.used[offset] = {pages, counted_bytes};
    a.now += static_cast<int64_t>(counted_bytes);
    a.peak = std::max(a.peak, a.now);
    std::memset(a.device + kArena + offset, 0xFF, bytes);  // NaN in every type of numbers
    void* const pointer = a.device + offset;
    return {pointer, pointer, &release, pretend_device()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(host_twin(to), host_twin(const_cast<void*>(from)), bytes);
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    Arena& a = arena();
    const std::lock_guard lock(a.mutex);
    c10::CachingDeviceAllocator::DeviceStats stats;
    auto& all =
        stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
    all.current = a.now;
    all.peak = a.peak;
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {
    Arena& a = arena();
    const std::lock_guard lock(a.mutex);
    a.peak = a.now;
  }

 private:
  // Pages of a freed block of the same size, or fresh ones with a page between that nothing owns.
  static size_t place(Arena& a, size_t pages) {
    if (const auto found = a.free.find(pages); found != a.free.end()) {
      const size_t offset = found->second;
      a.free.erase(found);
      return offset;
    }
    const size_t offset = a.next;
    a.next += pages + kPage;
    TORCH_CHECK(a.next < kArena, "[pretend device] its address space is used up");
    return offset;
  }
};
PretendAllocator allocator;
REGISTER_ALLOCATOR(at::kPrivateUse1, &allocator);

// ---- operations ---------------------------------------------------------------------------------

const c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

bool ours(const Tensor& t) { return t.device().type() == at::kPrivateUse1; }

// A CPU tensor over the twin's memory.
Tensor on_host(const Tensor& t) {
  const auto options = t.options().device(at::kCPU).requires_grad(false);
  if (t.numel() == 0) return at::empty_strided(t.sizes(), t.strides(), options);
  Tensor twin = at::from_blob(host_twin(const_cast<void*>(t.const_data_ptr())), t.sizes(),
                              t.strides(), options);
  if (t.is_conj()) twin._set_conj(true);
  if (t.is_neg()) twin._set_neg(true);
  return twin;
}
Tensor readable(const Tensor& t) { return ours(t) ? on_host(t) : t; }

Tensor empty_memory_format(c10::IntArrayRef size, std::optional<at::ScalarType> dtype,
                           std::optional<at::Layout>, std::optional<at::Device>,
                           std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator, kKeys, c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
                     std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                     std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator, kKeys,
                                           c10::dtype_or_default(dtype));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  AtomicCounts& c = counted();
  if (ours(from) && !ours(to)) {
    ++c.to_host;
    c.bytes_to_host += static_cast<int64_t>(from.nbytes());
  }
  if (!ours(from) && ours(to)) {
    ++c.to_device;
    c.bytes_to_device += static_cast<int64_t>(from.nbytes());
  }
  Tensor target = readable(to);
  target.copy_(readable(from));
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar item(const Tensor& t) {
  ++counted().items;
  return at::_local_scalar_dense(on_host(t));
}

const Tensor& resize(const Tensor& self, c10::IntArrayRef size, std::optional<at::MemoryFormat>) {
  const auto bytes = static_cast<size_t>(c10::multiply_integers(size)) * self.element_size();
  const bool grows = self.storage().nbytes() < bytes;
  TORCH_CHECK(!grows || self.numel() == 0, "[pretend device] a tensor with values cannot grow");
  auto* const impl = self.unsafeGetTensorImpl();
  if (grows) {
    impl->unsafe_storage().set_data_ptr_noswap(allocator.allocate(bytes));
    impl->unsafe_storage().set_nbytes(bytes);
  }
  impl->set_sizes_contiguous(size);
  return self;
}

// One call of an operation on the twins of its arguments.
class TwinCall {
 public:
  explicit TwinCall(const c10::OperatorHandle& op) : op_(op) {}

  void run(torch::jit::Stack* stack) {
    const auto& arguments = op_.schema().arguments();
    const size_t begin = stack->size() - arguments.size();
    for (size_t i = 0; i < arguments.size(); ++i) enter((*stack)[begin + i], arguments[i]);
    op_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
    for (size_t i = stack->size() - op_.schema().returns().size(); i < stack->size(); ++i)
      leave((*stack)[i]);
  }

 private:
  // As on CUDA a number without dimensions may come from the CPU. An empty out= argument is given
  // an empty CPU tensor to grow.
  Tensor entered(const Tensor& t, const c10::Argument& argument) {
    if (!t.defined()) return t;
    if (!ours(t)) {
      TORCH_CHECK(t.device().is_cpu() && t.dim() == 0, "[pretend device] ", op_.schema().name(),
                  ": argument '", argument.name(), "' is on ", t.device(),
                  " and others are on the device; expected all on one");
      return t;
    }
    const bool written = argument.alias_info() && argument.alias_info()->isWrite();
    if (written && t.numel() == 0 && argument.kwarg_only()) {
      grown_.emplace_back(t, at::empty({0}, t.options().device(at::kCPU)));
      return grown_.back().second;
    }
    twins_.emplace_back(t, on_host(t));
    return twins_.back().second;
  }

  void enter(c10::IValue& v, const c10::Argument& argument) {
    if (v.isTensor()) {
      v = entered(v.toTensor(), argument);
    } else if (v.isTensorList()) {
      Tensors all;
      for (const Tensor& t : v.toTensorVector()) all.push_back(entered(t, argument));
      v = all;
    } else if (v.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> all;
      for (const auto& t : v.toOptionalTensorVector())
        all.push_back(t && t->defined() ? std::optional(entered(*t, argument)) : t);
      v = all;
    } else if (v.isDevice() && v.toDevice().type() == at::kPrivateUse1) {
      v = c10::Device(at::kCPU);
    }
  }

  Tensor left(const Tensor& t) {
    if (!t.defined()) return t;
    for (const auto& [device, twin] : twins_) {
      if (t.is_same(twin)) return device;
    }
    for (const auto& [device, twin] : grown_) {
      if (!t.is_same(twin)) continue;
      device.resize_(t.sizes());
      on_host(device).copy_(t);
      return device;
    }
    for (const auto& [device, twin] : twins_) {
      TORCH_CHECK(!t.has_storage() || !twin.has_storage() || t.numel() == 0 ||
                      !t.storage().is_alias_of(twin.storage()),
                  "[pretend device] ", op_.schema().name(), " returns a view: it needs a rule");
    }
    const Tensor out =
        at::empty_strided(t.sizes(), t.strides(), t.options().device(pretend_device()));
    if (t.numel() > 0) on_host(out).copy_(t);
    return out;
  }

  void leave(c10::IValue& v) {
    if (v.isTensor()) {
      v = left(v.toTensor());
    } else if (v.isTensorList()) {
      Tensors all;
      for (const Tensor& t : v.toTensorVector()) all.push_back(left(t));
      v = all;
    }
  }

  const c10::OperatorHandle& op_;
  std::vector<std::pair<Tensor, Tensor>> twins_, grown_;  // device tensor, what took its place
};

void on_twins(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  ++counted().operations;
  TwinCall(op).run(stack);
}

// The CPU has no product of bf16 with a result in fp32.
Tensor wide_product(const Tensor& a, const Tensor& b, at::ScalarType dtype) {
  ++counted().operations;
  TORCH_CHECK(ours(a) && ours(b), "[pretend device] aten::mm: expected all on one device");
  const Tensor y = at::mm(on_host(a).to(dtype), on_host(b).to(dtype));
  const Tensor out = at::empty(y.sizes(), y.options().device(pretend_device()));
  on_host(out).copy_(y);
  return out;
}

int64_t plain_attention(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&,
                        double, bool, std::optional<double>, bool) {
  return 0;
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&on_twins>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", empty_memory_format);
  library.impl("empty_strided", empty_strided);
  library.impl("_copy_from", copy_from);
  library.impl("_copy_from_and_resize", copy_from_and_resize);
  library.impl("_local_scalar_dense", item);
  library.impl("resize_", resize);
  library.impl("as_strided", at::native::as_strided_tensorimpl);
  library.impl("view", static_cast<Tensor (*)(const Tensor&, c10::IntArrayRef)>(at::native::view));
  library.impl("_reshape_alias", at::native::_reshape_alias);
  library.impl("unfold", at::native::unfold);
  library.impl("_fused_sdp_choice", plain_attention);
  library.impl("mm.dtype", wide_product);
  // LibTorch has formulas of simpler operations for these, which would come before the fallback and
  // are not what the CPU, or CUDA, runs.
  for (const char* name : {"native_layer_norm", "native_layer_norm_backward", "native_group_norm",
                           "native_group_norm_backward", "convolution", "convolution_backward",
                           "silu_backward", "linear_backward", "mse_loss", "mse_loss_backward"})
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&on_twins>());
}

// ---- one device, one stream ---------------------------------------------------------------------

// Everything runs at once, so events have passed when they are recorded. Autograd asks for all of
// these.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, pretend_device()); }
  c10::DeviceType type() const override { return at::kPrivateUse1; }
  c10::Device exchangeDevice(c10::Device) const override { return pretend_device(); }
  c10::Device getDevice() const override { return pretend_device(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void** event, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {
    *event = const_cast<Guard*>(this);
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  // at::manual_seed asks every device for one.
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
};

const bool registered = [] {
  c10::register_privateuse1_backend("pretend");
  at::RegisterPrivateUse1HooksInterface(new Hooks);  // owned by LibTorch for the process's life
  return true;
}();

}  // namespace

DeviceCounts DeviceCounts::operator-(const DeviceCounts& b) const {
  return {operations - b.operations,           to_device - b.to_device,         to_host - b.to_host,
          bytes_to_device - b.bytes_to_device, bytes_to_host - b.bytes_to_host, items - b.items};
}

DeviceCounts device_counts() {
  const AtomicCounts& c = counted();
  return {c.operations, c.to_device, c.to_host, c.bytes_to_device, c.bytes_to_host, c.items};
}

void* host_twin(void* device_pointer) {
  return device_pointer ? static_cast<char*>(device_pointer) + kArena : nullptr;
}

DeviceLimit::DeviceLimit(int64_t bytes) {
  Arena& a = arena();
  const std::lock_guard lock(a.mutex);
  a.limit = bytes;
}

DeviceLimit::~DeviceLimit() {
  Arena& a = arena();
  const std::lock_guard lock(a.mutex);
  a.limit = std::numeric_limits<int64_t>::max();
}

}  // namespace vggflow::testing
