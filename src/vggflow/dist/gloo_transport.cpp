// The one file that knows c10d and Gloo.
#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ATen/ATen.h>
#include <c10/util/Logging.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/log.h"
#include "vggflow/dist/transport.h"

namespace vggflow {
namespace {

using std::chrono::milliseconds;

// In which ranks that live say so once one is lost.
constexpr milliseconds kWordTime{2000};

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "an unknown host";
}

// This host's address on the way to `address`, which is the one that ranks elsewhere reach it by:
// its own name may stand for a loopback address.
std::string own_address(const std::string& address, int port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return "";
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> list(found, ::freeaddrinfo);
  std::string own;
  for (const addrinfo* a = found; a && own.empty(); a = a->ai_next) {
    const int socket = ::socket(a->ai_family, a->ai_socktype, a->ai_protocol);
    if (socket < 0) continue;
    sockaddr_storage name{};
    socklen_t length = sizeof(name);
    std::array<char, NI_MAXHOST> text{};
    if (::connect(socket, a->ai_addr, a->ai_addrlen) == 0 &&
        ::getsockname(socket, reinterpret_cast<sockaddr*>(&name), &length) == 0 &&
        ::getnameinfo(reinterpret_cast<sockaddr*>(&name), length, text.data(), text.size(), nullptr,
                      0, NI_NUMERICHOST) == 0)
      own = text.data();
    ::close(socket);
  }
  return own;
}

std::shared_ptr<gloo::transport::Device> device_for(const Place& place) {
  if (const char* interface = std::getenv("GLOO_SOCKET_IFNAME"))
    return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
  const std::string own = own_address(place.address, place.port);
  return own.empty() ? c10d::ProcessGroupGloo::createDefaultDevice()
                     : c10d::ProcessGroupGloo::createDeviceForHostname(own);
}

std::vector<uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

class GlooTransport : public Transport {
 public:
  GlooTransport(const Place& place, milliseconds timeout);
  std::vector<Tensor> gather(const Tensor& bytes) override;
  std::function<void()> begin_gather(const Tensor& bytes, const Tensor& into) override;
  Tensor exchange(const Tensor& bytes) override;
  void leave_word(const std::string& text) override;

 private:
  std::string key(const char* what, int rank) const { return fmt::format("{}/{}", what, rank); }
  bool has(const std::string& name) const;
  std::string value(const std::string& name) const;
  void meet_all();
  void find_hosts();
  [[noreturn]] void report_loss(const std::string& problem);

  Place place_;
  milliseconds timeout_;
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  std::vector<std::string> hosts_;
  std::string loss_;  // of another rank, once it is known
};

GlooTransport::GlooTransport(const Place& place, milliseconds timeout)
    : place_(place), timeout_(timeout) {
  // c10d's own warnings are stack traces of what our errors say.
  FLAGS_caffe2_log_level = c10::GLOG_ERROR;
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(place.port);
  options.isServer = place.rank == 0 && !place.agent_hosts;
  options.numWorkers = static_cast<size_t>(place.size);
  options.waitWorkers = false;
  options.timeout = timeout;
  try {
    // The keys of an attempt are its own: torchrun keeps the store when it starts the ranks again.
    store_ = c10::make_intrusive<c10d::PrefixStore>(
        "vggflow/" + place.attempt, c10::make_intrusive<c10d::TCPStore>(place.address, options));
    store_->set(key("here", place.rank), bytes_of(host_name()));
  } catch (const std::exception& e) {
    fail(
        "[ranks] rank {} of {} ({}) cannot {} the meeting point {}:{}: {}. Check MASTER_ADDR and "
        "MASTER_PORT, and that rank 0 has started",
        place.rank, place.size, place.launcher, options.isServer ? "open" : "reach", place.address,
        place.port, e.what());
  }
  meet_all();
  find_hosts();
  try {
    auto settings = c10d::ProcessGroupGloo::Options::create(timeout);
    settings->devices.push_back(device_for(place));
    settings->threads = 1;
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store_, place.rank, place.size, settings);
  } catch (const std::exception& e) {
    report_loss(e.what());
  }
}

bool GlooTransport::has(const std::string& name) const { return store_->check({name}); }

std::string GlooTransport::value(const std::string& name) const {
  const std::vector<uint8_t> bytes = store_->get(name);
  return {bytes.begin(), bytes.end()};
}

