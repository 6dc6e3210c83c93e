#pragma once
// The live page as a command: it reads run folders and serves until it is asked to end.

#include <cstdint>
#include <string>
#include <vector>

#include "vggflow/core/field.h"

namespace vggflow {

struct WatchConfig {
  std::vector<std::string> runs;
  int64_t port = 8675;
  std::string address = "127.0.0.1";

  template <class V>
  void fields(V& v) {
    v("runs", runs, "run folders to show together, at most ten");
    v("port", port, "port of the page; 0: any free port", range(0, 65535));
    v("address", address,
      "address to listen on; any but 127.0.0.1 adds a random token to the page's URL, which grants "
      "access");
  }
};

/// Prints the page's address and serves it until Ctrl-C or SIGTERM. Throws where a run is no folder
/// or the address cannot be had.
void watch(const WatchConfig& config);

}  // namespace vggflow
