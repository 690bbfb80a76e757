// Packet in, packet out: an engine over in-process devices (net_ring), driven by the test's own thread. No NIC, no TAP,
// no hugepages, no privileges.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "control/impl.h"
#include "ironcore/engine.h"
#include "testing/packets.h"

namespace ironcore {

struct EngineAccess {
  static Engine::Impl& impl(Engine& engine) { return *engine.impl_; }
};

}  // namespace ironcore

namespace ironcore::testing {

// The devices exist once per process; only one engine at a time uses them.
enum PortIndex : unsigned { kPf0, kPf1, kVf0, kVf1, kVf2, kVf3, kPortCount };

inline constexpr const char* kHost = "fc00:1::1";
inline constexpr const char* kRemote = "fc00:2::d000:0:1";

EngineOptions default_options();

class Harness {
 public:
  explicit Harness(EngineOptions options = default_options());
  ~Harness();

  Engine& engine() { return *engine_; }
  auto& impl() { return EngineAccess::impl(*engine_); }

  // An interface on VF `vf` (kVf0 + n) named "vm<n>"; addresses may be empty. Returns its underlay address.
  Ipv6Address add_interface(unsigned vf, uint32_t vni, const std::string& ipv4, const std::string& ipv6 = "");
  CreateInterfaceRequest interface_request(unsigned vf, uint32_t vni, const std::string& ipv4,
                                           const std::string& ipv6 = "");

  void inject(unsigned port, const Frame& frame, uint64_t ol_flags = 0);  // as if received there
  void poll(unsigned rounds = 2);                                         // all workers, in this thread
  std::vector<Frame> sent(unsigned port);                                 // frames transmitted since the last call

  // inject + poll + the one frame sent on `out`; fails the test if there is not exactly one, or one elsewhere.
  Frame forward(unsigned in, const Frame& frame, unsigned out);
  // inject + poll; fails the test unless nothing is sent and exactly this reason is counted.
  void expect_drop(unsigned in, const Frame& frame, DropReason reason);

  uint64_t drops(DropReason reason);
  MacAddress mac(unsigned port);
  WorkerCounters worker(unsigned id = 0) { return engine_->counters().workers.at(id); }
  void advance(uint32_t seconds);  // time, and the polls that aging needs

 private:
  std::unique_ptr<Engine> engine_;
};

// Device names as CreateInterface takes them.
std::string device_name(unsigned port);

rte_mbuf* make_mbuf(const Frame& frame);
rte_ring* rx_ring(unsigned port);                  // what is put here the engine receives
rte_ring* tx_ring(unsigned port, unsigned queue);  // what the engine sends appears here
void drain_rings();
unsigned test_frames_in_use();  // buffers of injected frames that nobody has freed

}  // namespace ironcore::testing
