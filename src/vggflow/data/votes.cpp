#include "vggflow/data/votes.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "vggflow/core/error.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

constexpr const char* kWinners[] = {"a", "b", "tie"};

bool stays_inside(const std::string& path) {
  const fs::path p = path;
  return !path.empty() && p.is_relative() && std::find(p.begin(), p.end(), "..") == p.end();
}

Vote vote_of(const Json& line, size_t number, const fs::path& file) {
  const auto at = [&](const char* key, bool (Json::*is)() const noexcept) -> const Json& {
    VGGFLOW_CHECK(line.is_object() && line.contains(key) && (line[key].*is)(),
                  "[votes] line {} of {} is no vote: expected its '{}'", number, file.string(),
                  key);
    return line[key];
  };
  const auto word = [&](const char* key) { return at(key, &Json::is_string).get<std::string>(); };
  Vote vote{.pair = at("pair", &Json::is_number_integer).get<int64_t>(),
            .prompt = word("prompt"),
            .a = word("a"),
            .b = word("b")};
  for (const std::string& path : {vote.a, vote.b})
    VGGFLOW_CHECK(stays_inside(path), "[votes] line {} of {} names {}, which is not in its folder",
                  number, file.string(), path);
  const auto* const winner = std::find(std::begin(kWinners), std::end(kWinners), word("winner"));
  VGGFLOW_CHECK(winner != std::end(kWinners),
                "[votes] line {} of {}: expected the winner a, b or tie, got {}", number,
                file.string(), word("winner"));
  vote.winner = static_cast<VoteWinner>(winner - std::begin(kWinners));
  vote.a_left = at("a_left", &Json::is_boolean).get<bool>();
  return vote;
}

}  // namespace

Json json_of(const Vote& vote) {
  return {{"pair", vote.pair},
          {"prompt", vote.prompt},
          {"a", vote.a},
          {"b", vote.b},
          {"winner", kWinners[static_cast<size_t>(vote.winner)]},
          {"a_left", vote.a_left}};
}

std::vector<Vote> read_votes(const fs::path& folder) {
  const fs::path file = folder / "votes.jsonl";
  if (!fs::exists(file)) return {};
  std::map<int64_t, Vote> last;
  size_t number = 0;
  for (const Json& line : read_json_lines(file)) {
    const Vote vote = vote_of(line, ++number, file);
    last[vote.pair] = vote;
  }
  std::vector<Vote> votes;
  for (const auto& [pair, vote] : last) votes.push_back(vote);
  return votes;
}

WinRate win_rate(std::span<const Vote> votes) {
  WinRate r{.votes = std::ssize(votes)};
  for (const Vote& vote : votes) {
    r.wins += vote.winner == VoteWinner::kB;
    r.ties += vote.winner == VoteWinner::kTie;
  }
  if (votes.empty()) return r;
  constexpr double z = 1.959963984540054;
  const auto n = static_cast<double>(r.votes);
  r.rate = (static_cast<double>(r.wins) + 0.5 * static_cast<double>(r.ties)) / n;
  const double middle = r.rate + z * z / (2 * n),
               half = z * std::sqrt(r.rate * (1 - r.rate) / n + z * z / (4 * n * n)),
               whole = 1 + z * z / n;
  r.low = std::max(0.0, (middle - half) / whole);
  r.high = std::min(1.0, (middle + half) / whole);
  return r;
}

}  // namespace vggflow
