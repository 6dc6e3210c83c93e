// The one file that knows c10d and Gloo.
#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ATen/ATen.h>
#include <c10/util/Logging.h>
#include <fmt/format.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "vggflow/core/error.h"
#include "vggflow/core/interrupt.h"
#include "vggflow/core/listing.h"
#include "vggflow/core/log.h"
#include "vggflow/dist/host_name.h"
#include "vggflow/dist/transport.h"

namespace vggflow {
namespace {

using std::chrono::milliseconds;

// In which ranks that live say so once one is lost.
constexpr milliseconds kWordTime{2000};

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

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// Between two looks at whether the user wants to stop while ranks wait for one another.
constexpr milliseconds kBetweenLooks{200};

void stop_if_asked() {
  if (interrupted()) throw Interrupted();
}

using Store = c10::intrusive_ptr<c10d::Store>;

// c10d waits for the store beyond its own time limit where something else listens there, and hears
// no signal: it waits on a thread of its own, which is left behind then.
Store open_store(const std::string& address, const c10d::TCPStoreOptions& options) {
  auto opened = std::make_shared<std::promise<Store>>();
  std::future<Store> store = opened->get_future();
  std::thread([opened, address, options] {
    try {
      opened->set_value(c10::make_intrusive<c10d::TCPStore>(address, options));
    } catch (...) {
      opened->set_exception(std::current_exception());
    }
  }).detach();
  const Stopwatch watch;
  const double limit = 1e-3 * static_cast<double>(options.timeout.count()) + 1;
  while (store.wait_for(kBetweenLooks) != std::future_status::ready) {
    stop_if_asked();
    VGGFLOW_CHECK(watch.seconds() < limit, "nothing that answers as a rank within {:.0f} s", limit);
  }
  return store.get();
}

class GlooTransport : public Transport {
 public:
  GlooTransport(const Place& place, milliseconds timeout, const GpuRank& gpu);
  bool takes(at::Device device) const override { return device.is_cpu() || by_nccl(device); }
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
  std::vector<std::string> gather_words(const std::string& text);
  void open_nccl(const GpuRank& gpu);
  std::string problem_of_nccl(const GpuRank& gpu, const std::vector<std::string>& identities);
  bool by_nccl(at::Device device) const { return nccl_ && nccl_->takes(device); }
  // Calls f, which waits for other ranks; what it throws is the loss of one.
  template <class F>
  auto or_loss(F f) {
    VGGFLOW_CHECK(loss_.empty(), "{}", loss_);  // told before; the connections are closed
    try {
      return f();
    } catch (const std::exception& e) {
      report_loss(e.what());
    }
  }
  [[noreturn]] void report_loss(const std::string& problem);
  bool keeps_store() const { return place_.rank == 0 && !place_.agent_hosts; }
  bool said(const char* what, int rank) const { return has(key(what, rank)); }
  void wait_while(const std::function<bool(int rank)>& waits, milliseconds limit) const;

