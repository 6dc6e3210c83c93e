#pragma once
// Long lists and texts in messages, cut to what a person reads.

#include <cstddef>
#include <string>
#include <vector>

namespace vggflow {

/// At most five of `items` with `separator` between, each cut to 300 bytes, and how many there are
/// besides: "a; b; c; d; e; and 719 more". Every list in an error is told by it, so that a file of
/// a thousand odd tensors is one line that can be read.
std::string examples_of(const std::vector<std::string>& items, const char* separator = "; ");

/// "1 fault", "3 faults".
std::string count_of(size_t count, const std::string& noun);

/// `text`, or its first `most` bytes and "..."; characters of UTF-8 stay whole.
std::string clipped(const std::string& text, size_t most);

/// `message`, of which at most 2,000 bytes are kept: its begin, which says what is wrong, and its
/// end, which says what to do. Characters of UTF-8 stay whole. The program shows every error so.
std::string bounded_message(const std::string& message);

}  // namespace vggflow
