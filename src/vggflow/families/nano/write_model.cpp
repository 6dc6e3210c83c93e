#include "vggflow/families/nano/write_model.h"

#include <ATen/ATen.h>

#include <memory>

#include "vggflow/core/error.h"
#include "vggflow/families/nano/model.h"
#include "vggflow/flow/network_probe.h"
#include "vggflow/io/staged_output.h"

namespace vggflow {
namespace {

namespace fs = std::filesystem;

at::ScalarType stored_dtype(const fs::path& folder) {
  return SafetensorsFile(folder / "model.safetensors").views().begin()->second.scalar_type();
}

WrittenModel check_written(const NanoModel& written, const NanoModel& merged, const NanoModel& base,
                           at::ScalarType dtype, const fs::path& out) {
  const auto got = written.parameters(), want = merged.parameters(), before = base.parameters();
  VGGFLOW_CHECK(got.size() == want.size(), "[export] {} holds {} tensors, {} were written",
                out.string(), got.size(), want.size());
  WrittenModel seen;
  for (size_t i = 0; i < got.size(); ++i) {
    const Tensor exact = want[i].tensor->detach();
    VGGFLOW_CHECK(at::equal(*got[i].tensor, exact.to(dtype).to(at::kFloat)),
                  "[export] {} does not read back as written: '{}' differs", out.string(),
                  got[i].name);
    ++seen.tensors;
    if (!at::equal(exact, *before[i].tensor))
      check_merged_layer(got[i].name, *before[i].tensor, exact, *got[i].tensor, dtype, seen);
  }
  return seen;
}

}  // namespace

WrittenModel write_nano(const fs::path& folder, const fs::path& out, const ModelCopy& copy) {
  expect_folder_name(out, "a nano model");
  StagedOutput staged(out);
  const at::ScalarType dtype = copy.dtype.value_or(stored_dtype(folder));
  const auto base = NanoModel::load(folder, at::kFloat),
             merged = NanoModel::load(folder, at::kFloat);
  LoraSet(merged->transformer, copy.adapters).bake();
  merged->save(staged.path(), copy.metadata, dtype);
  const auto written = NanoModel::load(staged.path(), at::kFloat);
  WrittenModel seen = check_written(*written, *merged, *base, dtype, out);
  seen.layout = "a nano folder";
  seen.components = {"text encoder", "transformer"};
  if (!copy.adapters.empty())
    seen.output_error =
        check_merged_output(probe_velocity(*base), probe_velocity(*base, copy.adapters),
                            probe_velocity(*written), dtype);
  staged.commit();
  return seen;
}

}  // namespace vggflow
