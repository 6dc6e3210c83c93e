#pragma once
// A server on this machine that answers a test's requests, one at a time, as a function says.

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace vggflow::testing {

struct HttpAnswer {
  int status = 200;  ///< 0: none, the connection stays open and silent
  std::string body;
  std::string headers = {};  ///< further ones, each ending in \r\n
};

class HttpServer {
 public:
  /// `answer` gets the bodies of the POSTs, on the server's thread.
  explicit HttpServer(std::function<HttpAnswer(const std::string& body)> answer);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// http://127.0.0.1:PORT
  std::string url() const;
  /// Bodies received so far.
  std::vector<std::string> requests() const;
  /// Their request lines and headers.
  std::vector<std::string> heads() const;

 private:
  void serve();
  void answer_one(int connection);

  std::function<HttpAnswer(const std::string&)> answer_;
  int socket_ = -1, port_ = 0;
  std::vector<int> silent_;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_, heads_;
  std::thread thread_;
};

}  // namespace vggflow::testing
