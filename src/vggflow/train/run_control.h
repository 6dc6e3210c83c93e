#pragma once
// What a person or a program asks of a run while it trains, taken up between two updates: by the
// buttons of the live page, or by the callback of the C library.

#include <cstdint>
#include <string>
#include <vector>

#include "vggflow/io/image.h"
#include "vggflow/io/jsonl.h"

namespace vggflow {

/// An image of a prompt, of the noise that `vggflow sample seed=...` begins with.
struct SampleWish {
  int64_t number = 0;
  std::string prompt;
  int64_t seed = 0;
};

struct RunWishes {
  bool stop = false;  ///< end after this update, saved
  bool save = false;  ///< write a checkpoint now
  std::vector<SampleWish> samples;
};

/// Asked by rank 0 after every update; what is wished changes no number of the run.
class RunControl {
 public:
  virtual ~RunControl() = default;
  /// The wishes since the last call.
  virtual RunWishes take() = 0;
  /// The lines of metrics.jsonl of the update that was just made and of the last evaluation, which
  /// is an empty object before the first.
  virtual void updated(const Json& update, const Json& evaluation) {}
  /// A checkpoint of the first `update` updates is on the disk.
  virtual void saved(int64_t update) = 0;
  /// The base's image and that of the averaged adapters after `update` updates.
  virtual void drawn(const SampleWish& wish, int64_t update, const Image& base,
                     const Image& aligned) = 0;
  /// The model cannot draw it.
  virtual void failed(const SampleWish& wish, const std::string& why) = 0;
};

}  // namespace vggflow
