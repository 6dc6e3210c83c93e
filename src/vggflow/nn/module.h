#pragma once
// Modules as plain structs with named parameters: the names are the checkpoint's names, so loading
// is a walk over a list. A module registers references to its own members, so it is neither copied
// nor moved.

#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "vggflow/core/random.h"
#include "vggflow/ops/functional.h"

namespace vggflow {

struct NamedTensor {
  std::string name;  ///< dotted path, "transformer_blocks.0.attn.to_q.weight"
  Tensor* tensor;
};

/// What a parameter is when its module is made: `value` everywhere on the current device
/// (device/device.h), or, where a ShapesOnly lives, a shape alone.
Tensor new_parameter(at::IntArrayRef shape, double value = 0);

/// Fills x (contiguous, fp32) with what `draw` writes: on the host, whatever x's device, so that a
/// seed means the same everywhere.
void fill_on_host(Tensor& x, const std::function<void(std::span<float>)>& draw);

/// While one lives, the modules that this thread makes have parameters without memory (PyTorch's
/// meta tensors), to be replaced by a file's before the first use: a network of gigabytes is then
/// never held twice.
class ShapesOnly {
 public:
  ShapesOnly();
  ~ShapesOnly();
  ShapesOnly(const ShapesOnly&) = delete;
  ShapesOnly& operator=(const ShapesOnly&) = delete;
};

class Module {
 public:
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  /// All parameters, depth first, in order of registration.
  std::vector<NamedTensor> parameters(const std::string& prefix = "") const;
  /// All submodules with their paths, this one first.
  std::vector<std::pair<std::string, Module*>> modules(const std::string& prefix = "");
  std::vector<std::pair<std::string, const Module*>> modules(const std::string& prefix = "") const;
  int64_t parameter_count() const;
  /// Switches gradients of every parameter on or off.
  void set_requires_grad(bool on);
  /// Converts every parameter to `dtype` (detached). Frozen networks run in the dtype of their
  /// weights.
  void to(at::ScalarType dtype);
  /// Moves every parameter (detached; gradients are asked for as before). Modules are made on the
  /// current device: this is for those that are there already.
  void to(at::Device device);

 protected:
  void add(std::string name, Tensor& parameter);
  void add(std::string name, Module& child);

 private:
  std::vector<std::pair<std::string, Tensor*>> tensors_;
  std::vector<std::pair<std::string, Module*>> children_;
};

/// Low-rank adapter of one linear layer: adds scale * (x A^T) B^T, A (r, in), B (out, r), scale =
/// alpha / r (Hu et al. 2021).
struct LoraAdapter {
  Tensor a, b;
  double scale = 1;
};

/// y = x W^T + b, with an optional low-rank adapter. The weight is cast to x's dtype where they
/// differ.
class Linear : public Module {
 public:
  Linear(int64_t in, int64_t out, bool with_bias = true);
  template <TensorLike T>
  T forward(const T& x) const;
  /// Uniform(-1/sqrt(in), 1/sqrt(in)) for both, PyTorch's default.
  void init(RandomStream& random);
  void init_zero();

  int64_t in, out;
  Tensor weight;     // (out, in)
  Tensor bias;       // (out) or undefined
  LoraAdapter lora;  // takes part where it is defined
};

/// 2-D convolution layer; `bias` is undefined without one.
class Conv2d : public Module {
 public:
  Conv2d(int64_t in, int64_t out, int64_t kernel, int64_t stride = 1, int64_t padding = 0,
         int64_t groups = 1, bool with_bias = true);
  template <TensorLike T>
  T forward(const T& x) const;
  void init(RandomStream& random);
  void init_zero();

  int64_t in, out, kernel, stride, padding, groups;
  Tensor weight;  // (out, in/groups, kernel, kernel)
  Tensor bias;    // (out) or undefined
};

/// Normalisation over the last dimension with weight and bias.
class LayerNorm : public Module {
 public:
  explicit LayerNorm(int64_t width, double eps = 1e-5);
  template <TensorLike T>
  T forward(const T& x) const {
    return ops::layer_norm(x, weight.to(primal(x).scalar_type()), bias.to(primal(x).scalar_type()),
                           eps);
  }
  double eps;
  Tensor weight, bias;
};

class GroupNorm : public Module {
 public:
  GroupNorm(int64_t groups, int64_t channels, double eps = 1e-5);
  template <TensorLike T>
  T forward(const T& x) const {
    return ops::group_norm(x, groups, weight.to(primal(x).scalar_type()),
                           bias.to(primal(x).scalar_type()), eps);
  }
  int64_t groups;
  double eps;
  Tensor weight, bias;
};

class RmsNorm : public Module {
 public:
  explicit RmsNorm(int64_t width, double eps = 1e-6);
  template <TensorLike T>
  T forward(const T& x) const {
    return ops::rms_norm(x, weight.to(primal(x).scalar_type()), eps);
  }
  double eps;
  Tensor weight;
};

}  // namespace vggflow
