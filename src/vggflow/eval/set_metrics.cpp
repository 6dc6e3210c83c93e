#include "vggflow/eval/set_metrics.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <cmath>
#include <map>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/data/prompt_sets.h"

namespace vggflow {
namespace {

using Places = std::vector<int64_t>;
using GroupValues = std::vector<std::pair<std::string, double>>;

Tensor rows_of(const Tensor& x, const Places& places) { return x.index_select(0, at::tensor(places, at::kLong)); }

// Values of the groups for which f is defined: it returns NaN for the others.
GroupValues values_by_group(const MeasuredSet& set, const std::function<double(const Places&)>& f) {
  GroupValues values;
  for (size_t g = 0; g < set.grouped.groups.size(); ++g) {
    if (const double v = f(set.grouped.places[g]); std::isfinite(v)) values.emplace_back(set.grouped.groups[g], v);
  }
  return values;
}

std::vector<double> numbers_of(const GroupValues& values) {
  std::vector<double> out;
  for (const auto& [group, v] : values) out.push_back(v);
  return out;
}

std::optional<PromptMean> mean_over_prompts(const std::vector<double>& values, const SetMetricOptions& o) {
  if (values.empty()) return std::nullopt;
  return PromptMean{static_cast<int64_t>(values.size()), estimate(values), bootstrap_interval(values, static_cast<uint64_t>(o.seed), o.bootstrap)};
}

std::vector<double> paired_changes(const GroupValues& a, const GroupValues& b) {
  const std::map<std::string, double> before(b.begin(), b.end());
  std::vector<double> changes;
  for (const auto& [group, v] : a) {
    if (const auto found = before.find(group); found != before.end()) changes.push_back(v - found->second);
  }
  return changes;
}

// f(set, places of one prompt's images) for both sets; nothing where no prompt of a has a value.
void add_measure(SetComparison& c, const std::string& name, const std::string& network, const std::function<double(const MeasuredSet&, const Places&)>& f) {
  PromptMeasure m{name, network, {}, {}, {}, {}, {}};
  m.values_a = values_by_group(c.a, [&](const Places& places) { return f(c.a, places); });
  const auto mean = mean_over_prompts(numbers_of(m.values_a), c.options);
  if (!mean) return;
  m.a = *mean;
  if (c.b) {
    m.values_b = values_by_group(*c.b, [&](const Places& places) { return f(*c.b, places); });
    m.b = mean_over_prompts(numbers_of(m.values_b), c.options);
    m.change = mean_over_prompts(paired_changes(m.values_a, m.values_b), c.options);
  }
  c.by_prompt.push_back(std::move(m));
}

// Every second image of each group, from the first or the second on; of groups of an odd number the halves take the longer part in turn, so that
// sets with one image a prompt have halves too.
MeasuredSet half(const MeasuredSet& set, size_t which) {
  MeasuredSet out;
  Places kept;
  size_t first = which;
  for (size_t g = 0; g < set.grouped.groups.size(); ++g) {
    out.grouped.groups.push_back(set.grouped.groups[g]);
    out.grouped.places.emplace_back();
    const size_t start = first;
    if (set.grouped.places[g].size() % 2 == 1) first = 1 - first;
    for (size_t i = start; i < set.grouped.places[g].size(); i += 2) {
      out.grouped.places.back().push_back(static_cast<int64_t>(kept.size()));
      kept.push_back(set.grouped.places[g][i]);
    }
  }
  for (const Tensor& f : set.features) out.features.push_back(rows_of(f, kept));
  return out;
}

// Frechet distance of each prompt's images to the same prompt's of `reference`: what the paper averages.
GroupValues prompt_distances(const MeasuredSet& set, const MeasuredSet& reference, size_t network) {
  std::map<std::string, Places> others;
  for (size_t g = 0; g < reference.grouped.groups.size(); ++g) others[reference.grouped.groups[g]] = reference.grouped.places[g];
  GroupValues values;
  for (size_t g = 0; g < set.grouped.groups.size(); ++g) {
    const auto found = others.find(set.grouped.groups[g]);
    if (found == others.end() || found->second.size() < 2 || set.grouped.places[g].size() < 2) continue;
    values.emplace_back(set.grouped.groups[g],
                        frechet_distance(rows_of(set.features[network], set.grouped.places[g]), rows_of(reference.features[network], found->second)));
  }
  return values;
}

struct Distance {
  const char* name;
  int64_t least;  ///< images a set that it needs
  std::function<double(const Tensor& a, const Tensor& b)> f;
  std::function<double(const Tensor& a, const Tensor& b)> smooth = f;  ///< what the jackknife takes: KID without its random subsets
};

std::vector<Distance> distances(const SetMetricOptions& o) {
  const auto seed = static_cast<uint64_t>(o.seed);
  return {{"fd", 2, frechet_distance},
          {"kid", 4, [o, seed](const Tensor& a, const Tensor& b) { return kernel_distance(a, b, seed, o.kid_subsets, o.kid_size).mean; }, squared_mmd},
          {"cmmd", 2, [](const Tensor& a, const Tensor& b) { return cmmd(a, b); }},
          {"precision", o.neighbours + 1, [o](const Tensor& a, const Tensor& b) { return precision_recall(a, b, o.neighbours).precision; }},
          {"recall", o.neighbours + 1, [o](const Tensor& a, const Tensor& b) { return precision_recall(a, b, o.neighbours).recall; }}};
}

// Rows of the groups that a jackknife keeps, by name, so that a prompt leaves both sets at once.
Tensor kept_rows(const MeasuredSet& set, size_t network, const std::map<std::string, bool>& kept) {
  Places places;
  for (size_t g = 0; g < set.grouped.groups.size(); ++g) {
    if (kept.at(set.grouped.groups[g])) places.insert(places.end(), set.grouped.places[g].begin(), set.grouped.places[g].end());
  }
  return rows_of(set.features[network], places);
}

std::vector<std::string> all_groups(const MeasuredSet& a, const MeasuredSet& b) {
  std::vector<std::string> names = a.grouped.groups;
  for (const std::string& g : b.grouped.groups) {
    if (std::find(names.begin(), names.end(), g) == names.end()) names.push_back(g);
  }
  return names;
}

// The jackknife's error of each distance; none where leaving a group out leaves too few images.
std::vector<std::optional<double>> errors(const SetComparison& c, size_t network, const std::vector<Distance>& all) {
  const std::vector<std::string> names = all_groups(c.a, *c.b);
  std::vector<std::optional<double>> none(all.size());
  const int64_t groups = std::min<int64_t>(c.options.jackknife, static_cast<int64_t>(names.size()));
  const int64_t least = std::max<int64_t>(4, c.options.neighbours + 1);
  if (groups < 2) return none;
  bool enough = true;
  const auto se = jackknife_errors(static_cast<int64_t>(names.size()), groups, [&](const std::vector<bool>& keep) {
    std::map<std::string, bool> kept;
    for (size_t i = 0; i < names.size(); ++i) kept[names[i]] = keep[i];
    const Tensor a = kept_rows(c.a, network, kept), b = kept_rows(*c.b, network, kept);
    enough = enough && std::min(a.size(0), b.size(0)) >= least;
    std::vector<double> values;
    for (const Distance& d : all) values.push_back(enough ? d.smooth(a, b) : 0.0);
    return values;
  });
  return enough ? std::vector<std::optional<double>>(se.begin(), se.end()) : none;
}

std::optional<double> distance_or_none(const Distance& d, const Tensor& a, const Tensor& b) {
  return std::min(a.size(0), b.size(0)) >= d.least ? std::optional(d.f(a, b)) : std::nullopt;
}

void add_distances(SetComparison& c, size_t network) {
  const std::vector<Distance> all = distances(c.options);
  const auto se = errors(c, network, all);
  const MeasuredSet a_half = half(c.a, 0), b_half = half(*c.b, 0), b_other = half(*c.b, 1);
  for (size_t i = 0; i < all.size(); ++i) {
    const auto value = distance_or_none(all[i], c.a.features[network], c.b->features[network]);
    if (!value) {
      log_info("{} on {} is left out: it needs {} images in each set, and there are {} and {}", all[i].name, c.networks[network]->name(), all[i].least, c.a.size(),
               c.b->size());
      continue;
    }
    SetMeasure m{all[i].name, c.networks[network]->name(), *value, se[i], {}, {}};
    if (c.base) {
      m.floor = distance_or_none(all[i], c.base->features[network], c.b->features[network]);
    } else {
      m.floor = distance_or_none(all[i], b_half.features[network], b_other.features[network]);
      m.matched = distance_or_none(all[i], a_half.features[network], b_other.features[network]);
    }
    c.as_a_whole.push_back(m);
  }
}

// The paper's distance: its "b" is the floor, base against base. Without a second set of the base both sides are halves.
void add_prompt_distance(SetComparison& c, size_t network) {
  const MeasuredSet other = half(*c.b, 1);
  PromptMeasure m{c.base ? "fd by prompt" : "fd by prompt, halves", c.networks[network]->name(), {}, {}, {}, {}, {}};
  m.values_a = c.base ? prompt_distances(c.a, *c.b, network) : prompt_distances(half(c.a, 0), other, network);
  m.values_b = c.base ? prompt_distances(*c.base, *c.b, network) : prompt_distances(half(*c.b, 0), other, network);
  const auto mean = mean_over_prompts(numbers_of(m.values_a), c.options);
  VGGFLOW_CHECK(mean, "[set_metrics] expected prompts with at least {} images in both sets for the distance by prompt", c.base ? 2 : 4);
  m.a = *mean;
  m.b = mean_over_prompts(numbers_of(m.values_b), c.options);
  m.change = mean_over_prompts(paired_changes(m.values_a, m.values_b), c.options);
  c.by_prompt.push_back(std::move(m));
}

int64_t identical_images(const ImageSet& set, const std::vector<uint64_t>& hashes) {
  return audit_batch(set.groups, hashes).repeated();
}

double mean_of(const Tensor& scores, const Places& places) {
  const Tensor x = rows_of(scores, places).to(at::kDouble);
  return x.masked_select(x.isnan().logical_not()).mean().item<double>();  // NaN of none
}

Json json_of(const std::optional<PromptMean>& m) {
  if (!m) return nullptr;
  return {{"mean", m->estimate.mean}, {"se", m->estimate.se}, {"low", m->interval.low}, {"high", m->interval.high}, {"n", m->n}};
}

Json json_of(const std::optional<double>& v) { return v ? Json(*v) : Json(nullptr); }

Json json_of(const MeasuredSet& s) {
  return {{"name", s.name}, {"images", s.size()}, {"prompts", s.grouped.groups.size()}, {"saturated", s.saturated}, {"left_out", s.left_out},
          {"without_prompt", s.without_prompt}, {"identical", s.identical}, {"unscored", s.unscored()}};
}

Json json_of(const GroupValues& values) {
  Json out = Json::object();
  for (const auto& [group, v] : values) out[group] = v;
  return out;
}

}  // namespace

int64_t MeasuredSet::size() const {
  int64_t n = 0;
  for (const auto& p : grouped.places) n += static_cast<int64_t>(p.size());
  return n;
}

std::vector<std::pair<std::string, int64_t>> MeasuredSet::unscored() const {
  std::vector<std::pair<std::string, int64_t>> some;
  for (const auto& [reward, values] : scores) {
    if (const int64_t count = values.isnan().sum().item<int64_t>(); count > 0) some.emplace_back(reward, count);
  }
  return some;
}

MeasuredSet measure(const ImageSet& set, const FeatureNetworks& networks, const RewardPanel& panel, int64_t batch) {
  torch::autograd::AutoGradMode off(false);
  VGGFLOW_CHECK(set.size() > 0, "[set_metrics] {} holds no image", set.name);
  MeasuredSet out;
  out.name = set.name;
  out.grouped = group_images(set);
  out.left_out = set.left_out;
  out.without_prompt = set.without_prompt();
  std::vector<std::vector<Tensor>> features(networks.size()), scores(panel.size());
  std::vector<uint64_t> hashes;
  double saturated = 0, values = 0;
  for_batches(set, batch, [&](int64_t first, const Tensor& images) {
    const std::vector<std::string> prompts(set.prompts.begin() + first, set.prompts.begin() + first + images.size(0));
    for (size_t n = 0; n < networks.size(); ++n) features[n].push_back(networks[n]->features(images).to(at::kFloat));
    for (size_t r = 0; r < panel.size(); ++r) scores[r].push_back(panel[r].second->score(images, prompts).to(at::kFloat));
    const auto rows = row_hashes(images);
    hashes.insert(hashes.end(), rows.begin(), rows.end());
    saturated += saturated_share(images) * static_cast<double>(images.numel());
    values += static_cast<double>(images.numel());
  });
  for (const auto& parts : features) out.features.push_back(at::cat(parts));
  for (size_t r = 0; r < panel.size(); ++r) out.scores.emplace_back(panel[r].first, at::cat(scores[r]));
  out.saturated = saturated / values;
  out.identical = identical_images(set, hashes);
  return out;
}

SetComparison compare_sets(MeasuredSet a, std::optional<MeasuredSet> b, std::optional<MeasuredSet> base, const FeatureNetworks& networks,
                           const SetMetricOptions& options) {
  SetComparison c{std::move(a), std::move(b), std::move(base), networks, options, {}, {}};
  VGGFLOW_CHECK(c.b || !c.base, "[set_metrics] a second set of the base needs a first one to be compared with");
  for (size_t r = 0; r < c.a.scores.size(); ++r) {
    add_measure(c, c.a.scores[r].first, "", [r](const MeasuredSet& s, const Places& places) { return mean_of(s.scores[r].second, places); });
  }
  for (size_t n = 0; n < networks.size(); ++n) {
    const auto of_several = [n](double (*f)(const Tensor&)) {
      return [n, f](const MeasuredSet& s, const Places& places) { return places.size() < 2 ? std::nan("") : f(rows_of(s.features[n], places)); };
    };
    add_measure(c, "diversity", networks[n]->name(), of_several(diversity));
    add_measure(c, "vendi score", networks[n]->name(), of_several(vendi_score));
    if (!c.b) continue;
    if (options.per_prompt_fd) add_prompt_distance(c, n);
    add_distances(c, n);
  }
  return c;
}

Json SetComparison::to_json() const {
  Json nets = Json::array(), prompts = Json::array(), whole = Json::array();
  for (size_t n = 0; n < networks.size(); ++n) {
    nets.push_back({{"name", networks[n]->name()}, {"weights", networks[n]->weights_hash()}, {"features", a.features[n].size(1)},
                    {"vendi_a", vendi_score(a.features[n])}, {"vendi_b", b ? Json(vendi_score(b->features[n])) : Json(nullptr)}});
  }
  for (const PromptMeasure& m : by_prompt) {
    prompts.push_back({{"name", m.name}, {"network", m.network}, {"a", json_of(std::optional(m.a))}, {"b", json_of(m.b)}, {"change", json_of(m.change)},
                       {"values_a", json_of(m.values_a)}, {"values_b", json_of(m.values_b)}});
  }
  for (const SetMeasure& m : as_a_whole) {
    whole.push_back({{"name", m.name}, {"network", m.network}, {"value", m.value}, {"se", json_of(m.se)}, {"floor", json_of(m.floor)}, {"matched", json_of(m.matched)}});
  }
  return {{"a", json_of(a)}, {"b", b ? json_of(*b) : Json(nullptr)}, {"base", base ? json_of(*base) : Json(nullptr)}, {"networks", nets}, {"by_prompt", prompts},
          {"as_a_whole", whole}};
}

}  // namespace vggflow
