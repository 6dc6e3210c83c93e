#include "vggflow/metrics/set_metrics.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <set>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/core/progress.h"
#include "vggflow/data/prompt_sets.h"
#include "vggflow/device/device.h"

namespace vggflow {
namespace {

using Places = std::vector<int64_t>;
using GroupValues = std::vector<std::pair<std::string, double>>;

Tensor rows_of(const Tensor& x, const Places& places) {
  return x.index_select(0, at::tensor(places, at::kLong));
}

double mean_of(const Tensor& scores, const Places& places) {
  const Tensor x = rows_of(scores, places).to(at::kDouble);
  return x.masked_select(x.isnan().logical_not()).mean().item<double>();  // NaN of none
}

// Values of the groups for which f is defined: it returns NaN for the others.
GroupValues values_by_group(const MeasuredSet& set, const std::function<double(const Places&)>& f) {
  GroupValues values;
  for (size_t g = 0; g < set.grouped.groups.size(); ++g) {
    if (const double v = f(set.grouped.places[g]); std::isfinite(v))
      values.emplace_back(set.grouped.groups[g], v);
  }
  return values;
}

std::vector<double> numbers_of(const GroupValues& values) {
  std::vector<double> out;
  for (const auto& [group, v] : values) out.push_back(v);
  return out;
}

std::optional<PromptMean> mean_over(const std::vector<double>& values, const SetMetricOptions& o) {
  if (values.empty()) return std::nullopt;
  PromptMean m{static_cast<int64_t>(values.size()), estimate(values), std::nullopt};
  if (values.size() > 1)
    m.interval = bootstrap_interval(values, static_cast<uint64_t>(o.seed), o.bootstrap);
  return m;
}

std::vector<double> paired_changes(const GroupValues& a, const GroupValues& b) {
  const std::map<std::string, double> before(b.begin(), b.end());
  std::vector<double> changes;
  for (const auto& [group, v] : a) {
    if (const auto found = before.find(group); found != before.end())
      changes.push_back(v - found->second);
  }
  return changes;
}

// Of one set's images, by place.
using Statistic = std::function<double(const MeasuredSet&, const Places&)>;

// Means over prompts, the change paired; nothing where no prompt of a has a value.
void add_over_prompts(SetComparison& c, PromptMeasure m) {
  const auto mean = mean_over(numbers_of(m.values_a), c.options);
  if (!mean) return;
  m.a = *mean;
  if (c.b) {
    m.b = mean_over(numbers_of(m.values_b), c.options);
    m.change = mean_over(paired_changes(m.values_a, m.values_b), c.options);
  }
  c.by_prompt.push_back(std::move(m));
}

PromptMeasure values_of(const SetComparison& c, const std::string& name, const std::string& network,
                        const Statistic& f) {
  PromptMeasure m{name, network, {}, {}, {}, {}, {}};
  m.values_a = values_by_group(c.a, [&](const Places& places) { return f(c.a, places); });
  if (c.b)
    m.values_b = values_by_group(*c.b, [&](const Places& places) { return f(*c.b, places); });
  return m;
}

std::vector<double> finite_of(const Tensor& scores) {
  const Tensor x = scores.to(at::kDouble).masked_select(scores.isfinite()).contiguous();
  return {x.const_data_ptr<double>(), x.const_data_ptr<double>() + x.numel()};
}

// Means over images, each a sample of its own.
void add_score_over_images(SetComparison& c, size_t r, PromptMeasure m) {
  const std::vector<double> a = finite_of(c.a.scores[r].second),
                            b = c.b ? finite_of(c.b->scores[r].second) : std::vector<double>{};
  const auto mean = mean_over(a, c.options);
  if (!mean) return;
  m.a = *mean;
  m.b = mean_over(b, c.options);
  if (m.b)
    m.change = PromptMean{m.a.n + m.b->n, difference(m.a.estimate, m.b->estimate), std::nullopt};
  if (a.size() > 1 && b.size() > 1)
    m.change->interval = bootstrap_interval_of_difference(
        a, b, static_cast<uint64_t>(c.options.seed), c.options.bootstrap);
  c.by_prompt.push_back(std::move(m));
}

// A statistic of all images of a set, its error a jackknife over images.
std::optional<PromptMean> over_images(const MeasuredSet& s, const Statistic& f,
                                      const SetMetricOptions& o) {
  const auto value = [&](const std::vector<bool>& kept) {
    Places places;
    for (int64_t i = 0; i < s.size(); ++i) {
      if (kept[static_cast<size_t>(i)]) places.push_back(i);
    }
    return std::vector<double>{f(s, places)};
  };
  PromptMean m{s.size(),
               {value(std::vector<bool>(static_cast<size_t>(s.size()), true))[0], std::nullopt},
               std::nullopt};
  if (!std::isfinite(m.estimate.mean)) return std::nullopt;
  if (s.size() > 3 && o.jackknife > 1)
    m.estimate.se = jackknife_errors(s.size(), o.jackknife, value)[0];
  return m;
}

void add_score(SetComparison& c, size_t r) {
  PromptMeasure m =
      values_of(c, c.a.scores[r].first, "", [r](const MeasuredSet& s, const Places& places) {
        return mean_of(s.scores[r].second, places);
      });
  if (c.over_images)
    add_score_over_images(c, r, std::move(m));
  else
    add_over_prompts(c, std::move(m));
}

void add_statistic(SetComparison& c, const std::string& name, const std::string& network,
                   const Statistic& f) {
  PromptMeasure m = values_of(c, name, network, f);
  if (!c.over_images) return add_over_prompts(c, std::move(m));
  const auto a = over_images(c.a, f, c.options);
  if (!a) return;
  m.a = *a;
  if (c.b) m.b = over_images(*c.b, f, c.options);
  if (m.b)
    m.change = PromptMean{m.a.n + m.b->n, difference(m.a.estimate, m.b->estimate), std::nullopt};
  c.by_prompt.push_back(std::move(m));
}

// Every second image of each group, from the first or the second on; of groups of an odd number the
// halves take the longer part in turn, so that sets with one image a prompt have halves too.
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

// Frechet distance of each prompt's images to the same prompt's of `reference`: what the paper
// averages.
GroupValues prompt_distances(const MeasuredSet& set, const MeasuredSet& reference, size_t network) {
  std::map<std::string, Places> others;
  for (size_t g = 0; g < reference.grouped.groups.size(); ++g)
    others[reference.grouped.groups[g]] = reference.grouped.places[g];
  GroupValues values;
  for (size_t g = 0; g < set.grouped.groups.size(); ++g) {
    const auto found = others.find(set.grouped.groups[g]);
    if (found == others.end() || found->second.size() < 2 || set.grouped.places[g].size() < 2)
      continue;
    values.emplace_back(set.grouped.groups[g],
                        frechet_distance(rows_of(set.features[network], set.grouped.places[g]),
                                         rows_of(reference.features[network], found->second)));
  }
  return values;
}

Tensor without_group(const Tensor& x, const Tensor& groups, int64_t g) {
  return x.index_select(0, at::nonzero(groups != g).squeeze(1));
}

struct Distance {
  const char* name;
  int64_t least;  ///< images a set that it needs
  std::function<double(const Tensor& a, const Tensor& b)> f;
  /// f without each group in turn; of KID without its random subsets.
  std::function<std::vector<double>(const Tensor& a, const Tensor& b, const RowGroups& groups)>
      left_out;
};

Distance again_for_each(const char* name, int64_t least,
                        std::function<double(const Tensor&, const Tensor&)> f) {
  const auto left_out = [f](const Tensor& a, const Tensor& b, const RowGroups& groups) {
    std::vector<double> values;
    for (int64_t g = 0; g < groups.count; ++g)
      values.push_back(f(without_group(a, groups.a, g), without_group(b, groups.b, g)));
    return values;
  };
  return {name, least, f, left_out};
}

std::vector<Distance> distances(const SetMetricOptions& o) {
  const auto seed = static_cast<uint64_t>(o.seed);
  return {again_for_each("fd", 2, frechet_distance),
          {"kid", 4,
           [o, seed](const Tensor& a, const Tensor& b) {
             return kernel_distance(a, b, seed, o.kid_subsets, o.kid_size).mean;
           },
           [](const Tensor& a, const Tensor& b, const RowGroups& groups) {
             return squared_mmd(a, b, groups).without;
           }},
          {"cmmd", 2, [](const Tensor& a, const Tensor& b) { return cmmd(a, b); },
           [](const Tensor& a, const Tensor& b, const RowGroups& groups) {
             return cmmd(a, b, groups).without;
           }},
          again_for_each("precision", o.neighbours + 1,
                         [o](const Tensor& a, const Tensor& b) {
                           return precision_recall(a, b, o.neighbours).precision;
                         }),
          again_for_each("recall", o.neighbours + 1, [o](const Tensor& a, const Tensor& b) {
            return precision_recall(a, b, o.neighbours).recall;
          })};
}

// The jackknife's group of each image, prompts in turn, so that a prompt leaves both sets at once.
Tensor groups_of(const MeasuredSet& set, std::map<std::string, int64_t>& known, int64_t count) {
  Tensor groups = at::zeros({set.size()}, at::kLong);
  int64_t* group = groups.mutable_data_ptr<int64_t>();
  for (size_t g = 0; g < set.grouped.groups.size(); ++g) {
    const int64_t unit =
        known.emplace(set.grouped.groups[g], static_cast<int64_t>(known.size())).first->second;
    for (const int64_t i : set.grouped.places[g]) group[i] = unit % count;
  }
  return groups;
}

// None where there are not two units, or nothing that both sets have and could leave together.
std::optional<RowGroups> jackknife_groups(const SetComparison& c) {
  if (c.over_images) {
    const int64_t count = std::min({c.options.jackknife, c.a.size(), c.b->size()});
    if (count < 2) return std::nullopt;
    return RowGroups{at::arange(c.a.size(), at::kLong).remainder(count),
                     at::arange(c.b->size(), at::kLong).remainder(count), count};
  }
  const int64_t units =
                    std::ssize(c.a.grouped.groups) + std::ssize(c.b->grouped.groups) - *c.shared,
                count = std::min(c.options.jackknife, units);
  if (count < 2 || *c.shared == 0) return std::nullopt;
  std::map<std::string, int64_t> known;
  RowGroups groups{groups_of(c.a, known, count), {}, count};
  groups.b = groups_of(*c.b, known, count);
  return groups;
}

// Whether both sets keep `least` images without any of the groups.
bool enough(const RowGroups& groups, int64_t least) {
  const auto kept = [&](const Tensor& g) {
    return g.numel() - at::bincount(g, {}, groups.count).max().item<int64_t>();
  };
  return std::min(kept(groups.a), kept(groups.b)) >= least;
}

// The jackknife's error of each distance; none where leaving a group out leaves too few images.
std::vector<std::optional<double>> errors(const SetComparison& c, size_t network,
                                          const std::vector<Distance>& all) {
  std::vector<std::optional<double>> se(all.size());
  const auto groups = jackknife_groups(c);
  if (!groups || !enough(*groups, std::max<int64_t>(4, c.options.neighbours + 1))) return se;
  for (size_t i = 0; i < all.size(); ++i)
    se[i] =
        jackknife_error(all[i].left_out(c.a.features[network], c.b->features[network], *groups));
  return se;
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
      log_info("{} on {} is left out: it needs {} images in each set, and there are {} and {}",
               all[i].name, c.networks[network]->name(), all[i].least, c.a.size(), c.b->size());
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

// The paper's distance, of all images of a prompt: where there is a second set of the base its
// distance is the floor, "b". Without, the floor is that of halves of b, half as large a set and
// more biased, and stands beside the distance of half of a.
void add_prompt_distance(SetComparison& c, size_t network) {
  VGGFLOW_CHECK(!c.over_images,
                "[set_metrics] metrics.per_prompt_fd compares images of the same prompt, and these "
                "have none");
  VGGFLOW_CHECK(*c.shared > 0,
                "[set_metrics] metrics.per_prompt_fd compares images of the same prompt, and A and "
                "B have none in common: '{}' and '{}'",
                c.a.grouped.groups.front(), c.b->grouped.groups.front());
  const std::string& name = c.networks[network]->name();
  PromptMeasure whole{"fd by prompt",
                      name,
                      {},
                      {},
                      {},
                      prompt_distances(c.a, *c.b, network),
                      c.base ? prompt_distances(*c.base, *c.b, network) : GroupValues{}};
  VGGFLOW_CHECK(!whole.values_a.empty(),
                "[set_metrics] expected prompts with at least 2 images in both sets for the "
                "distance by prompt");
  add_over_prompts(c, std::move(whole));
  if (c.base) return;
  const MeasuredSet other = half(*c.b, 1);
  add_over_prompts(c, {"fd by prompt, halves",
                       name,
                       {},
                       {},
                       {},
                       prompt_distances(half(c.a, 0), other, network),
                       prompt_distances(half(*c.b, 0), other, network)});
}

int64_t shared_groups(const MeasuredSet& a, const MeasuredSet& b) {
  const std::set<std::string> names(b.grouped.groups.begin(), b.grouped.groups.end());
  return std::count_if(a.grouped.groups.begin(), a.grouped.groups.end(),
                       [&](const std::string& g) { return names.contains(g); });
}

// Nothing tells the images apart: they are samples of their own.
bool is_heap(const MeasuredSet& s) {
  return s.grouped.groups.size() == 1 && s.without_prompt == s.size();
}

void find_shared(SetComparison& c) {
  c.over_images = is_heap(c.a) && (!c.b || is_heap(*c.b)) && (!c.base || is_heap(*c.base));
  if (!c.b || c.over_images) return;
  const int64_t in_a = std::ssize(c.a.grouped.groups), in_b = std::ssize(c.b->grouped.groups);
  c.shared = shared_groups(c.a, *c.b);
  if (*c.shared == 0) {
    c.warnings.push_back(
        fmt::format("A and B have none of their {} and {} prompts in common: their distance is one "
                    "of prompts too, and there is neither A - B nor an error of a "
                    "distance",
                    in_a, in_b));
  } else if (2 * *c.shared < std::max(in_a, in_b)) {
    c.warnings.push_back(
        fmt::format("A and B have only {} of their {} and {} prompts in common: A - B is of those, "
                    "distances are of all images",
                    *c.shared, in_a, in_b));
  }
  if (!c.base) return;
  c.base_shared = shared_groups(*c.base, *c.b);
  if (2 * *c.base_shared < std::max(in_b, std::ssize(c.base->grouped.groups))) {
    c.warnings.push_back(
        fmt::format("the second set of the base has {} of its {} prompts in common with B's {}: "
                    "their distance is no floor",
                    *c.base_shared, c.base->grouped.groups.size(), in_b));
  }
}

// Hashes as the bits of whole numbers.
Tensor tensor_of(const std::vector<uint64_t>& hashes) {
  Tensor out = at::empty({std::ssize(hashes)}, at::kLong);
  std::memcpy(out.data_ptr(), hashes.data(), out.nbytes());
  return out;
}

int64_t identical_images(const ImageSet& set, const Tensor& hashes) {
  std::vector<uint64_t> bits(static_cast<size_t>(hashes.numel()));
  std::memcpy(bits.data(), hashes.const_data_ptr(), hashes.nbytes());
  return audit_batch(set.groups, bits).repeated();
}

// The sum of the first column over that of the second, added row by row.
double share_of(const Tensor& counts) {
  double some = 0, all = 0;
  for (int64_t i = 0; i < counts.size(0); ++i) {
    some += counts[i][0].item<double>();
    all += counts[i][1].item<double>();
  }
  return some / all;
}

template <class Number>
Json json_of(const std::optional<Number>& v) {
  return v ? Json(*v) : Json(nullptr);
}

Json json_of(const std::optional<PromptMean>& m) {
  if (!m) return nullptr;
  return {{"mean", m->estimate.mean},
          {"se", json_of(m->estimate.se)},
          {"low", m->interval ? Json(m->interval->low) : Json(nullptr)},
          {"high", m->interval ? Json(m->interval->high) : Json(nullptr)},
          {"n", m->n}};
}

Json json_of(const MeasuredSet& s) {
  return {
      {"name", s.name},           {"images", s.size()},     {"prompts", s.grouped.groups.size()},
      {"saturated", s.saturated}, {"left_out", s.left_out}, {"without_prompt", s.without_prompt},
      {"identical", s.identical}, {"unread", s.unread},     {"unscored", s.unscored()}};
}

Json json_of(const GroupValues& values) {
  Json out = Json::object();
  for (const auto& [group, v] : values) out[group] = v;
  return out;
}

}  // namespace

double published_factor(const PromptMeasure& m) {
  return m.name == "diversity" && m.network.starts_with("clip-") ? 2 : 1;
}

int64_t MeasuredSet::size() const {
  int64_t n = 0;
  for (const auto& p : grouped.places) n += static_cast<int64_t>(p.size());
  return n;
}

std::vector<std::pair<std::string, int64_t>> MeasuredSet::unscored() const {
  std::vector<std::pair<std::string, int64_t>> some;
  for (const auto& [reward, values] : scores) {
    if (const int64_t count = values.isnan().sum().item<int64_t>(); count > 0)
      some.emplace_back(reward, count);
  }
  return some;
}

MeasuredSet measure(const ImageSet& set, const FeatureNetworks& networks, const RewardPanel& panel,
                    int64_t batch, const Group& group) {
  at::NoGradGuard no_grad;
  VGGFLOW_CHECK(set.size() > 0, "[set_metrics] {} holds no image", set.name);
  MeasuredSet out;
  out.name = set.name;
  out.grouped = group_images(set);
  out.left_out = set.left_out;
  out.unread = set.unread;
  out.without_prompt = set.without_prompt();
  std::vector<std::vector<Tensor>> features(networks.size()), scores(panel.size());
  std::vector<Tensor> hashes, counts;  // counts: (1, 2) a batch, saturated values and all
  Progress bar("measure", set.size());
  const auto measure_batch = [&](int64_t first, const Tensor& images) {
    const Tensor shown = images.to(current_device());
    const std::vector<std::string> prompts(set.prompts.begin() + first,
                                           set.prompts.begin() + first + images.size(0));
    for (size_t n = 0; n < networks.size(); ++n)
      features[n].push_back(networks[n]->features(shown).to(at::kCPU, at::kFloat));
    for (size_t r = 0; r < panel.size(); ++r)
      scores[r].push_back(panel[r].second->score(shown, prompts).to(at::kCPU, at::kFloat));
    hashes.push_back(tensor_of(row_hashes(images)));
    const auto numbers = static_cast<double>(images.numel());
    counts.push_back(
        at::tensor({saturated_share(images) * numbers, numbers}, at::kDouble).unsqueeze(0));
    bar.advance(first + images.size(0));
  };
  const std::vector<int64_t> lengths = for_batches(set, batch, measure_batch, group);
  for (const auto& parts : features) out.features.push_back(gather_dealt(group, parts, lengths));
  for (size_t r = 0; r < panel.size(); ++r)
    out.scores.emplace_back(panel[r].first, gather_dealt(group, scores[r], lengths));
  out.saturated = share_of(gather_dealt(group, counts, std::vector<int64_t>(lengths.size(), 1)));
  out.identical = identical_images(set, gather_dealt(group, hashes, lengths));
  return out;
}

SetComparison compare_sets(MeasuredSet a, std::optional<MeasuredSet> b,
                           std::optional<MeasuredSet> base, const FeatureNetworks& networks,
                           const SetMetricOptions& options) {
  SetComparison c{std::move(a), std::move(b), std::move(base), networks, options, {}, {}};
  VGGFLOW_CHECK(c.b || !c.base,
                "[set_metrics] a second set of the base needs a first one to be compared with");
  find_shared(c);
  for (size_t r = 0; r < c.a.scores.size(); ++r) add_score(c, r);
  for (size_t n = 0; n < networks.size(); ++n) {
    const auto of_several = [n](double (*f)(const Tensor&)) {
      return [n, f](const MeasuredSet& s, const Places& places) {
        return places.size() < 2 ? std::nan("") : f(rows_of(s.features[n], places));
      };
    };
    add_statistic(c, "diversity", networks[n]->name(), of_several(diversity));
    add_statistic(c, "vendi score", networks[n]->name(), of_several(vendi_score));
    if (!c.b) continue;
    if (options.per_prompt_fd) add_prompt_distance(c, n);
    add_distances(c, n);
  }
  return c;
}

Json SetComparison::to_json() const {
  Json nets = Json::array(), prompts = Json::array(), whole = Json::array();
  for (size_t n = 0; n < networks.size(); ++n) {
    nets.push_back({{"name", networks[n]->name()},
                    {"weights", networks[n]->weights_hash()},
                    {"features", a.features[n].size(1)},
                    {"vendi_a", vendi_score(a.features[n])},
                    {"vendi_b", b ? Json(vendi_score(b->features[n])) : Json(nullptr)}});
  }
  for (const PromptMeasure& m : by_prompt) {
    prompts.push_back({{"name", m.name},
                       {"network", m.network},
                       {"published_factor", published_factor(m)},
                       {"a", json_of(std::optional(m.a))},
                       {"b", json_of(m.b)},
                       {"change", json_of(m.change)},
                       {"values_a", json_of(m.values_a)},
                       {"values_b", json_of(m.values_b)}});
  }
  for (const SetMeasure& m : as_a_whole) {
    whole.push_back({{"name", m.name},
                     {"network", m.network},
                     {"value", m.value},
                     {"se", json_of(m.se)},
                     {"floor", json_of(m.floor)},
                     {"matched", json_of(m.matched)}});
  }
  return {{"unit", over_images ? "image" : "prompt"},
          {"shared_prompts", json_of(shared)},
          {"base_shared_prompts", json_of(base_shared)},
          {"warnings", warnings},
          {"a", json_of(a)},
          {"b", b ? json_of(*b) : Json(nullptr)},
          {"base", base ? json_of(*base) : Json(nullptr)},
          {"networks", nets},
          {"by_prompt", prompts},
          {"as_a_whole", whole}};
}

}  // namespace vggflow
