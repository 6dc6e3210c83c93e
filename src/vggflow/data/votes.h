#pragma once
// Votes between two images of the same prompt and noise, as a folder of `vggflow vote` holds them:
// votes.jsonl, one vote per line, and the images in a/ and b/.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "vggflow/io/jsonl.h"

namespace vggflow {

enum class VoteWinner { kA, kB, kTie };

struct Vote {
  int64_t pair = 0;
  std::string prompt = {};
  std::string a = {}, b = {};  ///< the images, relative to the folder: a/00000.png
  VoteWinner winner = VoteWinner::kTie;
  bool a_left = true;  ///< where a was shown
};

Json json_of(const Vote& vote);

/// The votes of a folder, the last one of each pair; none where there is no votes.jsonl yet. Throws
/// for a line that is no vote, and where an image's path leads out of the folder.
std::vector<Vote> read_votes(const std::filesystem::path& folder);

/// The share of votes that b won, a tie counting as half of one, with its 95 % interval by Wilson
/// (1927): of n votes with share p and z = 1.96,
///   (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).
/// Without votes the interval is all of 0 to 1.
struct WinRate {
  int64_t votes = 0, wins = 0, ties = 0;
  double rate = 0.5, low = 0, high = 1;
};
WinRate win_rate(std::span<const Vote> votes);

}  // namespace vggflow
