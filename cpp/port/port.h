// A device of the engine: an uplink (PF) or the host side of a VM's NIC (VF).
#pragma once

#include <rte_ethdev.h>
#include <rte_spinlock.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "iface/interface.h"
#include "ironcore/engine.h"
#include "meter/meter.h"

struct rte_mempool;

namespace ironcore {

// Rates of what a VM sends. Replaced as a whole; used by the worker that polls the port.
struct PortMeters {
  Meter total, public_;
};

// A MAC with its bytes in memory order in the low 48 bits, and whether it is known.
class AtomicMac {
 public:
  static constexpr uint64_t kKnown = 1ull << 48;
  static uint64_t pack(const MacAddress& mac) {
    uint64_t word = 0;
    std::memcpy(&word, mac.data(), 6);
    return word;
  }
  static MacAddress unpack(uint64_t word) {
    MacAddress mac;
    std::memcpy(mac.data(), &word, 6);
    return mac;
  }
  uint64_t load() const { return word_.load(std::memory_order_relaxed); }
  void store(uint64_t word) { word_.store(word, std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> word_{0};
};

struct alignas(64) Port {
  // What workers read for each packet.
  std::atomic<const InterfaceView*> interface{nullptr};  // VFs
  std::atomic<PortMeters*> meters{nullptr};              // VFs, null: unlimited
  AtomicMac peer;          // uplink: router; VF: the VM, a guess (the device's own MAC) until known
  uint64_t own_mac = 0;    // as AtomicMac
  uint32_t max_frame = 0;  // bytes with Ethernet header that the device sends
  uint16_t id = 0;
  uint16_t pf_index = 0;
  bool is_uplink = false;
  bool shared_tx_queue = false;     // fewer queues than workers: take tx_lock
  std::atomic<bool> link_up{true};  // VFs always count as up
  rte_spinlock_t tx_lock = RTE_SPINLOCK_INITIALIZER;

  // Control side.
  std::string device_name;
  std::string netdev_name;
  unsigned if_index = 0;  // 0: no kernel netdev
  uint16_t rx_queues = 1, tx_queues = 1;
  bool started = false;
  bool stop_pending = false;  // the interface is gone, workers may still use the device
  uint64_t stop_request = 0;  // counts them: only the latest may stop the device

  uint16_t tx_queue(unsigned worker) const { return shared_tx_queue ? 0 : static_cast<uint16_t>(worker); }
};

// All devices, by DPDK port number.
class Ports {
 public:
  // Finds the devices that the options name and configures their queues for `workers` workers, without starting them.
  // EngineError names what is missing or fails. `close_devices`: at the end; else they may be configured again, and
  // hold no packet buffer when this object goes.
  Ports(const EngineOptions& options, unsigned workers, bool close_devices);
  ~Ports();
  Ports(const Ports&) = delete;
  Ports& operator=(const Ports&) = delete;

  Port* by_id(uint16_t id) const { return id < ports_.size() ? ports_[id].get() : nullptr; }
  Port* by_device_name(std::string_view name) const;
  Port* uplink(unsigned index) const { return index < uplinks_.size() ? uplinks_[index] : nullptr; }
  const std::vector<Port*>& uplinks() const { return uplinks_; }
  const std::vector<Port*>& vm_ports() const { return vm_ports_; }
  std::vector<Port*> all() const;  // uplinks, then VFs by number
  rte_mempool* pool() const { return pool_; }

  void start_uplinks();                 // EngineError
  bool start(Port& port);               // idempotent
  bool stop(Port& port);                // idempotent
  bool refresh_link(Port& port) const;  // uplinks: asks the driver; true: changed
  void stop_all();

 private:
  void find(const EngineOptions& options);
  void create_pool(const EngineOptions& options, unsigned workers);
  void configure(Port& port, unsigned workers);

  NicType nic_type_;
  Ipv6Address underlay_;
  const bool close_devices_;
  std::vector<std::unique_ptr<Port>> ports_;
  std::vector<Port*> uplinks_, vm_ports_;
  rte_mempool* pool_ = nullptr;
};

}  // namespace ironcore
