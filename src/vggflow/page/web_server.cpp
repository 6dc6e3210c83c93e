#include "vggflow/page/web_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <httplib.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"

namespace vggflow {
namespace {

using Clock = std::chrono::steady_clock;

Clock::time_point after(double seconds) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// Waits until the socket is ready for `events`; false once it is too late.
bool wait_for(int socket, short events, Clock::time_point deadline) {
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd one{socket, events, 0};
    const int ready = ::poll(&one, 1, static_cast<int>(std::min<int64_t>(left, 1000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

bool send_all(int socket, std::string_view data, Clock::time_point deadline) {
  while (!data.empty()) {
    const ssize_t sent = ::send(socket, data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      data.remove_prefix(static_cast<size_t>(sent));
    } else if (errno != EAGAIN && errno != EINTR) {
      return false;
    } else if (!wait_for(socket, POLLOUT, deadline)) {
      return false;
    }
  }
  return true;
}

void refuse(int socket, const char* status, double seconds) {
  send_all(socket,
           fmt::format("HTTP/1.1 {0}\r\nConnection: close\r\nContent-Type: text/plain\r\n"
                       "Content-Length: {1}\r\n\r\n{0}",
                       status, std::string_view(status).size()),
           after(seconds));
}

// One connection with one request. The library reads a header as long as one comes, however slowly:
// here all of a request has one deadline, and a size.
class BoundedStream : public httplib::Stream {
 public:
  BoundedStream(int socket, const WebOptions& options)
      : socket_(socket), options_(options), deadline_(after(options.request_seconds)) {}

  /// Reads the head; null, or the status to refuse it with ("" for a client that is gone).
  const char* read_head() {
    while (data_.find("\r\n\r\n") == std::string::npos) {
      if (data_.size() >= WebServer::kLargestHead) return "431 Request Header Fields Too Large";
      if (!receive()) return data_.empty() ? "" : "408 Request Timeout";
    }
    return data_.find("\r\n\r\n") > WebServer::kLargestHead ? "431 Request Header Fields Too Large"
                                                            : nullptr;
  }

  bool is_readable() const override { return place_ < data_.size(); }
  // Whether the client is still there.
  bool is_writable() const override {
    char byte = 0;
    const ssize_t got = ::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
  }
  ssize_t read(char* to, size_t size) override {
    if (place_ == data_.size() && (data_.size() > kMostBytes || !receive())) return -1;
    const size_t count = std::min(size, data_.size() - place_);
    std::memcpy(to, data_.data() + place_, count);
    place_ += count;
    return static_cast<ssize_t>(count);
  }
  ssize_t write(const char* from, size_t size) override {
    return send_all(socket_, {from, size}, after(options_.write_seconds))
               ? static_cast<ssize_t>(size)
               : -1;
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override { ip = "", port = 0; }
  void get_local_ip_and_port(std::string& ip, int& port) const override { ip = "", port = 0; }
  socket_t socket() const override { return socket_; }

 private:
  static constexpr size_t kMostBytes = WebServer::kLargestHead + 2 * WebServer::kLargestBody;

  bool receive() {
    std::array<char, 4096> buffer;
    while (wait_for(socket_, POLLIN, deadline_)) {
      const ssize_t got = ::recv(socket_, buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got > 0) data_.append(buffer.data(), static_cast<size_t>(got));
      if (got > 0) return true;
      if (got == 0 || (errno != EAGAIN && errno != EINTR)) return false;
    }
    return false;
  }

  int socket_;
  const WebOptions& options_;
  Clock::time_point deadline_;
  std::string data_;
  size_t place_ = 0;
};

// A thread for each connection, as many as are allowed; one more is dealt with where it is.
class Threads : public httplib::TaskQueue {
 public:
  static thread_local bool too_many;

  void enqueue(std::function<void()> work) override {
    {
      const std::lock_guard lock(mutex_);
      too_many = running_ >= WebServer::kMostConnections;
      if (!too_many) ++running_;
    }
    if (too_many) return work();
    std::thread([this, work = std::move(work)] {
      work();
      const std::lock_guard lock(mutex_);
      --running_;
      none_.notify_all();
    }).detach();
  }
  void shutdown() override {
    std::unique_lock lock(mutex_);
    none_.wait(lock, [&] { return running_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable none_;
  int running_ = 0;
};
thread_local bool Threads::too_many = false;

// The library ignores SIGPIPE for the whole program, which has its own way with it (core/log.h);
// sockets are written without that signal anyway.
class KeepBrokenPipes {
 public:
  KeepBrokenPipes() { ::sigaction(SIGPIPE, nullptr, &before_); }
  void restore() const { ::sigaction(SIGPIPE, &before_, nullptr); }

 private:
  struct sigaction before_{};
};

class BoundedServer : private KeepBrokenPipes, public httplib::Server {
 public:
  explicit BoundedServer(const WebOptions& options) : options_(options) {
    restore();
    new_task_queue = [] { return new Threads; };
    set_payload_max_length(WebServer::kLargestBody);
  }
  // The library lets five connections wait for their turn, and many viewers at once would wait for
  // seconds.
  void take_crowds() const { ::listen(svr_sock_, 2 * WebServer::kMostConnections); }

 private:
  bool process_and_close_socket(socket_t socket) override {
    if (Threads::too_many) {
      refuse(socket, "503 Too Many Connections", 0);
    } else {
      answer(socket);
    }
    // A client that still sends would else lose the reply.
    ::shutdown(socket, SHUT_WR);
    std::array<char, 4096> rest;
    for (int i = 0; i < 16 && ::recv(socket, rest.data(), rest.size(), MSG_DONTWAIT) > 0;) ++i;
    ::close(socket);
    return true;
  }
  void answer(socket_t socket) {
    BoundedStream stream(socket, options_);
    if (const char* status = stream.read_head()) {
      if (*status) refuse(socket, status, 1);
      return;
    }
    bool closed = false;
    process_request(stream, /*close_connection=*/true, closed, nullptr);
  }

  const WebOptions& options_;
};

std::string random_word() {
  std::array<unsigned char, 16> bytes{};
  VGGFLOW_CHECK(::getrandom(bytes.data(), bytes.size(), 0) == std::ssize(bytes),
                "[page] the system gives no random numbers");
  std::string word;
  for (const unsigned char byte : bytes) word += fmt::format("{:02x}", byte);
  return word;
}

// Compared in a time that does not tell how much of it is right.
bool begins_with_token(const std::string& path, const std::string& token) {
  if (path.size() < token.size() + 2 || path[0] != '/' || path[token.size() + 1] != '/')
    return false;
  unsigned difference = 0;
  for (size_t i = 0; i < token.size(); ++i)
    difference |= static_cast<unsigned char>(path[i + 1] ^ token[i]);
  return difference == 0;
}

bool is_loopback(const std::string& address) {
  in_addr four{};
  return address == "::1" || address == "localhost" ||
         (::inet_pton(AF_INET, address.c_str(), &four) == 1 && address.starts_with("127."));
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

std::string without_port(const std::string& host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.find(':'));
}

}  // namespace

std::string WebRequest::word(const std::string& name) const {
  const auto found = query.find(name);
  return found == query.end() ? "" : found->second;
}

void serve_until_interrupted() {
  while (!interrupted()) std::this_thread::sleep_for(std::chrono::milliseconds(100));
}

bool is_own_host(const std::string& host, const std::string& own) {
  const std::string name = without_port(host);
  if (name.empty()) return false;
  if (name == "localhost" || name == own) return true;
  in_addr four{};
  in6_addr six{};
  return ::inet_pton(AF_INET, name.c_str(), &four) == 1 ||
         (name.size() > 2 && name.front() == '[' && name.back() == ']' &&
          ::inet_pton(AF_INET6, name.substr(1, name.size() - 2).c_str(), &six) == 1);
}

class WebServer::Impl {
 public:
  Impl(WebOptions options, Handler get, Handler post)
      : options_(std::move(options)),
        get_(std::move(get)),
        post_(std::move(post)),
        token_(options_.token || !is_loopback(options_.address) ? random_word() : ""),
        server_(options_) {
    set_up();
    bind();
    start();
  }
  ~Impl() {
    server_.stop();
    thread_.join();
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  int port() const { return port_; }
  std::string url() const {
    const bool any = options_.address == "0.0.0.0" || options_.address == "::";
    const std::string host = any ? host_name() : options_.address;
    return fmt::format("http://{}:{}/{}",
                       host.find(':') == std::string::npos ? host : "[" + host + "]", port_,
                       token_.empty() ? "" : token_ + "/");
  }

 private:
  void set_up() {
    server_.set_default_headers(
        {{"Content-Security-Policy",
          "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src "
          "'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
         {"X-Content-Type-Options", "nosniff"},
         {"Referrer-Policy", "no-referrer"},
         {"Cross-Origin-Resource-Policy", "same-origin"},
         {"Cache-Control", "no-store"}});
    using Turn = httplib::Server::HandlerResponse;
    server_.set_pre_routing_handler(
        [this](const httplib::Request& request, httplib::Response& reply) {
          const WebReply refused = refusal(request);
          if (refused.status == 200 && request.method == "POST")
            return Turn::Unhandled;  // its body
          write(refused.status == 200 ? answer(request, get_) : refused, reply);
          return Turn::Handled;
        });
    server_.Post("/.*", [this](const httplib::Request& request, httplib::Response& reply) {
      write(answer(request, post_), reply);
    });
    server_.set_exception_handler(
        [](const httplib::Request&, httplib::Response& reply, std::exception_ptr) {
          write({.status = 500, .body = "the page failed"}, reply);
        });
  }

  // What is wrong with a request before anything is done for it; status 200: nothing.
  WebReply refusal(const httplib::Request& request) const {
    const auto no = [](int status, const char* why) {
      return WebReply{.status = status, .body = why};
    };
    const std::string host = request.get_header_value("Host");
    const std::string own = is_loopback(options_.address) ? "" : host_name();
    if (request.get_header_value_count("Host") != 1 || !is_own_host(host, own))
      return no(421, "expected this machine's own name or address as Host");
    if (request.path.size() > 256) return no(414, "the address is too long");
    if (request.has_header("Range")) return no(400, "parts of a reply are not given");
    if (!token_.empty() && !begins_with_token(request.path, token_))
      return no(403, "expected the address as vggflow printed it, with its token");
    if (request.method == "GET" || request.method == "HEAD") return {};
    if (request.method != "POST" || !post_) return no(405, "this page takes no commands");
    const std::string origin = request.get_header_value("Origin");
    if (!origin.empty() && origin != "http://" + host)
      return no(403, "a page of another origin may not send commands");
    if (request.get_header_value("Content-Type") != "application/json")
      return no(415, "expected application/json");
    if (request.has_header("Transfer-Encoding") || request.has_header("Content-Encoding") ||
        request.get_header_value_count("Content-Length") != 1)
      return no(411, "expected a plain body with its length");
    return {};
  }

  WebReply answer(const httplib::Request& request, const Handler& handler) const {
    WebRequest asked{request.path.substr(token_.empty() ? 0 : token_.size() + 1), {}, request.body};
    for (const auto& [name, value] : request.params) asked.query[name] = value;
    return handler(asked);
  }

  static void write(const WebReply& from, httplib::Response& to) {
    to.status = from.status;
    if (!from.stream) {
      to.set_content(from.body, from.type.c_str());
      return;
    }
    to.set_chunked_content_provider(from.type.c_str(),
                                    [stream = from.stream](size_t, httplib::DataSink& sink) {
                                      bool ended = !sink.is_writable();
                                      const std::string piece = ended ? "" : stream(ended);
                                      if (!piece.empty() && !sink.write(piece.data(), piece.size()))
                                        return false;
                                      if (ended) sink.done();
                                      return true;
                                    });
  }

  void bind() {
    port_ = static_cast<int>(options_.port);
    // One at a time on a port: the library would let several processes share it.
    server_.set_socket_options([](socket_t socket) {
      const int yes = 1;
      ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    const bool bound = port_ == 0 ? (port_ = server_.bind_to_any_port(options_.address)) > 0
                                  : server_.bind_to_port(options_.address, port_);
    VGGFLOW_CHECK(bound,
                  "[page] cannot listen on {} port {}: {}. Choose another port, or 0 for any that "
                  "is free",
                  options_.address, options_.port, std::strerror(errno));
    server_.take_crowds();
  }

  // Threads take over what their maker has blocked: no signal of the program's ends up in one.
  void start() {
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    while (!server_.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  WebOptions options_;
  Handler get_, post_;
  std::string token_;
  BoundedServer server_;
  int port_ = 0;
  std::thread thread_;
};

WebServer::WebServer(WebOptions options, Handler get, Handler post)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(get), std::move(post))) {}
WebServer::~WebServer() = default;
int WebServer::port() const { return impl_->port(); }
std::string WebServer::url() const { return impl_->url(); }

}  // namespace vggflow
