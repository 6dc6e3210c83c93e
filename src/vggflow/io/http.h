#pragma once
// JSON over HTTP: one POST, and one that is tried again where the server may recover.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "vggflow/core/field.h"

namespace vggflow {

/// What came back of a request.
struct HttpReply {
  std::string failure;     ///< why there is no reply, in libcurl's words; empty: there is one
  bool temporary = false;  ///< a failure, or a status (408, 429, 500, 502, 503, 504), that another
                           ///< try may not see
  int64_t status = 0;
  std::string body;
  std::optional<double> retry_after;  ///< seconds that the server asks to wait
};

/// A connection that is kept between requests. Not for two threads at once.
class HttpClient {
 public:
  HttpClient();
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// POSTs JSON to an http or https address; `timeout` in seconds bounds the whole exchange.
  /// Redirections are not followed, and replies of more than 16 MiB are a failure. What the user's
  /// environment says of proxies holds, but not for this machine itself.
  HttpReply post_json(const std::string& url, const std::string& body, double timeout);

 private:
  void* curl_;
};

struct RetryOptions {
  double timeout = 60;
  int64_t retries = 4;
  double backoff = 0.5;

  template <class V>
  void fields(V& v) {
    v("timeout", timeout, "timeout of a request in seconds", range(0.01, 86400));
    v("retries", retries, "retries if there is no reply or the server is busy", range(0, 100));
    v("backoff", backoff,
      "seconds before the first retry, doubled for each further one up to 60; Retry-After of the "
      "server is respected",
      range(0, 60));
  }
};

/// The body of a reply of status 200, after at most 1 + retries tries. Throws, naming the address
/// and what was found, for another status or when the tries are used up.
std::string post_json(HttpClient& client, const std::string& url, const std::string& body,
                      const RetryOptions& options);

}  // namespace vggflow
