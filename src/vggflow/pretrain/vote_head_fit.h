#pragma once
// Learns a taste from votes between two images (Bradley and Terry 1952): maximum likelihood of
// sigmoid(h(a) - h(b)), h linear in a frozen image network's vectors, and validated on votes that
// it has not seen.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vggflow/networks/vision/vote_head.h"
#include "vggflow/pretrain/fit.h"

namespace vggflow {

struct VoteData {
  std::vector<std::string> folders = {};
  std::string network = {};
  double held_out = 0.2;

  template <class V>
  void fields(V& v) {
    v("folders", folders, "folders written by vggflow vote");
    v("network", network,
      "feature network: emoji-clip's folder (empty: models/emoji-clip), or CLIP's weight file");
    v("held_out", held_out, "fraction of the votes held out for testing", range(0, 0.9));
  }
};

/// Votes as differences of unit vectors (N, F), and how far a was preferred (N): 1, 0, or 0.5 for a
/// tie.
struct VoteSet {
  Tensor difference, preferred;
};

/// What there is to learn from, and a head for it that knows nothing yet.
struct VoteTask {
  VoteTask(VoteHeadOptions options, const VoteData& data, uint64_t seed);
  /// The negative log-likelihood of one update's batch, keyed by the update.
  Tensor loss(const FitOptions& fit, int64_t update) const;
  /// Share of the votes, ties left out, whose winner the head names.
  double accuracy(const VoteSet& votes) const;
  VoteSet train, test;
  std::unique_ptr<VoteHead> model;
};

}  // namespace vggflow
