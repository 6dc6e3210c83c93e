#include "vggflow/page/web_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>
#include <vector>

#include "vggflow/testing/message.h"

namespace vggflow {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A client that sends what it is told to.
class Client {
 public:
  explicit Client(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  void send(const std::string& text) const {
    (void)!::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
  }
  // Until the end, or until `enough` is there.
  std::string receive(const std::string& enough = "") const {
    std::string all;
    char buffer[4096];
    for (ssize_t got; (got = ::recv(socket_, buffer, sizeof buffer, 0)) > 0;) {
      all.append(buffer, static_cast<size_t>(got));
      if (!enough.empty() && all.find(enough) != std::string::npos) break;
    }
    return all;
  }

 private:
  int socket_;
};

std::string ask(const WebServer& server, const std::string& request) {
  const Client client(server.port());
  client.send(request);
  return client.receive();
}
std::string get(const WebServer& server, const std::string& path, const std::string& more = "") {
  return ask(server, "GET " + path + " HTTP/1.1\r\nHost: localhost:" +
                         fmt::to_string(server.port()) + "\r\n" + more + "\r\n");
}

WebReply echo(const WebRequest& request) {
  std::string text = request.path;
  for (const auto& [name, value] : request.query) text += " " + name + "=" + value;
  return {.body = text + " " + request.body};
}

WebOptions any_port() { return {.port = 0, .request_seconds = 5}; }

TEST(WebServer, GivesPagesToThisMachinesOwnNamesAlone) {
  const WebServer server(any_port(), echo);
  EXPECT_EQ(server.url(), fmt::format("http://127.0.0.1:{}/", server.port()));
  const std::string reply = get(server, "/a?b=c%20d");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(reply, HasSubstr("/a b=c d"));
  EXPECT_THAT(reply, HasSubstr("Content-Security-Policy: default-src 'none'"));
  EXPECT_THAT(ask(server, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
              StartsWith("HTTP/1.1 421"));
  EXPECT_THAT(ask(server, "GET / HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 421"));
  EXPECT_THAT(ask(server, "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"),
              StartsWith("HTTP/1.1 421"));
  for (const char* host : {"localhost", "127.0.0.1:1", "[::1]:8675", "10.0.0.7", "mine"})
    EXPECT_TRUE(is_own_host(host, "mine")) << host;
  for (const char* host :
       {"", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "[::1", "[x]"})
    EXPECT_FALSE(is_own_host(host, "mine")) << host;
}

TEST(WebServer, TakesNoCommandsUnlessAsked) {
  const WebServer server(any_port(), echo);
  const std::string post = "POST /go HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n";
  EXPECT_THAT(ask(server, post + "Content-Type: application/json\r\n\r\n{}"),
              StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(ask(server, "DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
              StartsWith("HTTP/1.1 405"));
}

TEST(WebServer, TakesCommandsWithTokenFromItsOwnPageAlone) {
  WebOptions options = any_port();
  options.token = true;
  const WebServer server(options, echo, echo);
  const std::string path = server.url().substr(server.url().find('/', 8));
  ASSERT_EQ(path.size(), 34u);
  EXPECT_THAT(get(server, path), HasSubstr("/ "));
  EXPECT_THAT(get(server, "/"), StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(get(server, "/" + std::string(32, '0') + "/"), StartsWith("HTTP/1.1 403"));
  const auto post = [&](const std::string& headers, const std::string& body = "{}") {
    return ask(server, fmt::format("POST {}go HTTP/1.1\r\nHost: localhost:1\r\nContent-Length: "
                                   "{}\r\n{}\r\n{}",
                                   path, body.size(), headers, body));
  };
  const std::string json = "Content-Type: application/json\r\n";
  EXPECT_THAT(post(json), HasSubstr("/go {}"));
  EXPECT_THAT(post(json + "Origin: http://localhost:1\r\n"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(post(json + "Origin: http://evil.example\r\n"), StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(post(json + "Origin: null\r\n"), StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(post("Content-Type: text/plain\r\n"), StartsWith("HTTP/1.1 415"));
  EXPECT_THAT(post(json + "Transfer-Encoding: chunked\r\n"), StartsWith("HTTP/1.1 411"));
  EXPECT_THAT(post(json + "Content-Encoding: gzip\r\n"), StartsWith("HTTP/1.1 411"));
  EXPECT_THAT(post(json, std::string(20000, 'x')), StartsWith("HTTP/1.1 413"));
}

TEST(WebServer, PutsATokenBeforeEverythingWhereOthersCanReachIt) {
  WebOptions options = any_port();
  options.address = "0.0.0.0";
  const WebServer server(options, echo);
  EXPECT_THAT(get(server, "/"), StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(get(server, server.url().substr(server.url().find('/', 8))),
              StartsWith("HTTP/1.1 200"));
}

TEST(WebServer, BoundsEveryRequest) {
  WebOptions options = any_port();
  options.request_seconds = 0.4;
  const WebServer server(options, echo);
  EXPECT_THAT(get(server, "/", "X: " + std::string(20000, 'x') + "\r\n"),
              StartsWith("HTTP/1.1 431"));
  std::string many;
  for (int i = 0; i < 5000; ++i) many += "A:b\r\n";
  EXPECT_THAT(get(server, "/", many), StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(get(server, "/" + std::string(300, 'x')), StartsWith("HTTP/1.1 414"));
  EXPECT_THAT(get(server, "/", "Range: bytes=0-1\r\n"), StartsWith("HTTP/1.1 400"));
  std::string ranges = "Range: bytes=0-1";
  while (ranges.size() < 8000) ranges += ",0-1";
  EXPECT_THAT(get(server, "/", ranges + "\r\n"), Not(StartsWith("HTTP/1.1 200")));
  EXPECT_THAT(get(server, "/"), StartsWith("HTTP/1.1 200")) << "it still lives";
}

TEST(WebServer, WaitsForNoOneWhoIsSlow) {
  WebOptions options = any_port();
  options.request_seconds = 0.4;
  const WebServer server(options, echo);
  const Client slow(server.port());
  const auto begin = std::chrono::steady_clock::now();
  std::thread drops([&] {
    for (int i = 0; i < 20; ++i) {
      slow.send("X");
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  });
  EXPECT_THAT(slow.receive(), StartsWith("HTTP/1.1 408"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(900));
  drops.join();
}

TEST(WebServer, HasSixtyFourConnectionsAtMost) {
  const WebServer server(any_port(), echo);
  std::vector<std::unique_ptr<Client>> idle;
  for (int i = 0; i < WebServer::kMostConnections; ++i)
    idle.push_back(std::make_unique<Client>(server.port()));
  EXPECT_THAT(Client(server.port()).receive(), StartsWith("HTTP/1.1 503"));
  idle.resize(10);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_THAT(get(server, "/"), StartsWith("HTTP/1.1 200"));
}

TEST(WebServer, StreamsUntilItsEnd) {
  auto server = std::make_unique<WebServer>(any_port(), [](const WebRequest&) {
    return WebReply{.type = "text/event-stream", .stream = [](bool&) {
                      std::this_thread::sleep_for(std::chrono::milliseconds(10));
                      return std::string("data: 1\n\n");
                    }};
  });
  const Client client(server->port());
  client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(client.receive("data: 1"), HasSubstr("text/event-stream"));
  server.reset();
  client.receive();  // comes to its end
}

TEST(WebServer, LeavesTheProgramsSignalsAndSaysWhereAPortIsTaken) {
  std::signal(SIGPIPE, SIG_DFL);
  const WebServer server(any_port(), echo);
  EXPECT_EQ(std::signal(SIGPIPE, SIG_DFL), SIG_DFL);
  WebOptions taken = any_port();
  taken.port = server.port();
  EXPECT_THAT(testing::message_of([&] { WebServer(taken, echo); }),
              HasSubstr(fmt::format("[page] cannot listen on 127.0.0.1 port {}", server.port())));
}

}  // namespace
}  // namespace vggflow
