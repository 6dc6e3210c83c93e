#pragma once
// Blind votes in the browser: two images of one prompt and noise side by side, in random order and
// on random sides.

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "vggflow/data/votes.h"
#include "vggflow/page/web_server.h"

namespace vggflow {

/// The names of the two sides, shown with the result alone.
struct VoteNames {
  std::string a, b;
};

class VotePage {
 public:
  /// `folder` holds the pairs as a/00000.png and b/00000.png, and goes on with its votes.jsonl.
  VotePage(std::filesystem::path folder, VoteNames names);

  /// "/", "/page.css", "/vote.js"; "/next": a pair without a vote, and the result so far as JSON;
  /// "/image?pair=3&side=left".
  WebReply get(const WebRequest& request);
  /// "/vote" with {"pair": 3, "choice": "left", "right" or "tie"}: written before it is answered,
  /// with what "/next" gives. "/back": the same with the pair voted on last.
  WebReply post(const WebRequest& request);
  WinRate result() const;

 private:
  struct Pair {
    Vote vote;
    bool voted = false;
  };
  WebReply vote(const Json& asked);
  WebReply image(const WebRequest& request) const;
  WebReply state(int64_t shown) const;
  int64_t next() const;
  WinRate rate() const;

  std::filesystem::path folder_;
  VoteNames names_;
  mutable std::mutex mutex_;
  std::vector<Pair> pairs_;       ///< by their number
  std::vector<int64_t> order_;    ///< in which they are shown
  std::vector<int64_t> history_;  ///< pairs voted on since the start
  JsonLines file_;
};

}  // namespace vggflow
