#include "vggflow/core/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "vggflow/core/error.h"

namespace vggflow {
namespace {

// One Philox round: two 32x32 -> 64 bit products, mixed crosswise with the key.
void round(std::array<uint32_t, 4>& c, const std::array<uint32_t, 2>& k) {
  const uint64_t p0 = uint64_t{0xD2511F53u} * c[0];
  const uint64_t p1 = uint64_t{0xCD9E8D57u} * c[2];
  c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
       static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
}

}  // namespace

RandomStream::RandomStream(const RandomKey& key) {
  VGGFLOW_CHECK(key.update >> 32 == 0 && key.sample >> 32 == 0,
                "[random] expected update and sample below 2^32, got {} and {}", key.update,
                key.sample);
  key_ = {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)};
  counter_ = {0, static_cast<uint32_t>(key.sample), static_cast<uint32_t>(key.update),
              static_cast<uint32_t>(key.purpose)};
}

void RandomStream::refill() {
  block_ = counter_;
  auto k = key_;
  for (int i = 0; i < 10; ++i) {
    round(block_, k);
    k = {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
  }
  ++counter_[0];
  VGGFLOW_CHECK(counter_[0] != 0, "[random] a stream gives at most 2^34 numbers");
  used_ = 0;
}

uint32_t RandomStream::bits() {
  if (used_ == 4) refill();
  return block_[static_cast<size_t>(used_++)];
}

double RandomStream::uniform() {
  const uint64_t hi = bits() >> 5, lo = bits() >> 6;  // 27 + 26 bits
  return (static_cast<double>((hi << 26) | lo) + 0.5) * 0x1p-53;
}

double RandomStream::normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  const double radius = std::sqrt(-2.0 * std::log(uniform()));
  const double angle = 2.0 * std::numbers::pi * uniform();
  spare_ = radius * std::sin(angle);
  has_spare_ = true;
  return radius * std::cos(angle);
}

int64_t RandomStream::below(int64_t n) {
  VGGFLOW_CHECK(n > 0, "[random] expected a positive range, got {}", n);
  return std::min(n - 1, static_cast<int64_t>(uniform() * static_cast<double>(n)));
}

int64_t RandomStream::weighted(std::span<const double> weights) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  VGGFLOW_CHECK(total > 0, "[random] expected weights with a positive sum, got {}", total);
  double u = uniform() * total;
  for (size_t i = 0; i + 1 < weights.size(); ++i) {
    if ((u -= weights[i]) < 0) return static_cast<int64_t>(i);
  }
  return static_cast<int64_t>(weights.size()) - 1;
}

void RandomStream::fill_normal(std::span<float> out) {
  for (float& x : out) x = static_cast<float>(normal());
}

std::vector<int64_t> RandomStream::permutation(int64_t n) {
  std::vector<int64_t> p(static_cast<size_t>(n));
  std::iota(p.begin(), p.end(), 0);
  for (int64_t i = n - 1; i > 0; --i)
    std::swap(p[static_cast<size_t>(i)], p[static_cast<size_t>(below(i + 1))]);
  return p;
}

std::vector<int64_t> keyed_places(int64_t size, uint64_t seed, Purpose purpose, uint64_t update,
                                  uint64_t first, int64_t count) {
  std::vector<int64_t> places;
  for (uint64_t s = first; s < first + static_cast<uint64_t>(count); ++s)
    places.push_back(RandomStream({seed, purpose, update, s}).below(size));
  return places;
}

}  // namespace vggflow