  Place place_;
  milliseconds timeout_;
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  std::unique_ptr<NcclRanks> nccl_;
  std::vector<std::string> hosts_;
  std::string loss_;  // of another rank, once it is known
};

GlooTransport::GlooTransport(const Place& place, milliseconds timeout, const GpuRank& gpu)
    : place_(place), timeout_(timeout) {
  // c10d's own warnings and errors are stack traces of what our errors say.
  FLAGS_caffe2_log_level = c10::GLOG_FATAL;
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(place.port);
  options.isServer = keeps_store();
  options.numWorkers = static_cast<size_t>(place.size);
  options.waitWorkers = false;
  options.timeout = timeout;
  try {
    // The keys of an attempt are its own: torchrun keeps the store when it starts the ranks again.
    store_ = c10::make_intrusive<c10d::PrefixStore>("vggflow/" + place.attempt,
                                                    open_store(place.address, options));
    store_->set(key("here", place.rank), bytes_of(host_name()));
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception& e) {
    fail(
        "[ranks] rank {} of {} ({}) cannot {} the meeting point {}:{}: {}. Check MASTER_ADDR and "
        "MASTER_PORT, and that rank 0 has started",
        place.rank, place.size, place.launcher, options.isServer ? "open" : "reach", place.address,
        place.port, first_line(e.what()));
  }
  meet_all();
  find_hosts();
  or_loss([&] {
    auto settings = c10d::ProcessGroupGloo::Options::create(timeout);
    settings->devices.push_back(device_for(place));
    settings->threads = 1;
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store_, place.rank, place.size, settings);
  });
  if (gpu.backend != Backend::kGloo) open_nccl(gpu);
}

bool GlooTransport::has(const std::string& name) const { return store_->check({name}); }

std::string GlooTransport::value(const std::string& name) const {
  const std::vector<uint8_t> bytes = store_->get(name);
  return {bytes.begin(), bytes.end()};
}

// Waits until every rank has said that it is here.
void GlooTransport::meet_all() {
  const auto here = [&](int rank) {
    try {
      return has(key("here", rank));
    } catch (const std::exception&) {  // the store is gone with the rank that kept it
      return false;
    }
  };
  wait_while(
      [&](int rank) {
        if (here(rank)) return false;
        stop_if_asked();
        return true;
      },
      timeout_);
  std::vector<std::string> missing;
  for (int rank = 0; rank < place_.size; ++rank) {
    if (!here(rank)) missing.push_back(std::to_string(rank));
  }
  VGGFLOW_CHECK(missing.empty(),
                "[ranks] expected {} ranks at {}:{} within {} s, got none of rank {}: look at what "
                "those wrote, or allow more time (dist.timeout)",
                place_.size, place_.address, place_.port, timeout_.count() / 1000,
                examples_of(missing, ", "));
}

void GlooTransport::find_hosts() {
  for (int rank = 0; rank < place_.size; ++rank) hosts_.push_back(value(key("here", rank)));
}

// The texts of all ranks, by rank, cut to what a small message holds.
std::vector<std::string> GlooTransport::gather_words(const std::string& text) {
  constexpr int64_t kSize = 256;
  Tensor own = at::zeros({kSize}, at::kByte);
  text.copy(static_cast<char*>(own.data_ptr()), kSize - 1);
  std::vector<std::string> words;
  for (const Tensor& of_rank : gather(own))
    words.emplace_back(static_cast<const char*>(of_rank.const_data_ptr()));
  return words;
}

// Opens NCCL on all ranks or on none, and says what keeps it from them.
std::string GlooTransport::problem_of_nccl(const GpuRank& gpu,
                                           const std::vector<std::string>& identities) {
  std::map<std::string, int> owners;
  for (int rank = 0; rank < place_.size; ++rank) {
    const std::string& identity = identities[static_cast<size_t>(rank)];
    if (identity.empty()) return fmt::format("rank {} has no GPU, or no plug-in with NCCL", rank);
    const auto [other, alone] = owners.try_emplace(identity, rank);
    if (!alone) return fmt::format("ranks {} and {} share a GPU", other->second, rank);
  }
  std::string own;
  try {
    nccl_ = std::make_unique<NcclRanks>(gpu, &store_, place_.rank, place_.size, timeout_);
  } catch (const std::exception& e) {
    own = e.what();
  }
  const std::vector<std::string> problems = gather_words(own);
  for (int rank = 0; rank < place_.size; ++rank) {
    const std::string& problem = problems[static_cast<size_t>(rank)];
    if (!problem.empty()) return fmt::format("rank {} fails: {}", rank, problem);
  }
  return "";
}

void GlooTransport::open_nccl(const GpuRank& gpu) {
  const std::vector<std::string> identities = gather_words(identity_of(gpu));
  const std::string problem = problem_of_nccl(gpu, identities);
  if (!problem.empty()) nccl_.reset();
  VGGFLOW_CHECK(problem.empty() || gpu.backend != Backend::kNccl,
                "[ranks] dist.backend=nccl takes a GPU for each rank, and {}. Pass "
                "dist.backend=gloo, or mend that",
                problem);
  const bool on_gpus = std::any_of(identities.begin(), identities.end(),
                                   [](const std::string& identity) { return !identity.empty(); });
  if (!on_gpus || place_.rank > 0) return;
  log_info("{}", problem.empty() ? "gathers between GPUs go through NCCL"
                                 : "gathers between GPUs go through Gloo: " + problem);
}

std::vector<Tensor> GlooTransport::gather(const Tensor& bytes) {
  std::vector<std::vector<Tensor>> out(1);
  for (int rank = 0; rank < place_.size; ++rank) out[0].push_back(at::empty_like(bytes));
  std::vector<Tensor> in{bytes};
  or_loss([&] { group_->allgather(out, in)->wait(); });
  return out[0];
}

std::function<void()> GlooTransport::begin_gather(const Tensor& bytes, const Tensor& into) {
  std::function<void()> wait;
  if (by_nccl(into.device())) {
    wait = or_loss([&] { return nccl_->begin_gather(bytes, into); });
  } else {
    std::vector<std::vector<Tensor>> out{into.chunk(place_.size)};
    std::vector<Tensor> in{bytes};
    const auto work = or_loss([&] {
      return std::make_shared<c10::intrusive_ptr<c10d::Work>>(group_->allgather(out, in));
    });
    // Released before a loss is reported: what is under way holds the connections.
    wait = [work] { std::exchange(*work, {})->wait(); };
  }
  return [this, wait = std::move(wait)] { or_loss(wait); };
}

Tensor GlooTransport::exchange(const Tensor& bytes) {
  Tensor in = bytes, out = at::empty_like(bytes);
  if (by_nccl(bytes.device())) {
    // NCCL waits for a rank that is gone until its time is up. Here such a one is noticed at once.
    gather(at::zeros({1}, at::kByte));
    or_loss([&] { nccl_->exchange(in, out); });
    return out;
  }
  std::vector<int64_t> equal_in, equal_out;
  or_loss([&] { group_->alltoall_base(out, in, equal_out, equal_in)->wait(); });
  return out;
}

// Until no rank gives cause to wait, or the time is up.
void GlooTransport::wait_while(const std::function<bool(int rank)>& waits,
                               milliseconds limit) const {
  const Stopwatch watch;
  for (int rank = 0; rank < place_.size; ++rank) {
    while (waits(rank) && watch.seconds() < 1e-3 * static_cast<double>(limit.count()))
      std::this_thread::sleep_for(kBetweenLooks / 10);
  }
}

// Its connections end, so that the others notice; the rank that keeps the meeting point stays until
// they have read there, or have ended by themselves. What ends since another rank did is no news.
void GlooTransport::leave_word(const std::string& text) {
  try {
    if (loss_.empty()) store_->set(key("word", place_.rank), bytes_of(text));
  } catch (const std::exception&) {  // the store may be gone with the rank that kept it
  }
  if (nccl_) nccl_->give_up();
  nccl_.reset();
  group_.reset();
  if (!keeps_store()) return;
  wait_while(
      [&](int rank) { return rank != place_.rank && !said("looked", rank) && !said("word", rank); },
      2 * kWordTime);
}

// Every rank that still lives says so and looks who did not: a connection's own words name no rank.
// One that waits for a rank which lives has not noticed: every rank ends its connections first.
// The meeting point ends with the rank that keeps it: one that noticed the loss later would not
// find who is gone, and take this rank for it. So that rank stays for those that live.
void GlooTransport::report_loss(const std::string& problem) {
  if (nccl_) nccl_->give_up();
  std::vector<std::string> lost;
  try {
    store_->set(key("alive", place_.rank), bytes_of("yes"));
    group_.reset();
    wait_while([&](int rank) { return !said("alive", rank) && !said("word", rank); }, kWordTime);
    for (int rank = 0; rank < place_.size; ++rank) {
      if (said("word", rank)) {
        lost.push_back(fmt::format("rank {} on {} ended: {}", rank,
                                   hosts_[static_cast<size_t>(rank)], value(key("word", rank))));
      } else if (!said("alive", rank)) {
        lost.push_back(
            fmt::format("rank {} on {} is gone", rank, hosts_[static_cast<size_t>(rank)]));
      }
    }
    store_->set(key("looked", place_.rank), bytes_of("yes"));
    if (keeps_store()) {
      wait_while([&](int rank) { return said("alive", rank) && !said("looked", rank); }, kWordTime);
    }
  } catch (const std::exception&) {
    if (lost.empty())
      lost = {fmt::format("rank 0 on {} is gone, and the meeting point with it", hosts_[0])};
  }
  if (lost.empty()) lost.push_back("some rank did not answer in time");
  loss_ =
      fmt::format("[ranks] rank {} of {} on {} ends, since {} ({})", place_.rank, place_.size,
                  hosts_[static_cast<size_t>(place_.rank)], examples_of(lost), first_line(problem));
  fail("{}", loss_);
}

}  // namespace

std::unique_ptr<Transport> open_gloo(const Place& place, milliseconds timeout, const GpuRank& gpu) {
  return std::make_unique<GlooTransport>(place, timeout, gpu);
}

}  // namespace vggflow
