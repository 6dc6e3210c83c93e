#include "vggflow/page/vote_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <numeric>
#include <random>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/io/files.h"
#include "vggflow/io/image_file.h"
#include "vggflow/page/file_follower.h"
#include "vggflow/page/page_files.h"

namespace vggflow {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMostImage = 64 << 20;

// A vote whose writing was broken off is none; the next one begins on a line of its own.
fs::path whole_lines(const fs::path& file) {
  if (!fs::exists(file)) return file;
  const std::string text = read_text(file);
  const size_t end = text.rfind('\n');
  const size_t whole = end == std::string::npos ? 0 : end + 1;
  if (whole < text.size()) fs::resize_file(file, whole);
  return file;
}

std::string prompt_of(const fs::path& image) {
  const TextChunks text = read_image_text(image);
  const auto prompt = text.find("prompt");
  return prompt == text.end() ? "" : prompt->second;
}

WebReply no(int status, const char* why) { return {.status = status, .body = why}; }

}  // namespace

VotePage::VotePage(fs::path folder, VoteNames names)
    : folder_(std::move(folder)),
      names_(std::move(names)),
      file_(whole_lines(folder_ / "votes.jsonl")) {
  std::random_device random;  // which side is which must not be known beforehand
  for (int64_t i = 0;; ++i) {
    const std::string name = fmt::format("{:05}.png", i);
    if (!fs::exists(folder_ / "a" / name) || !fs::exists(folder_ / "b" / name)) break;
    pairs_.push_back({.vote = {.pair = i,
                               .prompt = prompt_of(folder_ / "a" / name),
                               .a = "a/" + name,
                               .b = "b/" + name,
                               .a_left = random() % 2 == 0}});
  }
  VGGFLOW_CHECK(!pairs_.empty(), "[vote] {} holds no pairs of images", folder_.string());
  for (const Vote& vote : read_votes(folder_)) {
    if (vote.pair < 0 || vote.pair >= std::ssize(pairs_)) continue;
    pairs_[static_cast<size_t>(vote.pair)] = {vote, /*voted=*/true};
  }
  order_.resize(pairs_.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::shuffle(order_.begin(), order_.end(), random);
}

WebReply VotePage::get(const WebRequest& request) {
  if (request.path == "/")
    return {.type = "text/html; charset=utf-8", .body = std::string(vote_html())};
  if (request.path == "/page.css")
    return {.type = "text/css; charset=utf-8", .body = std::string(page_css())};
  if (request.path == "/page.svg")
    return {.type = "image/svg+xml", .body = std::string(page_svg())};
  if (request.path == "/vote.js")
    return {.type = "text/javascript; charset=utf-8", .body = std::string(vote_js())};
  const std::lock_guard lock(mutex_);
  if (request.path == "/next") return state(next());
  if (request.path == "/image") return image(request);
  return no(404, "there is no such page");
}

WebReply VotePage::post(const WebRequest& request) {
  const Json asked = try_parse_json(request.body);
  const std::lock_guard lock(mutex_);
  if (request.path == "/vote") return vote(asked);
  if (request.path != "/back") return no(404, "there is no such command");
  return state(history_.empty() ? next() : history_.back());
}

WebReply VotePage::vote(const Json& asked) {
  if (!asked.is_object() || !asked.contains("pair") || !asked["pair"].is_number_integer() ||
      !asked.contains("choice"))
    return no(400, "expected {\"pair\": 3, \"choice\": \"left\", \"right\" or \"tie\"}");
  const auto number = asked["pair"].get<int64_t>();
  if (number < 0 || number >= std::ssize(pairs_)) return no(400, "there is no such pair");
  Pair& pair = pairs_[static_cast<size_t>(number)];
  const Json& choice = asked["choice"];
  if (choice == "tie") {
    pair.vote.winner = VoteWinner::kTie;
  } else if (choice == "left" || choice == "right") {
    pair.vote.winner = (choice == "left") == pair.vote.a_left ? VoteWinner::kA : VoteWinner::kB;
  } else {
    return no(400, "expected the choice left, right or tie");
  }
  file_.write(json_of(pair.vote));
  file_.sync();
  pair.voted = true;
  std::erase(history_, number);
  history_.push_back(number);
  return state(next());
}

WebReply VotePage::image(const WebRequest& request) const {
  const std::string number = request.word("pair"), side = request.word("side");
  if (number.empty() || side.empty()) return no(404, "no image");
  for (const Pair& pair : pairs_) {
    if (fmt::to_string(pair.vote.pair) != number) continue;
    const bool a = (side == "left") == pair.vote.a_left;
    const std::string bytes = read_plain_file(
        folder_ / (a ? "a" : "b") / fmt::format("{:05}.png", pair.vote.pair), kMostImage);
    if (!bytes.empty()) return {.type = "image/png", .body = bytes};
  }
  return no(404, "there is no such image");
}

// The pair to show, -1 where all have a vote.
int64_t VotePage::next() const {
  const auto open = std::find_if(order_.begin(), order_.end(),
                                 [&](int64_t i) { return !pairs_[static_cast<size_t>(i)].voted; });
  return open == order_.end() ? -1 : *open;
}

WebReply VotePage::state(int64_t shown) const {
  const WinRate r = rate();
  Json state{{"pair", shown},
             {"of", pairs_.size()},
             {"result",
              {{"a", names_.a},
               {"b", names_.b},
               {"votes", r.votes},
               {"ties", r.ties},
               {"rate", r.rate},
               {"low", r.low},
               {"high", r.high}}}};
  if (shown >= 0) state["prompt"] = pairs_[static_cast<size_t>(shown)].vote.prompt;
  return {.type = "application/json", .body = json_text(state)};
}

WinRate VotePage::rate() const {
  std::vector<Vote> votes;
  for (const Pair& pair : pairs_) {
    if (pair.voted) votes.push_back(pair.vote);
  }
  return win_rate(votes);
}

WinRate VotePage::result() const {
  const std::lock_guard lock(mutex_);
  return rate();
}

}  // namespace vggflow
