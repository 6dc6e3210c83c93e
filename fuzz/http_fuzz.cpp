// Any bytes that a server answers end in a reply, or in an Error: no hang, no crash, and no more
// memory than a reply may have.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>

#include "fuzz.h"
#include "vggflow/core/error.h"
#include "vggflow/core/json.h"
#include "vggflow/io/http.h"

bool fuzz_accepted = false;

namespace {

// A server on this machine that reads a request's head and answers with bytes as they are.
class Server {
 public:
  Server() {
    socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(socket_, 8) != 0 ||
        ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      std::abort();
    port_ = ntohs(address.sin_port);
    std::thread([this] { serve(); }).detach();
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/"; }
  void answers(std::string bytes) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(bytes);
  }

 private:
  void serve() {
    for (;;) {
      const int connection = ::accept(socket_, nullptr, nullptr);
      char head[4096];
      if (::recv(connection, head, sizeof head, 0) > 0) {
        const std::lock_guard lock(mutex_);
        (void)!::send(connection, answer_.data(), answer_.size(), MSG_NOSIGNAL);
      }
      ::shutdown(connection, SHUT_WR);
      while (::recv(connection, head, sizeof head, 0) > 0) {
      }
      ::close(connection);
    }
  }
  int socket_ = -1, port_ = 0;
  std::mutex mutex_;
  std::string answer_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Server& server = *new Server;  // its thread outlives the statics
  static vggflow::HttpClient client;
  fuzz_accepted = false;
  server.answers({reinterpret_cast<const char*>(data), size});
  try {
    const vggflow::RetryOptions once{.timeout = 2, .retries = 0, .backoff = 0};
    const std::string body = vggflow::post_json(client, server.url(), "{}", once);
    if (body.size() > size) std::abort();
    vggflow::parse_json(body, "the reply");
    fuzz_accepted = true;
  } catch (const vggflow::Error&) {
  }
  return 0;
}
