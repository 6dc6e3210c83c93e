// Sampling and one VGG-Flow update of the nano model, the same passes as bench/twin.py runs in
// PyTorch:
//   sample    32 images, 20 Euler steps, guidance 3, both branches in one batch
//   evaluate  64 images of the merged network in batches of 16, and their score
//   update    16 such trajectories; at 80 transitions the colourfulness gradient of the one-step
//             guess, the base velocity (both branches, no graph), the policy's conditional branch
//             with graph (the rest of it is the rollout's), backward to LoRA r = 8, AdamW. In bf16
//             v_theta - v_base is carried through the rollout's steps there (ops/pair.h), and the
//             base has no passes of its own
//   drawn     the same as the method itself runs it: transitions of each trajectory's own
//   value     what the value network (joint blocks 2, width 64, fp32) adds to such an update: nu at
//             the 80 transitions, the policy's and nu's directional derivatives along (w, 1), the
//             reward's Hessian product, the base's vector-Jacobian product, backward of the
//             consistency loss to phi; the same of the boundary loss at 16 end points; AdamW
//   step      an update with that value network by the residual over the rollout's own steps
//             (consistency.kind=step), as the method itself runs it
//   exact     the same by the exact residual, the default
//   update_apart, drawn_apart, step_apart, exact_apart   bf16 alone: the same with v_theta - v_base
//             as the difference of two calls
// Random weights of the nano shape; --benchmark_filter and VGGFLOW_THREADS choose. Prints images/s.
// --serve THREADS instead reads jobs (`sample/bf16`) from its input, one per line, runs each once
// and prints its seconds: bench/compare.py asks it and the twins in turn. `product/bf16` is one
// product of two matrices of 2048 x 2048, what the machine can do.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/algorithms/matching.h"
#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/core/log.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/families/value_network.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/train/image_problem.h"
#include "vggflow/train/optimizer.h"

