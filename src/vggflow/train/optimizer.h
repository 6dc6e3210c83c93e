#pragma once
// AdamW, gradient clipping and averages over flat buffers: all parameters of a network lie in one
// block of memory, so a step is one kernel, a norm is one reduction, and a checkpoint is four
// tensors.

#include <vector>

#include "vggflow/core/field.h"
#include "vggflow/nn/module.h"

namespace vggflow {

/// The trainable tensors of one network as views of one flat fp32 buffer; their gradients likewise.
class ParameterBuffer {
 public:
  explicit ParameterBuffer(const std::vector<NamedTensor>& parameters);
  void zero_grad() { gradient_.zero_(); }
  /// Euclidean norm of the gradient.
  double gradient_norm() const;
  /// Scales the gradient to at most `max_norm`; returns the norm before. max_norm <= 0 leaves it.
  double clip(double max_norm);
  Tensor& values() { return values_; }
  const Tensor& values() const { return values_; }
  Tensor& gradient() { return gradient_; }
  /// Gradients are added to `flat` (as long as the buffer, not cleared) from now on in place of the
  /// buffer's own: those of one share of a batch.
  void accumulate_in(const Tensor& flat);
  /// What gradients are added to at present.
  Tensor& accumulated() { return accumulated_; }

 private:
  std::vector<Tensor> parameters_;
  Tensor values_, gradient_, accumulated_;
};

struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 1e-2;

  template <class V>
  void fields(V& v) {
    v("lr", lr, "learning rate", range(0, 1));
    v("beta1", beta1, "decay of the first moment", range(0, 1));
    v("beta2", beta2, "decay of the second moment", range(0, 1));
    v("eps", eps, "epsilon added to the denominator", range(0, 1));
    v("weight_decay", weight_decay, "decoupled weight decay", range(0, 10));
  }
};

class AdamW {
 public:
  AdamW(ParameterBuffer& parameters, const AdamWOptions& options);
  /// One update with learning rate `lr`. Returns false and changes nothing when the gradient is not
  /// finite.
  bool step(double lr);
  /// The same where the norm is known: on a GPU, to ask for it waits for all work before.
  bool step(double lr, double gradient_norm);
  /// State for checkpoints: first moment, second moment, number of steps.
  Tensor m, v;
  int64_t steps = 0;

 private:
  ParameterBuffer& parameters_;
  AdamWOptions options_;
};

/// Exponential moving average of a buffer: e += (1 - d) (p - e) with d = min(decay, (1 + n) / (10 +
/// n)).
class Ema {
 public:
  Ema(const ParameterBuffer& parameters, double decay)
      : values(parameters.values().clone()), decay_(decay) {}
  void update(const ParameterBuffer& parameters);
  Tensor values;
  int64_t updates = 0;

 private:
  double decay_;
};

/// Puts other values into a buffer for a scope: evaluating with the average.
class ValuesScope {
 public:
  ValuesScope(ParameterBuffer& parameters, const Tensor& values);
  ~ValuesScope();
  ValuesScope(const ValuesScope&) = delete;
  ValuesScope& operator=(const ValuesScope&) = delete;

 private:
  ParameterBuffer& parameters_;
  Tensor saved_;
};

/// Linear warm-up over `warmup` updates, then cosine from 1 to `final_fraction` at `total`.
double cosine_schedule(int64_t update, int64_t warmup, int64_t total, double final_fraction);

}  // namespace vggflow
