#include "vggflow/algorithms/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

using Factory = std::unique_ptr<Method> (*)(const MethodOptions&);
template <class M, auto Options>
std::unique_ptr<Method> make(const MethodOptions& o) {
  return std::make_unique<M>(o.*Options, o.reward_clip);
}

const std::vector<std::pair<std::string, Factory>>& registry() {
  static const std::vector<std::pair<std::string, Factory>> list{
      {"adjoint-matching", make<AdjointMatching, &MethodOptions::adjoint_matching>},
      {"draft", make<Draft, &MethodOptions::draft>},
      {"fitted-adjoint", make<FittedAdjoint, &MethodOptions::fitted>},
      {"refl", make<Refl, &MethodOptions::refl>},
      {"vgg-flow", make<VggFlow, &MethodOptions::vgg>},
      {"vgg-flow-pmp", make<Pmp, &MethodOptions::pmp>},
  };
  return list;
}

}  // namespace

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : registry()) names.push_back(name);
  return names;
}

std::unique_ptr<Method> make_method(const std::string& name, const MethodOptions& options) {
  const auto found = std::find_if(registry().begin(), registry().end(),
                                  [&](const auto& entry) { return entry.first == name; });
  VGGFLOW_CHECK(found != registry().end(), "[method] unknown method '{}'; known are {}", name,
                fmt::join(method_names(), ", "));
  return found->second(options);
}

}  // namespace vggflow
