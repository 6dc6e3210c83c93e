#pragma once
// The strength sweep of a LoRA: W + s (alpha/r) B A for several s, each evaluated on the same
// prompts and noise. It traces reward against diversity and against the distance to the base
// without any training.

#include <vector>

#include "vggflow/eval/run.h"

namespace vggflow {

struct SweepConfig {
  EvalConfig eval;
  std::vector<double> strengths{0.25, 0.5, 0.75, 1.0, 1.25, 1.5};

  template <class V>
  void fields(V& v) {
    eval.fields(v);
    v("strengths", strengths, "LoRA strengths to evaluate; 0 (the base) is always included");
  }
};

/// Writes sweep.json, sweep.html (table and charts) and a grid of images a strength into the folder
/// `out`.
void run_sweep(const SweepConfig& config, const Group& group = {});

}  // namespace vggflow
