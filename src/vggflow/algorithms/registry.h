#pragma once
// All methods by name. A method is a pair of files and one row of registry.cpp.

#include <any>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/algorithms/method.h"
#include "vggflow/algorithms/norm_guard.h"
#include "vggflow/algorithms/reward_gradient.h"
#include "vggflow/core/error.h"

namespace vggflow {

class FieldCollector;

/// The settings of every method, each in its own section and of a type that its header declares; a
/// run uses its own method's and the shared clip.
class MethodOptions {
 public:
  /// Every method's defaults.
  MethodOptions();
  RewardClipOptions reward_clip;
  NormGuardOptions norm_guard;

  /// The settings of one method, by their type: of<VggFlowOptions>().
  template <class Options>
  Options& of() {
    for (std::any& section : sections_) {
      if (auto* found = std::any_cast<Options>(&section)) return *found;
    }
    fail("[method] no registered method has settings of this type");
  }

  /// Sets some of a method's settings: set("draft", "kind=uniform k=3").
  void set(const std::string& method, const std::string& settings);

  template <class V>
  void fields(V& v) {
    v.section("reward_clip", reward_clip);
    v.section("norm_guard", norm_guard);
    method_fields(v);
  }

 private:
  friend std::unique_ptr<Method> make_method(const std::string& name, const MethodOptions& options);
  void method_fields(FieldCollector& v);
  std::vector<std::any> sections_;  ///< in the order of the registry's rows
};

/// Known names, in alphabetical order.
std::vector<std::string> method_names();
/// The method of a run that names none.
std::string default_method();
/// The section of a method's settings: "vgg" is vgg-flow's.
std::string method_section(const std::string& name);

/// A method by name. An unknown name lists the known ones.
std::unique_ptr<Method> make_method(const std::string& name, const MethodOptions& options);

/// What proofs and tests try of a method.
MethodTrials method_trials(const std::string& name);

}  // namespace vggflow
