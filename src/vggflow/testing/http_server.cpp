#include "vggflow/testing/http_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "vggflow/core/error.h"

namespace vggflow::testing {
namespace {

struct Request {
  std::string head, body;
};

Request receive(int connection) {
  std::string all;
  size_t head = std::string::npos, length = 0;
  for (char buffer[65536];;) {
    const ssize_t got = ::recv(connection, buffer, sizeof buffer, 0);
    if (got <= 0) return {};
    all.append(buffer, static_cast<size_t>(got));
    if (head == std::string::npos && (head = all.find("\r\n\r\n")) != std::string::npos) {
      const size_t field = all.find("Content-Length: ");
      if (field < head) length = std::stoul(all.substr(field + 16));
    }
    if (head != std::string::npos && all.size() >= head + 4 + length)
      return {all.substr(0, head), all.substr(head + 4, length)};
  }
}

}  // namespace

HttpServer::HttpServer(std::function<HttpAnswer(const std::string&)> answer)
    : answer_(std::move(answer)), socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  VGGFLOW_CHECK(::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                    ::listen(socket_, 16) == 0 &&
                    ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0,
                "[http_server] cannot listen on 127.0.0.1");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { serve(); });
}

HttpServer::~HttpServer() {
  ::shutdown(socket_, SHUT_RDWR);  // ends the accept
  thread_.join();
  ::close(socket_);
  for (const int connection : silent_) ::close(connection);
}

std::string HttpServer::url() const { return fmt::format("http://127.0.0.1:{}", port_); }

std::vector<std::string> HttpServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

std::vector<std::string> HttpServer::heads() const {
  const std::lock_guard lock(mutex_);
  return heads_;
}

void HttpServer::serve() {
  for (int connection; (connection = ::accept(socket_, nullptr, nullptr)) >= 0;)
    answer_one(connection);
}

void HttpServer::answer_one(int connection) {
  const auto [head, body] = receive(connection);
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back(body);
    heads_.push_back(head);
  }
  const HttpAnswer answer = answer_(body);
  if (answer.status == 0) {
    silent_.push_back(connection);
    return;
  }
  const std::string text =
      fmt::format("HTTP/1.1 {} Status\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n{}",
                  answer.status, answer.body.size(), answer.headers, answer.body);
  ::send(connection, text.data(), text.size(), MSG_NOSIGNAL);
  ::close(connection);
}

}  // namespace vggflow::testing
