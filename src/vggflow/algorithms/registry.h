#pragma once
// All methods by name.

#include <memory>
#include <string>
#include <vector>

#include "vggflow/algorithms/adjoint_matching.h"
#include "vggflow/algorithms/draft.h"
#include "vggflow/algorithms/fitted_adjoint.h"
#include "vggflow/algorithms/pmp.h"
#include "vggflow/algorithms/refl.h"
#include "vggflow/algorithms/vgg_flow.h"

namespace vggflow {

/// The settings of every method; a run uses its own method's and the shared clip.
struct MethodOptions {
  RewardClipOptions reward_clip;
  VggFlowOptions vgg;
  PmpOptions pmp;
  ReflOptions refl;
  DraftOptions draft;
  AdjointMatchingOptions adjoint_matching;
  FittedAdjointOptions fitted;

  template <class V>
  void fields(V& v) {
    v.section("reward_clip", reward_clip);
    v.section("vgg", vgg);
    v.section("pmp", pmp);
    v.section("refl", refl);
    v.section("draft", draft);
    v.section("adjoint_matching", adjoint_matching);
    v.section("fitted", fitted);
  }
};

/// Known names, in alphabetical order.
std::vector<std::string> method_names();

/// A method by name. An unknown name lists the known ones.
std::unique_ptr<Method> make_method(const std::string& name, const MethodOptions& options);

}  // namespace vggflow
