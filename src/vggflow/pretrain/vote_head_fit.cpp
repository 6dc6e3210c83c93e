#include "vggflow/pretrain/vote_head_fit.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/core/progress.h"
#include "vggflow/core/random.h"
#include "vggflow/core/shipped_files.h"
#include "vggflow/data/photo_set.h"
#include "vggflow/data/votes.h"
#include "vggflow/device/device.h"
#include "vggflow/io/image_file.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

std::unique_ptr<VoteVectors> open_vectors(const VoteHeadOptions& options, const VoteData& data) {
  const bool emoji = options.network == VoteNetwork::kEmojiClip;
  VGGFLOW_CHECK(emoji || !data.network.empty(),
                "[vote-head] expected vote_data.network, the file of {} weights",
                word_of(options.network));
  const fs::path place = data.network.empty() ? "models/emoji-clip" : data.network;
  return std::make_unique<VoteVectors>(options.network,
                                       emoji ? require_shipped(place, "vote-head") : place);
}

Tensor vector_of(const VoteVectors& vectors, const fs::path& image) {
  const Tensor pixels = to_pixels(read_image(image).image).unsqueeze(0).to(current_device());
  return vectors.embed(pixels).to(at::kFloat);
}

double preference(VoteWinner winner) {
  return winner == VoteWinner::kA ? 1 : winner == VoteWinner::kB ? 0 : 0.5;
}

VoteSet votes_of(const VoteVectors& vectors, const std::vector<std::string>& folders) {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> differences;
  std::vector<double> preferred;
  for (const fs::path folder : folders) {
    const std::vector<Vote> votes = read_votes(folder);
    VGGFLOW_CHECK(!votes.empty(), "[vote-head] {} holds no votes: vote first, with vggflow vote",
                  folder.string());
    Progress progress("votes", std::ssize(votes));
    for (const Vote& vote : votes) {
      differences.push_back(vector_of(vectors, folder / vote.a) -
                            vector_of(vectors, folder / vote.b));
      preferred.push_back(preference(vote.winner));
      progress.add(1);
    }
  }
  VGGFLOW_CHECK(preferred.size() >= 10, "[vote-head] expected at least 10 votes, got {}",
                preferred.size());
  return {at::cat(differences), at::tensor(preferred, at::kFloat).to(current_device())};
}

VoteSet rows(const VoteSet& all, const std::vector<int64_t>& places) {
  const Tensor index = at::tensor(places, at::kLong).to(all.preferred.device());
  return {all.difference.index_select(0, index), all.preferred.index_select(0, index)};
}

}  // namespace

VoteTask::VoteTask(VoteHeadOptions options, const VoteData& data, uint64_t seed) {
  VGGFLOW_CHECK(!data.folders.empty(),
                "[vote-head] expected vote_data.folders, folders of vggflow vote");
  auto vectors = open_vectors(options, data);
  options.width = vectors->width();
  options.network_hash = vectors->hash();
  const VoteSet all = votes_of(*vectors, data.folders);
  model = std::make_unique<VoteHead>(options, std::move(vectors));
  const auto order = RandomStream({seed, Purpose::kData, 0, 0}).permutation(all.preferred.numel());
  const auto held =
      order.begin() + static_cast<int64_t>(data.held_out * static_cast<double>(order.size()));
  test = rows(all, {order.begin(), held});
  train = rows(all, {held, order.end()});
  log_info("{} votes to learn from, {} to test, vectors of {} numbers from {}",
           train.preferred.numel(), test.preferred.numel(), options.width,
           word_of(options.network));
}

// With x = h(a) - h(b) and p how far a was preferred: softplus(x) - p x, the cross entropy of
// sigmoid(x). h is linear, so that x is h of the difference.
Tensor VoteTask::loss(const FitOptions& fit, int64_t update) const {
  const Tensor places = draw_places(train.preferred.numel(), static_cast<uint64_t>(fit.seed),
                                    static_cast<uint64_t>(update), 0, fit.batch)
                            .to(current_device());
  const Tensor x = model->score_vectors(train.difference.index_select(0, places));
  return (at::softplus(x) - train.preferred.index_select(0, places) * x).mean();
}

double VoteTask::accuracy(const VoteSet& votes) const {
  const at::NoGradGuard no_grad;
  const Tensor decided = votes.preferred != 0.5;
  const Tensor right = (model->score_vectors(votes.difference) > 0) == (votes.preferred > 0.5);
  return right.masked_select(decided).to(at::kDouble).mean().item<double>();
}

}  // namespace vggflow
