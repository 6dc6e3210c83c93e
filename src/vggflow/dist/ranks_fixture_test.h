#pragma once
// What the tests of groups share: ranks as processes on loopback.

#include <ATen/Parallel.h>
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <exception>
#include <functional>
#include <vector>

#include "vggflow/core/log.h"
#include "vggflow/dist/group.h"

namespace vggflow {

/// A socket on a free port of loopback.
struct BoundSocket {
  BoundSocket() : descriptor(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(name);
    ::bind(descriptor, reinterpret_cast<sockaddr*>(&name), length);
    ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&name), &length);
    port = ntohs(name.sin_port);
  }
  ~BoundSocket() { ::close(descriptor); }
  BoundSocket(const BoundSocket&) = delete;
  BoundSocket& operator=(const BoundSocket&) = delete;
  int descriptor, port;
};

inline int free_port() { return BoundSocket().port; }

inline Place place(int rank, int size, int port) {
  return {.launcher = "torchrun",
          .rank = rank,
          .size = size,
          .local_rank = rank,
          .address = "127.0.0.1",
          .port = port};
}

inline constexpr std::chrono::milliseconds kLong{60000};

// Runs a body on each of `size` processes, and expects all to end without a failure.
inline void on_places(int size, const std::function<void(const Place&)>& body) {
  const int port = free_port();
  std::vector<pid_t> children;
  for (int rank = 0; rank < size; ++rank) {
    const pid_t child = ::fork();
    if (child == 0) {
      // As the program does: a connection that breaks ends no process by SIGPIPE.
      catch_interrupts();
      at::set_num_threads(1);  // the parent's other threads did not come along
      try {
        body(place(rank, size, port));
      } catch (const std::exception& e) {
        ADD_FAILURE() << "rank " << rank << ": " << e.what();
      }
      ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
  }
}

// The same of groups.
inline void on_ranks(int size, const std::function<void(const Group&)>& body) {
  on_places(size, [&](const Place& own) { body(Group::open(own, kLong)); });
}

}  // namespace vggflow
