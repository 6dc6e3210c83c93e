#include "vggflow/algorithms/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <sstream>
#include <utility>

#include "vggflow/algorithms/adjoint_matching.h"
#include "vggflow/algorithms/draft.h"
#include "vggflow/algorithms/drtune.h"
#include "vggflow/algorithms/eam.h"
#include "vggflow/algorithms/fitted_adjoint.h"
#include "vggflow/algorithms/flowbp.h"
#include "vggflow/algorithms/leapalign.h"
#include "vggflow/algorithms/pmp.h"
#include "vggflow/algorithms/ram.h"
#include "vggflow/algorithms/refl.h"
#include "vggflow/algorithms/vgg_flow.h"
#include "vggflow/core/config.h"

namespace vggflow {
namespace {

// A method with its options' type taken away.
struct Row {
  std::string name;
  const char* section;
  std::any defaults;
  std::function<void(std::any& options, const char* section, FieldCollector& v)> fields;
  std::function<std::unique_ptr<Method>(const std::any& options, const RewardClipOptions& clip)>
      make;
  MethodTrials trials;
};

template <class M, class Options>
std::unique_ptr<Method> make(const Options& options, const RewardClipOptions& clip) {
  return std::make_unique<M>(options, clip);
}

template <class Options>
Row row(const char* name, const char* section,
        std::unique_ptr<Method> (*factory)(const Options&, const RewardClipOptions&)) {
  return {name,
          section,
          Options{},
          [](std::any& options, const char* title, FieldCollector& v) {
            v.section(title, std::any_cast<Options&>(options));
          },
          [factory](const std::any& options, const RewardClipOptions& clip) {
            return factory(std::any_cast<const Options&>(options), clip);
          },
          Options::trials()};
}

// Name, section of the settings, factory; in the order of the settings, the default method first.
const std::vector<Row>& rows() {
  static const std::vector<Row> list{
      row("vgg-flow", "vgg", make<VggFlow, VggFlowOptions>),
      row("vgg-flow-pmp", "pmp", make<Pmp, PmpOptions>),
      row("refl", "refl", make<Refl, ReflOptions>),
      row("draft", "draft", make_draft),
      row("adjoint-matching", "adjoint_matching", make<AdjointMatching, AdjointMatchingOptions>),
      row("fitted-adjoint", "fitted", make<FittedAdjoint, FittedAdjointOptions>),
      row("drtune", "drtune", make<Drtune, DrtuneOptions>),
      row("leapalign", "leapalign", make<LeapAlign, LeapAlignOptions>),
      row("flowbp", "flowbp", make<FlowBp, FlowBpOptions>),
      row("eam", "eam", make<Eam, EamOptions>),
      row("ram", "ram", make<Ram, RamOptions>),
  };
  return list;
}

// The place of a name among the rows.
size_t find(const std::string& name) {
  for (size_t i = 0; i < rows().size(); ++i) {
    if (rows()[i].name == name) return i;
  }
  fail("[method] unknown method '{}'; known are {}", name, fmt::join(method_names(), ", "));
}

}  // namespace

MethodOptions::MethodOptions() {
  for (const Row& row : rows()) sections_.push_back(row.defaults);
}

void MethodOptions::method_fields(FieldCollector& v) {
  for (size_t i = 0; i < rows().size(); ++i) rows()[i].fields(sections_[i], rows()[i].section, v);
}

void MethodOptions::set(const std::string& method, const std::string& settings) {
  const size_t place = find(method);
  const Row& row = rows()[place];
  FieldCollector collector;
  row.fields(sections_[place], row.section, collector);
  std::istringstream words(settings);
  for (std::string word; words >> word;)
    apply_override(collector.all, fmt::format("{}.{}", row.section, word));
}

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const Row& row : rows()) names.push_back(row.name);
  std::sort(names.begin(), names.end());
  return names;
}

std::string default_method() { return rows().front().name; }
std::string method_section(const std::string& name) { return rows()[find(name)].section; }

std::unique_ptr<Method> make_method(const std::string& name, const MethodOptions& options) {
  const size_t place = find(name);
  return guarded(rows()[place].make(options.sections_[place], options.reward_clip),
                 options.norm_guard);
}

MethodTrials method_trials(const std::string& name) { return rows()[find(name)].trials; }

}  // namespace vggflow
