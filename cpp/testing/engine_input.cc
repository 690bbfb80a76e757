#include "testing/engine_input.h"

#include <rte_mempool.h>
#include <rte_ring.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace ironcore::testing {
namespace {

constexpr size_t kMaxFrame = 1500, kMaxPending = 64;

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }
  uint8_t byte() {
    if (bytes_.empty()) return 0;
    const uint8_t value = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return value;
  }
  Frame frame() {
    const size_t low = byte(), wanted = low | size_t{byte()} << 8;
    const auto taken = bytes_.first(std::min({wanted, kMaxFrame, bytes_.size()}));
    bytes_ = bytes_.subspan(taken.size());
    return Frame(taken.begin(), taken.end());
  }

 private:
  std::span<const uint8_t> bytes_;
};

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

size_t load16(const Frame& frame, size_t at) { return static_cast<size_t>(frame[at] << 8 | frame[at + 1]); }

// An IP packet of that version whose length is not beyond the frame's.
void check_ip(const Frame& frame, size_t at, unsigned version) {
  require(frame.size() >= at + (version == 4 ? 20 : 40), "IP header is cut off");
  require(frame[at] >> 4 == version, "IP version differs from what is announced");
  const size_t length = version == 4 ? load16(frame, at + 2) : 40 + load16(frame, at + 4);
  require(at + length <= frame.size(), "IP packet is longer than its frame");
}

void check_sent(unsigned port, const Frame& frame) {
  require(frame.size() >= 14, "no Ethernet header");
  const size_t type = load16(frame, 12);
  if (port <= kPf1) {
    require(type == 0x86dd, "uplink frame without outer header");
    check_ip(frame, 14, 6);
    const Ipv6Address host = ip6(kHost);
    require(std::equal(host.begin(), host.begin() + 8, frame.begin() + 22), "outer source is not this host's");
    require(frame[20] == 4 || frame[20] == 41, "outer next header");
    check_ip(frame, 54, frame[20] == 4 ? 4 : 6);
  } else if (type != 0x0806) {
    require(type == 0x0800 || type == 0x86dd, "EtherType");
    check_ip(frame, 14, type == 0x0800 ? 4 : 6);
  }
}

void run(std::span<const uint8_t> input) {
  Reader reader(input);
  Harness net(Scenario::options(reader.byte()));
  Scenario scenario(net);
  if (reader.byte() & 1) scenario.populate();
  size_t pending = 0;
  // Nobody polls a device without interface.
  const auto inject = [&](unsigned port, const Frame& frame) {
    if (!frame.empty() && rte_ring_free_count(rx_ring(port)) > 0) net.inject(port, frame);
  };
  const auto poll = [&] {
    net.poll(2 + static_cast<unsigned>(pending));  // an announcement alone makes a dozen frames
    pending = 0;
    for (unsigned port = 0; port < kPortCount; ++port)
      for (const Frame& frame : net.sent(port)) check_sent(port, frame);
  };
  while (!reader.empty()) {
    const uint8_t tag = reader.byte(), what = tag & 7;
    const unsigned uplink = (tag & 8) ? kPf1 : kPf0;
    if (what >= 6) {
      Scenario::Choice choice;
      for (uint8_t& byte : choice) byte = reader.byte();
      scenario.change(choice);
    } else if (what == 5) {
      const Ipv6Address underlay = scenario.underlay(reader.byte());
      const Frame inner = reader.frame();
      if (!inner.empty()) inject(uplink, overlay(kRemote, underlay, ethernet({}, {}, 0, inner)));
    } else {
      inject(what == 4 ? uplink : kVf0 + what, reader.frame());
    }
    if (++pending >= kMaxPending || !(tag & 0x80)) poll();
  }
  poll();
  require(rte_mempool_in_use_count(net.impl().ports().pool()) == 0, "a packet buffer of the engine got lost");
}

}  // namespace

void run_engine_input(std::span<const uint8_t> input) {
  run(input);
  require(test_frames_in_use() == 0, "a packet buffer got lost");
}

std::vector<uint8_t> engine_input(uint8_t options, const std::vector<Step>& steps) {
  std::vector<uint8_t> bytes = {options, 1};
  for (const Step& step : steps) {
    if (const auto* choice = std::get_if<Scenario::Choice>(&step)) {
      bytes.push_back(6);
      bytes.insert(bytes.end(), choice->begin(), choice->end());
      continue;
    }
    const auto& [port, frame] = std::get<Received>(step);
    bytes.push_back(static_cast<uint8_t>(port == kPf0 ? 4 : port == kPf1 ? 12 : port - kVf0));
    bytes.push_back(static_cast<uint8_t>(frame.size()));
    bytes.push_back(static_cast<uint8_t>(frame.size() >> 8));
    bytes.insert(bytes.end(), frame.begin(), frame.end());
  }
  return bytes;
}

}  // namespace ironcore::testing
