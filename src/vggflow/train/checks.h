#pragma once
// What can be told to fail before a model is loaded: one list for `align`, which calls it first,
// and for `plan`.

#include <functional>
#include <memory>

#include "vggflow/families/open_model.h"
#include "vggflow/train/align_config.h"

namespace vggflow {

/// Steps of a rollout.
int64_t rollout_steps(const AlignConfig& config);

/// Whether a resume is refused where its numbers may differ by rounding: see Rounding.
bool refuses_rounding(const AlignConfig& config, int processes);

/// The method of a run and its value network, for the checks, the plan and the trainer alike.
struct ResolvedMethod {
  explicit ResolvedMethod(const AlignConfig& config);
  std::unique_ptr<Method> method;
  ValueOptions value;  ///< with no setting left at "auto": the kind is a small MMDiT where the
                       ///< method trains one, else none
  ImageProblemOptions problem;  ///< with guidance where the method asks for it
  /// nu = value_scale * network. The network emits beta nu, as in the released code: a step of its
  /// optimizer then moves the target velocity alike for every beta.
  double value_scale() const;
};

/// Throws where a run of these settings on a model of these sizes could not come to its end: the
/// method against the steps, the value network, grid, guidance, rewards' names, evaluations, the
/// images' size, and adapters without a layer to sit on. Files are not opened, and prompts may
/// still be missing.
void check_settings(const AlignConfig& config, const ModelShape& shape);

/// A further refusal of a run: throws.
using RunCheck = std::function<void(const AlignConfig&, const ModelShape&)>;

/// The same on the model that config.flow names, `check`, and that there are prompts: what a run of
/// `align` is held against before anything is loaded. Returns the model, its files open.
std::shared_ptr<const FamilyModel> check_run(const AlignConfig& config, const RunCheck& check = {});

}  // namespace vggflow
