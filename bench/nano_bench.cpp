// Sampling and one VGG-Flow update of the nano model, the same passes as bench/twin.py runs in
// PyTorch:
//   sample  32 images, 20 Euler steps, guidance 3, both branches in one batch
//   update  16 such trajectories; at 80 transitions the colourfulness gradient of the one-step
//   guess, the base velocity (both
//           branches, no graph), the policy's conditional branch with graph (the rest of it is the
//           rollout's), backward to LoRA r = 8, AdamW. In bf16 v_theta - v_base is carried through
//           the rollout's steps there (ops/pair.h), and the base has no passes of its own
//   update_apart   bf16 alone: the same with v_theta - v_base as the difference of two calls
//   value   what the value network (joint blocks 2, width 64, fp32) adds to such an update: nu at
//   the 80 transitions, the policy's
//           and nu's directional derivatives along (w, 1), the reward's Hessian product, the base's
//           vector-Jacobian product, backward of the consistency loss to phi; the same of the
//           boundary loss at 16 end points; AdamW
// Random weights of the nano shape; --benchmark_filter and VGGFLOW_THREADS choose. Prints images/s.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <malloc.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
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
  ImageProblem problem(int64_t rows, ValueNetwork* value = nullptr) {
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

void finish(benchmark::State& state, int64_t images) {
  state.counters["images/s"] = benchmark::Counter(static_cast<double>(images * state.iterations()),
                                                  benchmark::Counter::kIsRate);
  state.counters["peak GiB"] = memory_peak_gib();
}

void bench_sample(benchmark::State& state, at::ScalarType dtype) {
  Setup setup(dtype);
  ImageProblem problem = setup.problem(32);
  const Tensor noise = keyed_normal(1, Purpose::kNoise, 0, 0, 32, {3, 32, 32});
  const auto times = time_grid({});
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        sample([&](const Tensor& x, const Tensor& t) { return problem.rollout_velocity(x, t); },
               noise, times));
  }
  finish(state, 32);
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

void bench_value(benchmark::State& state, at::ScalarType dtype) {
  Setup setup(dtype);
  const auto value =
      make_value_network({.kind = ValueKind::kSmall, .width = 64, .layers = 2}, setup.model, {}, 1);
  ParameterBuffer buffer(value->parameters());
  AdamW adamw(buffer, AdamWOptions{});
  ImageProblem problem = setup.problem(16, value.get());
  const VggFlowOptions options;
  const auto times = time_grid({});
  setup.lora->merge();
  const Rollout path = rollout(problem, times);
  const Transitions all = pick(path, kTrained);
  const RewardGradients guess = guess_of(problem, all);
  for (auto _ : state) {
    buffer.zero_grad();
    const Tensor g = value_gradient(problem, options.eta, all.states, guess.gradient);
    consistency(problem, options.consistency, options.eta, options.beta,
                {all.states, guess.gradient, guess.factor, guess.weights, g})
        .residual.square()
        .mean()
        .backward();
    boundary_residual(problem, path.final_state(), at::arange(16)).square().mean().backward();
    adamw.step(1e-3);
  }
  finish(state, 16);
}

void bench_update_of(benchmark::State& state, Setup& setup, ImageProblem& problem) {
  const VggFlowOptions options;
  const auto times = time_grid({});
  for (auto _ : state) {
    setup.buffer->zero_grad();
    setup.lora->merge();
    const Transitions all = pick(rollout(problem, times), kTrained);
    const Tensor g =
        value_gradient(problem, options.eta, all.states, guess_of(problem, all).gradient);
    match(problem, options.beta, all, g, 80);
    setup.adamw->step(1e-3);
  }
  finish(state, 16);
}

void bench_update(benchmark::State& state, at::ScalarType dtype) {
  Setup setup(dtype);
  ImageProblem problem = setup.problem(16);
  bench_update_of(state, setup, problem);
}

void bench_update_apart(benchmark::State& state) {
  struct Apart : ImageProblem {
    using ImageProblem::ImageProblem;
    bool has_difference() const override { return false; }
  };
  Setup setup(at::kBFloat16);
  Apart problem({setup.model, *setup.lora, *setup.reward, nullptr}, {.guidance = 3.0},
                std::vector<std::string>(16, "a b c"));
  bench_update_of(state, setup, problem);
}

}  // namespace
}  // namespace vggflow

int main(int argc, char** argv) {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2000 << 20);
  using Job = void (*)(benchmark::State&, at::ScalarType);
  const std::vector<std::pair<const char*, Job>> jobs{{"sample", vggflow::bench_sample},
                                                      {"update", vggflow::bench_update},
                                                      {"value", vggflow::bench_value}};
  for (const auto& [name, dtype] : {std::pair{"fp32", at::kFloat}, {"bf16", at::kBFloat16}}) {
    for (const auto& [job, run] : jobs) {
      benchmark::RegisterBenchmark(fmt::format("{}/{}", job, name).c_str(), run, dtype)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond)
          ->MinTime(4);
    }
  }
  benchmark::RegisterBenchmark("update_apart/bf16", vggflow::bench_update_apart)
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond)
      ->MinTime(4);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