// Waits until every rank has said that it is here.
void GlooTransport::meet_all() {
  const Stopwatch watch;
  std::vector<int> missing;
  for (int rank = 0; rank < place_.size; ++rank) {
    const auto left = timeout_ - milliseconds(static_cast<int64_t>(1000 * watch.seconds()));
    try {
      store_->wait({key("here", rank)}, std::max(left, milliseconds(1)));
    } catch (const std::exception&) {
      missing.push_back(rank);
    }
  }
  VGGFLOW_CHECK(missing.empty(),
                "[ranks] expected {} ranks at {}:{} within {} s, got none of rank {}: look at what "
                "those wrote, or allow more time (ranks_timeout)",
                place_.size, place_.address, place_.port, timeout_.count() / 1000,
                fmt::join(missing, ", "));
}

void GlooTransport::find_hosts() {
  for (int rank = 0; rank < place_.size; ++rank) hosts_.push_back(value(key("here", rank)));
}

std::vector<Tensor> GlooTransport::gather(const Tensor& bytes) {
  std::vector<std::vector<Tensor>> out(1);
  for (int rank = 0; rank < place_.size; ++rank) out[0].push_back(at::empty_like(bytes));
  std::vector<Tensor> in{bytes};
  try {
    group_->allgather(out, in)->wait();
  } catch (const std::exception& e) {
    report_loss(e.what());
  }
  return out[0];
}

std::function<void()> GlooTransport::begin_gather(const Tensor& bytes, const Tensor& into) {
  std::vector<std::vector<Tensor>> out{into.chunk(place_.size)};
  std::vector<Tensor> in{bytes};
  auto work = group_->allgather(out, in);
  return [this, work = std::move(work)] {
    try {
      work->wait();
    } catch (const std::exception& e) {
      report_loss(e.what());
    }
  };
}

Tensor GlooTransport::exchange(const Tensor& bytes) {
  Tensor in = bytes, out = at::empty_like(bytes);
  std::vector<int64_t> equal_in, equal_out;
  try {
    group_->alltoall_base(out, in, equal_out, equal_in)->wait();
  } catch (const std::exception& e) {
    report_loss(e.what());
  }
  return out;
}

// Its connections end, so that the others notice; the rank that keeps the meeting point stays until
// they have read there.
void GlooTransport::leave_word(const std::string& text) {
  try {
    store_->set(key("word", place_.rank), bytes_of(text));
  } catch (const std::exception&) {  // the store may be gone with the rank that kept it
  }
  group_.reset();
  if (place_.rank == 0 && !place_.agent_hosts) std::this_thread::sleep_for(2 * kWordTime);
}

// Every rank that still lives says so and looks who did not: a connection's own words name no rank.
void GlooTransport::report_loss(const std::string& problem) {
  VGGFLOW_CHECK(loss_.empty(), "{}", loss_);  // told before
  std::vector<std::string> lost;
  try {
    store_->set(key("alive", place_.rank), bytes_of("yes"));
    std::this_thread::sleep_for(kWordTime);
    for (int rank = 0; rank < place_.size; ++rank) {
      if (has(key("word", rank))) {
        lost.push_back(fmt::format("rank {} on {} ended: {}", rank,
                                   hosts_[static_cast<size_t>(rank)], value(key("word", rank))));
      } else if (!has(key("alive", rank))) {
        lost.push_back(
            fmt::format("rank {} on {} is gone", rank, hosts_[static_cast<size_t>(rank)]));
      }
    }
  } catch (const std::exception&) {
    lost = {fmt::format("rank 0 on {} is gone, and the meeting point with it", hosts_[0])};
  }
  if (lost.empty()) lost.push_back("some rank did not answer in time");
  loss_ = fmt::format("[ranks] rank {} of {} on {} ends, since {} ({})", place_.rank, place_.size,
                      hosts_[static_cast<size_t>(place_.rank)], fmt::join(lost, "; "),
                      problem.substr(0, problem.find('\n')));
  fail("{}", loss_);
}

}  // namespace

std::unique_ptr<Transport> open_gloo(const Place& place, milliseconds timeout) {
  return std::make_unique<GlooTransport>(place, timeout);
}

}  // namespace vggflow