namespace vggflow {
namespace {

struct Setup {
  explicit Setup(at::ScalarType dtype) : model(options(), Vocabulary({"a b c d"}, 12)) {
    const int threads =
        std::getenv("VGGFLOW_THREADS") ? std::atoi(std::getenv("VGGFLOW_THREADS")) : 2;
    at::set_num_threads(threads);
    uint64_t id = 0;
    for (const NamedTensor& p : model.parameters())
      *p.tensor = 0.05 * keyed_normal(1, Purpose::kTest, 0, id++, 1, p.tensor->sizes()).squeeze(0);
    model.to(dtype);
    model.transformer.compute = dtype;
    const std::vector<std::string> attention{
        "transformer_blocks.*.attn.to_q", "transformer_blocks.*.attn.to_k",
        "transformer_blocks.*.attn.to_v", "transformer_blocks.*.attn.to_out.0"};
    lora = std::make_unique<AdaptedFlow>(model, LoraOptions{8, 8, attention}, 1);
    buffer = std::make_unique<ParameterBuffer>(lora->parameters());
    adamw = std::make_unique<AdamW>(*buffer, AdamWOptions{});
    reward = make_reward("colorfulness", {});
    lora->merge();
  }
  static NanoOptions options() {
    NanoOptions o;
    return o;
  }
  template <class Problem = ImageProblem>
  Problem problem(int64_t rows, ValueNetwork* value = nullptr) {
    return {{model, *lora, *reward, value},
            {.guidance = 3.0},
            std::vector<std::string>(static_cast<size_t>(rows), "a b c")};
  }
  NanoModel model;
  std::unique_ptr<AdaptedFlow> lora;
  std::unique_ptr<ParameterBuffer> buffer;
  std::unique_ptr<AdamW> adamw;
  std::unique_ptr<Reward> reward;
};

/// One pass of a job, over and over: what it holds was made before.
using Pass = std::function<void()>;

Pass sample_pass(at::ScalarType dtype) {
  const auto setup = std::make_shared<Setup>(dtype);
  const auto problem = std::make_shared<ImageProblem>(setup->problem(32));
  const Tensor noise = keyed_normal(1, Purpose::kNoise, 0, 0, 32, {3, 32, 32});
  return [setup, problem, noise, times = time_grid({})] {
    benchmark::DoNotOptimize(
        sample([&](const Tensor& x, const Tensor& t) { return problem->rollout_velocity(x, t); },
               noise, times));
  };
}

Pass evaluate_pass(at::ScalarType dtype) {
  const auto setup = std::make_shared<Setup>(dtype);
  const auto problem = std::make_shared<ImageProblem>(setup->problem(16));
  const Tensor noise = keyed_normal(1, Purpose::kEvalNoise, 0, 0, 64, {3, 32, 32});
  return [setup, problem, noise, times = time_grid({})] {
    const at::NoGradGuard no_graph;
    setup->lora->merge();
    const auto velocity = [&](const Tensor& x, const Tensor& t) {
      return problem->rollout_velocity(x, t);
    };
    for (const Tensor& part : noise.split(16))
      benchmark::DoNotOptimize(problem->reward(sample(velocity, part, times), at::arange(16)));
  };
}

// 80 transitions of 16 trajectories.
const StepsOfSamples kTrained(16, {2, 6, 10, 14, 18});

RewardGradients guess_of(ImageProblem& problem, const Transitions& t) {
  return reward_gradients(problem, {}, one_step_guess(t.states.x, t.states.t, t.velocity),
                          t.states.rows, 80);
}

Rollout rollout(ImageProblem& problem, const std::vector<double>& times) {
  return roll_out(problem,
                  {.x0 = keyed_normal(1, Purpose::kNoise, 0, 0, 16, {3, 32, 32}), .times = times},
                  kTrained);
}

// v_theta - v_base as the difference of two calls.
struct Apart : ImageProblem {
  using ImageProblem::ImageProblem;
  bool has_difference() const override { return false; }
};

struct ValueSetup : Setup {
  explicit ValueSetup(at::ScalarType dtype)
      : Setup(dtype),
        network(make_value_network({.kind = ValueKind::kSmall, .width = 64, .layers = 2}, model, {},
                                   1)),
        parameters(network->parameters()),
        optimizer(parameters, AdamWOptions{}),
        posed(problem(16, network.get())),
        path(rollout(posed, time_grid({}))),
        all(pick(path, kTrained)),
        guess(guess_of(posed, all)) {}
  std::unique_ptr<ValueNetwork> network;
  ParameterBuffer parameters;
  AdamW optimizer;
  ImageProblem posed;
  Rollout path;
  Transitions all;
  RewardGradients guess;
};

Pass value_pass(at::ScalarType dtype) {
  const auto s = std::make_shared<ValueSetup>(dtype);
  return [s, options = VggFlowOptions{}] {
    s->parameters.zero_grad();
    const Tensor g = value_gradient(s->posed, options.eta, s->all.states, s->guess.gradient);
    consistency(s->posed, options.consistency, options.eta, options.beta,
                {s->all.states, s->guess.gradient, s->guess.factor, s->guess.weights, g})
        .residual.square()
        .mean()
        .backward();
    boundary_residual(s->posed, s->path.final_state(), at::arange(16)).square().mean().backward();
    s->optimizer.step(1e-3);
  };
}

// A whole update of the policy as the method itself runs it.
void run_method(Setup& s, AlignmentProblem& posed, const VggFlow& method,
                const std::vector<double>& times) {
  s.buffer->zero_grad();
  s.lora->merge();
  const Tensor noise = keyed_normal(1, Purpose::kNoise, 0, 0, 16, {3, 32, 32});
  method.update(posed, {.seed = 1, .x0 = noise, .times = times, .micro_batch = 80});
  s.adamw->step(1e-3);
}

// With the value network by one kind of residual.
template <class Problem, ConsistencyKind kind>
Pass method_pass(at::ScalarType dtype) {
  const auto s = std::make_shared<ValueSetup>(dtype);
  VggFlowOptions options;
  options.consistency.kind = kind;
  return [s, posed = std::make_shared<Problem>(s->problem<Problem>(16, s->network.get())),
          method = VggFlow(options, {}), times = time_grid({})] {
    s->parameters.zero_grad();
    run_method(*s, *posed, method, times);
    s->optimizer.step(1e-3);
  };
}

// Without one: each trajectory has transitions of its own, where `update` has one choice of steps
// for all.
template <class Problem>
Pass drawn_pass(at::ScalarType dtype) {
  const auto s = std::make_shared<Setup>(dtype);
  return [s, posed = std::make_shared<Problem>(s->problem<Problem>(16)),
          method = VggFlow(VggFlowOptions{}, {}),
          times = time_grid({})] { run_method(*s, *posed, method, times); };
}

Pass update_of(const std::shared_ptr<Setup>& setup, const std::shared_ptr<ImageProblem>& problem) {
  return [setup, problem, options = VggFlowOptions{}, times = time_grid({})] {
    setup->buffer->zero_grad();
    setup->lora->merge();
    const Transitions all = pick(rollout(*problem, times), kTrained);
    const Tensor g =
        value_gradient(*problem, options.eta, all.states, guess_of(*problem, all).gradient);
    match(*problem, options.beta, all, g, 80);
    setup->adamw->step(1e-3);
  };
}

template <class Problem>
Pass update_pass(at::ScalarType dtype) {
  const auto setup = std::make_shared<Setup>(dtype);
  return update_of(setup, std::make_shared<Problem>(setup->problem<Problem>(16)));
}

Pass product_pass(at::ScalarType dtype) {
  const Tensor a = at::ones({2048, 2048}, dtype), b = at::ones({2048, 2048}, dtype);
  return [a, b] { benchmark::DoNotOptimize(at::matmul(a, b)); };
}

struct Job {
  const char* name;
  int64_t images;
  Pass (*make)(at::ScalarType);
  bool narrow_alone = false;
};
struct TypedJob {
  std::string name;
  Job job;
  at::ScalarType dtype;
};
std::vector<TypedJob> jobs() {
  constexpr auto kExact = ConsistencyKind::kExact, kStep = ConsistencyKind::kStep;
  const std::vector<Job> all{{"sample", 32, sample_pass},
                             {"evaluate", 64, evaluate_pass},
                             {"update", 16, update_pass<ImageProblem>},
                             {"drawn", 16, drawn_pass<ImageProblem>},
                             {"step", 16, method_pass<ImageProblem, kStep>},
                             {"exact", 16, method_pass<ImageProblem, kExact>},
                             {"value", 16, value_pass},
                             {"update_apart", 16, update_pass<Apart>, true},
                             {"drawn_apart", 16, drawn_pass<Apart>, true},
                             {"step_apart", 16, method_pass<Apart, kStep>, true},
                             {"exact_apart", 16, method_pass<Apart, kExact>, true},
                             {"product", 0, product_pass}};
  std::vector<TypedJob> typed;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const bool wide = dtype == at::kFloat;
    for (const Job& job : all) {
      if (wide && job.narrow_alone) continue;
      typed.push_back({fmt::format("{}/{}", job.name, wide ? "fp32" : "bf16"), job, dtype});
    }
  }
  return typed;
}

void bench(benchmark::State& state, const TypedJob& typed) {
  const Pass pass = typed.job.make(typed.dtype);
  for (auto _ : state) pass();
  state.counters["images/s"] = benchmark::Counter(
      static_cast<double>(typed.job.images * state.iterations()), benchmark::Counter::kIsRate);
  state.counters["peak GiB"] = memory_peak_gib();
}

int serve() {
  const std::vector<TypedJob> all = jobs();
  std::map<std::string, Pass> passes;
  for (std::string line; std::getline(std::cin, line);) {
    if (!passes.contains(line)) {
      const auto found = std::find_if(all.begin(), all.end(),
                                      [&](const TypedJob& job) { return job.name == line; });
      if (found == all.end()) {
        fmt::print(stderr, "nano_bench: no job '{}'\n", line);
        return 1;
      }
      passes[line] = found->job.make(found->dtype);
    }
    const auto begin = std::chrono::steady_clock::now();
    passes[line]();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    fmt::print("{}\n", time.count());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace vggflow

int main(int argc, char** argv) {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2000 << 20);
  if (argc == 3 && std::string(argv[1]) == "--serve") {
    ::setenv("VGGFLOW_THREADS", argv[2], 1);
    at::set_num_threads(std::atoi(argv[2]));
    return vggflow::serve();
  }
  for (const vggflow::TypedJob& job : vggflow::jobs()) {
    benchmark::RegisterBenchmark(job.name.c_str(), vggflow::bench, job)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond)
        ->MinTime(4);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
