#pragma once
// Keyed randomness: a number depends on (seed, purpose, update, sample) and its place in that
// stream, never on the process, the thread or the order of calls. So a run gives the same numbers
// on 1 or 8 ranks, and after a resume. Generator: Philox4x32-10 (Salmon et al., SC 2011), normals
// by Box-Muller.

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace vggflow {

/// What a stream is for. The values are part of every run's definition: never renumber, only
/// append.
enum class Purpose : uint32_t {
  kInit = 1,        ///< parameter initialisation
  kNoise = 2,       ///< initial noise x_0 of a trajectory
  kPrompt = 3,      ///< which prompt a sample gets
  kTime = 4,        ///< flow times, time bins
  kCaption = 5,     ///< caption variants and dropping
  kAugment = 6,     ///< image augmentation
  kData = 7,        ///< which training image a sample is
  kEvalNoise = 8,   ///< initial noise in evaluation
  kEvalPrompt = 9,  ///< prompts in evaluation
  kMetric = 10,     ///< random subsets of metrics (KID)
  kTest = 11,       ///< tests
  kPathNoise = 12,  ///< noise along a trajectory: SDE steps, DRaFT-LV
};

struct RandomKey {
  uint64_t seed = 0;
  Purpose purpose = Purpose::kTest;
  uint64_t update = 0;  ///< < 2^32
  uint64_t sample = 0;  ///< global sample index, < 2^32
};

/// The random numbers of one key, in order.
class RandomStream {
 public:
  explicit RandomStream(const RandomKey& key);
  uint32_t bits();
  double uniform();          ///< in (0, 1), 53 bits
  double normal();           ///< N(0, 1)
  int64_t below(int64_t n);  ///< uniform in {0, ..., n-1}
  bool chance(double p) { return uniform() < p; }
  /// Index drawn with probability weights[i] / sum(weights).
  int64_t weighted(std::span<const double> weights);
  void fill_normal(std::span<float> out);
  /// A random permutation of 0..n-1.
  std::vector<int64_t> permutation(int64_t n);

 private:
  void refill();
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
  double spare_ = 0;
  bool has_spare_ = false;
};

/// `count` places below `size`, one a global sample first..first+count-1, each the first number of
/// (seed, purpose, update, sample).
std::vector<int64_t> keyed_places(int64_t size, uint64_t seed, Purpose purpose, uint64_t update,
                                  uint64_t first, int64_t count);

}  // namespace vggflow
