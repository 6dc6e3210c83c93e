#include "vggflow/io/http.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <thread>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/core/secret.h"

namespace vggflow {
namespace {

constexpr size_t kMaxReply = size_t{16} << 20;
constexpr double kMaxWait = 60;
constexpr const char* kSayPassword =
    ". Users and passwords are not saved with settings: pass the address with them again "
    "(http://user:password@host)";

size_t append(char* data, size_t size, size_t count, void* target) {
  auto& body = *static_cast<std::string*>(target);
  if (body.size() + size * count > kMaxReply) return 0;  // ends the transfer with CURLE_WRITE_ERROR
  body.append(data, size * count);
  return size * count;
}

bool temporary_failure(CURLcode code) {
  constexpr CURLcode kCodes[] = {CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY,
                                 CURLE_COULDNT_CONNECT,      CURLE_OPERATION_TIMEDOUT,
                                 CURLE_GOT_NOTHING,          CURLE_SEND_ERROR,
                                 CURLE_RECV_ERROR,           CURLE_PARTIAL_FILE};
  return std::find(std::begin(kCodes), std::end(kCodes), code) != std::end(kCodes);
}

bool temporary_status(int64_t status) {
  constexpr int64_t kCodes[] = {408, 429, 500, 502, 503, 504};
  return std::find(std::begin(kCodes), std::end(kCodes), status) != std::end(kCodes);
}

std::string outcome(const HttpReply& reply) {
  if (!reply.failure.empty()) return reply.failure;
  constexpr size_t kShown = 200;
  return fmt::format("status {}: {}", reply.status, clipped(reply.body, kShown));
}

}  // namespace

HttpClient::HttpClient() {
  [[maybe_unused]] static const CURLcode once = curl_global_init(CURL_GLOBAL_DEFAULT);
  curl_ = curl_easy_init();
  VGGFLOW_CHECK(curl_ != nullptr, "[http] libcurl cannot be initialised");
}

HttpClient::~HttpClient() { curl_easy_cleanup(curl_); }

HttpReply HttpClient::post_json(const std::string& url, const std::string& body, double timeout) {
  HttpReply reply;
  char error[CURL_ERROR_SIZE] = "";
  curl_easy_reset(curl_);  // keeps the connection
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(
      curl_slist_append(curl_slist_append(nullptr, "Content-Type: application/json"), "Expect:"),
      &curl_slist_free_all);  // no 100-continue
  const std::string address = with_password(url);
  curl_easy_setopt(curl_, CURLOPT_URL, address.c_str());
  curl_easy_setopt(curl_, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, body.c_str());
  curl_easy_setopt(curl_, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl_, CURLOPT_TIMEOUT_MS, std::max(1L, std::lround(timeout * 1000)));
  curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, &append);
  curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &reply.body);
  curl_easy_setopt(curl_, CURLOPT_ERRORBUFFER, error);
  if (std::getenv("no_proxy") == nullptr && std::getenv("NO_PROXY") == nullptr)
    curl_easy_setopt(curl_, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
  const CURLcode code = curl_easy_perform(curl_);
  curl_easy_setopt(curl_, CURLOPT_ERRORBUFFER, nullptr);
  if (code != CURLE_OK) {
    reply.failure = code == CURLE_WRITE_ERROR
                        ? fmt::format("the reply is longer than {} bytes", kMaxReply)
                    : *error != '\0' ? error
                                     : curl_easy_strerror(code);
    reply.temporary = temporary_failure(code);
    return reply;
  }
  long status = 0;
  curl_off_t wait = 0;
  curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &status);
  if (curl_easy_getinfo(curl_, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK && wait > 0)
    reply.retry_after = static_cast<double>(wait);
  reply.status = status;
  reply.temporary = temporary_status(status);
  return reply;
}

std::string post_json(HttpClient& client, const std::string& url, const std::string& body,
                      const RetryOptions& options) {
  for (int64_t tries = 1;; ++tries) {
    HttpReply reply = client.post_json(url, body, options.timeout);
    if (reply.failure.empty() && reply.status == 200) return std::move(reply.body);
    VGGFLOW_CHECK(reply.temporary, "[http] expected status 200 from {}, got {}{}", url,
                  outcome(reply), reply.status == 401 ? kSayPassword : "");
    VGGFLOW_CHECK(tries <= options.retries,
                  "[http] no reply of status 200 from {} in {} {}; the last: {}. Check that the "
                  "server runs, or raise retries "
                  "and timeout",
                  url, tries, tries == 1 ? "try" : "tries", outcome(reply));
    const double wait =
        std::min(kMaxWait, std::max(std::ldexp(options.backoff, static_cast<int>(tries - 1)),
                                    reply.retry_after.value_or(0)));
    log_info("[http] try {} of {} at {}: {}; the next in {:.1f} s", tries, options.retries + 1, url,
             outcome(reply), wait);
    std::this_thread::sleep_for(std::chrono::duration<double>(wait));
  }
}

}  // namespace vggflow
