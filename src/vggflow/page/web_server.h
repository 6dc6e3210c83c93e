#pragma once
// A small HTTP server for one program's own page. It trusts nobody who connects: every request has
// a deadline and a size, there are at most 64 connections, and other sites' scripts are kept out.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace vggflow {

struct WebOptions {
  std::string address = "127.0.0.1";  ///< of this machine; "0.0.0.0" is every one
  int64_t port = 8675;                ///< 0: any that is free
  /// Every address then begins with 128 random bits, and without them there is nothing. Always so
  /// where `address` can be reached from other machines.
  bool token = false;
  double request_seconds = 10;  ///< from the connection to the request's last byte
  double write_seconds = 20;    ///< for a client to take one piece of a reply
};

struct WebRequest {
  std::string path;                               ///< decoded, without the token: "/", "/events"
  std::map<std::string, std::string> query = {};  ///< decoded
  std::string body = {};                          ///< of a POST

  /// The query's value of a name; empty where it has none.
  std::string word(const std::string& name) const;
};

struct WebReply {
  int status = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body = {};
  /// Set for a reply without an end: called again and again, it may wait for up to a second. It
  /// returns what to send now, empty for nothing yet; "" after `ended` was set ends the reply.
  std::function<std::string(bool& ended)> stream = {};
};

class WebServer {
 public:
  using Handler = std::function<WebReply(const WebRequest&)>;
  static constexpr int kMostConnections = 64;
  static constexpr size_t kLargestHead = 16 << 10, kLargestBody = 16 << 10;

  /// Answers from now on, on threads of its own, which no signal reaches. `post` empty: nothing but
  /// GET is taken. Handlers are called by several threads at once. Throws where the address cannot
  /// be had.
  WebServer(WebOptions options, Handler get, Handler post = {});
  /// Ends all replies.
  ~WebServer();
  WebServer(const WebServer&) = delete;
  WebServer& operator=(const WebServer&) = delete;

  int port() const;
  /// http://127.0.0.1:8675/ or http://HOST:8675/TOKEN/
  std::string url() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// Waits for Ctrl-C or SIGTERM, which must be caught (core/log.h), while a server answers.
void serve_until_interrupted();

/// Whether a Host header names this machine as a browser may that was not led here by a name of
/// somebody else's (DNS rebinding): an IP address, localhost, or `own`.
bool is_own_host(const std::string& host, const std::string& own);

}  // namespace vggflow
