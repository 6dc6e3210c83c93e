#include "vggflow/nn/lora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/nearest.h"
#include "vggflow/nn/block_ring.h"

namespace vggflow {

bool matches(const std::string& pattern, const std::string& text) {
  const size_t star = pattern.find('*');
  if (star == std::string::npos) return pattern == text;
  if (text.compare(0, star, pattern, 0, star) != 0) return false;
  const std::string rest = pattern.substr(star + 1);
  for (size_t at = star; at <= text.size(); ++at) {
    if (matches(rest, text.substr(at))) return true;
  }
  return false;
}

LoraSet::LoraSet(Module& network, const LoraOptions& options, uint64_t seed) {
  VGGFLOW_CHECK(options.rank > 0, "[lora] expected rank > 0, got {}", options.rank);
  std::vector<std::string> known;
  std::vector<bool> used(options.targets.size());
  for (auto& [path, module] : network.modules()) {
    auto* layer = dynamic_cast<Linear*>(module);
    if (!layer) continue;
    known.push_back(path);
    bool hit = false;
    for (size_t i = 0; i < options.targets.size(); ++i) {
      if (matches(options.targets[i], path)) hit = used[i] = true;
    }
    if (!hit) continue;
    RandomStream random({seed, Purpose::kInit, /*update=*/1, layers_.size()});
    const auto place = at::device(layer->weight.device()).dtype(at::kFloat);
    Tensor a = at::empty({options.rank, layer->in}, place);
    fill_on_host(a, [&](std::span<float> values) { random.fill_normal(values); });
    scales_.push_back(options.alpha / static_cast<double>(options.rank));
    layer->lora = {(a / static_cast<double>(options.rank)).requires_grad_(true),
                   at::zeros({layer->out, options.rank}, place).requires_grad_(true),
                   scales_.back()};
    paths_.push_back(path);
    layers_.push_back(layer);
  }
  for (size_t i = 0; i < used.size(); ++i) {
    VGGFLOW_CHECK(used[i], "[lora] target '{}' matches no linear layer; the layers are: {}",
                  options.targets[i], examples_of(known, ", "));
  }
  VGGFLOW_CHECK(!layers_.empty(),
                "[lora] expected at least one target pattern, got none; the layers are: {}",
                examples_of(known, ", "));
}

LoraSet::LoraSet(Module& network, const std::vector<LoraLayer>& adapters) {
  VGGFLOW_CHECK(!adapters.empty(), "[lora] expected at least one adapter, got none");
  std::map<std::string, std::pair<Linear*, const LoraLayer*>> pairs;
  for (const LoraLayer& adapter : adapters) pairs[adapter.path] = {nullptr, &adapter};
  std::vector<std::string> known, problems;
  for (auto& [path, module] : network.modules()) {
    auto* layer = dynamic_cast<Linear*>(module);
    if (!layer) continue;
    known.push_back(path);
    const auto found = pairs.find(path);
    if (found == pairs.end()) continue;
    found->second.first = layer;
    paths_.push_back(path);
  }
  for (const auto& [path, pair] : pairs) {
    const auto& [layer, adapter] = pair;
    if (!layer) {
      problems.push_back(
          fmt::format("no layer '{}' (near: {})", path, fmt::join(nearest(path, known, 2), ", ")));
    } else if (adapter->a.size(1) != layer->in || adapter->b.size(0) != layer->out) {
      problems.push_back(fmt::format("'{}' is a layer {} -> {}, its adapter {} -> {}", path,
                                     layer->in, layer->out, adapter->a.size(1),
                                     adapter->b.size(0)));
    }
  }
  VGGFLOW_CHECK(problems.empty(), "[lora] {} of {} adapters do not fit the network: {}",
                problems.size(), adapters.size(), examples_of(problems));
  const auto leaf = [](const Tensor& x, at::Device device) {
    return x.detach()
        .to(device, at::kFloat, /*non_blocking=*/false, /*copy=*/true)
        .requires_grad_(true);
  };
  for (const std::string& path : paths_) {
    const auto& [layer, adapter] = pairs.at(path);
    layer->lora = {leaf(adapter->a, layer->weight.device()),
                   leaf(adapter->b, layer->weight.device()), adapter->scale};
    layers_.push_back(layer);
    scales_.push_back(adapter->scale);
  }
}

std::vector<LoraLayer> LoraSet::adapters() const {
  std::vector<LoraLayer> all;
  for (size_t i = 0; i < layers_.size(); ++i)
    all.push_back({paths_[i], layers_[i]->lora.a.detach().cpu(), layers_[i]->lora.b.detach().cpu(),
                   scales_[i]});
  return all;
}

std::vector<NamedTensor> LoraSet::parameters() const {
  std::vector<NamedTensor> all;
  for (size_t i = 0; i < layers_.size(); ++i) {
    all.push_back({paths_[i] + ".lora_A.weight", &layers_[i]->lora.a});
    all.push_back({paths_[i] + ".lora_B.weight", &layers_[i]->lora.b});
  }
  return all;
}

void LoraSet::set_strength(double strength) {
  for (size_t i = 0; i < layers_.size(); ++i) layers_[i]->lora.scale = strength * scales_[i];
}

namespace {

// weight + scale B A in the weight's dtype.
Tensor merged_weight(const Linear& layer) {
  const Tensor delta = at::matmul(layer.lora.b, layer.lora.a) * layer.lora.scale;
  return (layer.weight.to(at::kFloat) + delta).to(layer.weight.scalar_type());
}

struct Merge {
  Linear* into;
  const Linear* adapted;  // null: the layer stays as it is
};

// Layers whose weights lie behind one another: so do the merged ones.
void merge(const std::vector<Merge>& run) {
  std::vector<Tensor> weights;
  bool changes = false;
  for (const Merge& m : run) {
    changes = changes || m.adapted;
    weights.push_back(m.adapted ? merged_weight(*m.adapted) : m.into->weight);
  }
  if (!changes) return;
  if (run.size() > 1) weights = at::cat(weights, 0).chunk(std::ssize(run), 0);
  for (size_t i = 0; i < run.size(); ++i) run[i].into->weight = weights[i];
}

}  // namespace

void LoraSet::merge_into(Module& other) const {
  const at::NoGradGuard no_grad;
  std::map<std::string, const Linear*> adapted;
  for (size_t i = 0; i < layers_.size(); ++i) adapted[paths_[i]] = layers_[i];
  std::vector<Merge> run;
  for (auto& [path, module] : other.modules()) {
    auto* layer = dynamic_cast<Linear*>(module);
    if (!layer) {
      merge(run);
      run.clear();
      if (const auto* visitor = dynamic_cast<const Visitor*>(module)) visitor->bring_weights();
      continue;
    }
    if (!run.empty() && !lies_behind(run.back().into->weight, layer->weight)) {
      merge(run);
      run.clear();
    }
    const auto found = adapted.find(path);
    run.push_back({layer, found == adapted.end() ? nullptr : found->second});
    if (found != adapted.end()) adapted.erase(found);
  }
  merge(run);
  VGGFLOW_CHECK(adapted.empty(),
                "[lora] expected a view of the adapted network, got one without '{}'",
                adapted.begin()->first);
}

void LoraSet::bake() {
  const at::NoGradGuard no_grad;
  for (Linear* layer : layers_) {
    layer->weight = merged_weight(*layer);
    layer->lora = {};
  }
  layers_.clear();
  paths_.clear();
  scales_.clear();
}

}  // namespace vggflow
