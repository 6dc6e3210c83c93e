// Sampling and one VGG-Flow update of the nano model, the same passes as bench/twin.py runs in PyTorch:
//   sample  32 images, 20 Euler steps, guidance 3, both branches in one batch
//   update  16 such trajectories; at 80 transitions the colourfulness gradient of the one-step guess, the base velocity (both
//           branches, no graph), the policy's (conditional with graph, unconditional without), backward to LoRA r = 8, AdamW
// Random weights of the nano shape; --benchmark_filter and VGGFLOW_THREADS choose. Prints images/s.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include "vggflow/core/log.h"
#include "vggflow/flow/sampling.h"
#include "vggflow/ops/random_tensor.h"
#include "vggflow/train/image_problem.h"
#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/train/optimizer.h"

namespace vggflow {
namespace {

struct Setup {
  explicit Setup(at::ScalarType dtype) : model(options(), Vocabulary({"a b c d"}, 12)) {
    const int threads = std::getenv("VGGFLOW_THREADS") ? std::atoi(std::getenv("VGGFLOW_THREADS")) : 2;
    at::set_num_threads(threads);
    uint64_t id = 0;
    for (const NamedTensor& p : model.parameters()) *p.tensor = 0.05 * keyed_normal(1, Purpose::kTest, 0, id++, 1, p.tensor->sizes()).squeeze(0);
    model.to(dtype);
    model.transformer.compute = dtype;
    lora = std::make_unique<LoraSet>(model.transformer, LoraOptions{8, 8, {"transformer_blocks.*.attn.to_q", "transformer_blocks.*.attn.to_k",
                                                                          "transformer_blocks.*.attn.to_v", "transformer_blocks.*.attn.to_out.0"}}, 1);
    buffer = std::make_unique<ParameterBuffer>(lora->parameters());
    adamw = std::make_unique<AdamW>(*buffer, AdamWOptions{});
    reward = make_reward("colorfulness", {});
    lora->merge();
  }
  static NanoOptions options() {
    NanoOptions o;
    return o;
  }
  ImageProblem problem(int64_t rows) {
    return {{model, *lora, *reward, nullptr}, {3.0, true, "hard"}, std::vector<std::string>(static_cast<size_t>(rows), "a b c")};
  }
  NanoModel model;
  std::unique_ptr<LoraSet> lora;
  std::unique_ptr<ParameterBuffer> buffer;
  std::unique_ptr<AdamW> adamw;
  std::unique_ptr<Reward> reward;
};

void finish(benchmark::State& state, int64_t images) {
  state.counters["images/s"] = benchmark::Counter(static_cast<double>(images * state.iterations()), benchmark::Counter::kIsRate);
  state.counters["peak GiB"] = memory_peak_gib();
}

void bench_sample(benchmark::State& state, at::ScalarType dtype) {
  Setup setup(dtype);
  ImageProblem problem = setup.problem(32);
  const Tensor noise = keyed_normal(1, Purpose::kNoise, 0, 0, 32, {3, 32, 32});
  const auto times = time_grid({});
  for (auto _ : state) {
    benchmark::DoNotOptimize(sample([&](const Tensor& x, const Tensor& t) { return problem.rollout_velocity(x, t); }, noise, times));
  }
  finish(state, 32);
}

void bench_update(benchmark::State& state, at::ScalarType dtype) {
  Setup setup(dtype);
  ImageProblem problem = setup.problem(16);
  const VggFlowOptions options;
  const auto times = time_grid({});
  const Tensor noise = keyed_normal(1, Purpose::kNoise, 0, 0, 16, {3, 32, 32});
  for (auto _ : state) {
    setup.buffer->zero_grad();
    setup.lora->merge();
    const Trajectory path = integrate([&](const Tensor& x, const Tensor& t) { return problem.rollout_velocity(x, t); }, noise, times);
    std::vector<Tensor> x, t, v;
    for (const size_t k : {2u, 6u, 10u, 14u, 18u}) {
      x.push_back(path.states[k]);
      v.push_back((path.states[k + 1] - path.states[k]) / (times[k + 1] - times[k]));
      t.push_back(at::full({16}, times[k]));
    }
    const States states{at::cat(x), at::cat(t), at::arange(16).repeat({5})};
    const ValueGuess guess = guess_value_gradients(problem, options, states, at::cat(v), 80);
    const Tensor g = value_gradient(problem, options, states, guess.reward_gradient);
    matching_loss(problem, options, states, g, static_cast<double>(g.numel())).backward();
    setup.adamw->step(1e-3);
  }
  finish(state, 16);
}

}  // namespace
}  // namespace vggflow

int main(int argc, char** argv) {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2000 << 20);
  for (const auto& [name, dtype] : {std::pair{"fp32", at::kFloat}, {"bf16", at::kBFloat16}}) {
    benchmark::RegisterBenchmark(fmt::format("sample/{}", name).c_str(), vggflow::bench_sample, dtype)->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(4);
    benchmark::RegisterBenchmark(fmt::format("update/{}", name).c_str(), vggflow::bench_update, dtype)->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(4);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
