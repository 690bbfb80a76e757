// The L4 ports of one virtual service: which of them stands for which client towards the service's server.
//
// Slots are handed out in turn; a slot whose client has been idle for longer than its timeout keeps it until the turn
// comes to it again. Changes take a spin lock, as they happen once per connection; what packets need takes none.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "ironcore/types.h"

namespace ironcore::virtsvc {

// A VM's end of a connection.
struct Client {
  uint16_t vf_port = 0;  // DPDK port of the VM
  uint16_t port = 0;     // L4, host byte order
  Ipv4Address address{};

  bool operator==(const Client&) const = default;
};

// The reference's hash of a client (lookup3, seed 0xfee1900d); chooses the uplink.
uint32_t client_hash(const Client& client);

// How long a slot may be idle, in the caller's unit of time.
struct SlotTimeouts {
  uint32_t transient, established;

  static constexpr SlotTimeouts of(uint32_t units_per_second) {
    return {30 * units_per_second, 86400 * units_per_second};
  }
};

// Times may wrap: they are compared by difference, which must stay below 2^31.
class ServiceSlots {
 public:
  static constexpr uint16_t kCount = 64512;
  static constexpr uint16_t kFirstPort = 1024;

  static constexpr uint16_t port_of(uint16_t slot) { return static_cast<uint16_t>(kFirstPort + slot); }
  static constexpr std::optional<uint16_t> slot_of(uint16_t port) {
    if (port < kFirstPort) return std::nullopt;
    return static_cast<uint16_t>(port - kFirstPort);
  }

  // `secret` keeps guests from aiming at one chain of the index. 1.2 MiB, taken from the system when used.
  explicit ServiceSlots(SlotTimeouts timeouts, uint64_t secret);

  struct Assigned {
    uint16_t slot;
    bool is_new;  // the client had none
  };
  // The client's slot, or the first free one after the slot given last (slot 1 at first), wrapping. Counts as use.
  // Nullopt: all are in use, or the client's address is 0.0.0.0.
  std::optional<Assigned> assign(const Client& client, uint32_t now);

  // The slot that assign() would give.
  std::optional<uint16_t> peek(const Client& client, uint32_t now) const;

  // Gives the slot to the client whoever holds it, and the client's former slot back, as the peer of an HA pair has it.
  // How far the connection has come only the peer knows. The next assign() goes on after it. False, and nothing
  // changed: no such slot or client.
  bool take(uint16_t slot, const Client& client, uint32_t now);

  // Who holds the slot, idle or not. Lock-free.
  std::optional<Client> client_of(uint16_t slot) const;

  // A packet of either direction was seen; `established`: the TCP connection is open on both sides. Without effect if
  // the client no longer holds the slot. Lock-free.
  void touch(uint16_t slot, const Client& client, uint32_t now, bool established);

  // The same for a TCP segment, of either direction: SYN, SYN+ACK and ACK in this order open the connection, FIN or RST
  // close it. After take() an ACK alone shows that it is open. `tcp_flags`: byte 13 of the header.
  void track(uint16_t slot, const Client& client, uint32_t now, uint8_t tcp_flags);

  // For clients that are gone, not for each connection that ends: a full table is searched again after it, and a guest
  // could have that done per packet. False: the client does not hold the slot.
  bool release(uint16_t slot, const Client& client);
  size_t release_interface(uint16_t vf_port);  // returns how many; holds the lock for a part at a time

  // Slots that have a client, idle ones included.
  size_t used() const { return used_.load(std::memory_order_relaxed); }

  // Calls visit(slot, client) for every held slot, in order. Takes no lock: what changes meanwhile may be seen or not.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for_each(0, kCount, std::forward<Visit>(visit));
  }
  template <typename Visit>
  void for_each(uint16_t from, uint16_t end, Visit&& visit) const {
    for (uint16_t slot = from; slot < end; ++slot)
      if (const auto client = client_of(slot)) visit(slot, *client);
  }

 private:
  static constexpr uint32_t kHeads = 65536;
  enum Handshake : uint8_t { kNothing, kSyn, kSynAck, kOpen, kTaken };

  // All zero: free.
  struct Slot {
    std::atomic<uint64_t> client;
    std::atomic<uint32_t> last_used;
    uint16_t next;  // of the chain, 1-based
    std::atomic<bool> established;
    std::atomic<uint8_t> handshake;  // of Handshake
  };
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  class Lock;

  uint16_t& head_of(uint64_t client) const;
  std::optional<uint16_t> find(uint64_t client) const;
  // After the slot given last. None: `soonest` is how long it takes at least until there is one.
  std::optional<uint16_t> first_free(uint32_t now, uint32_t& soonest) const;
  bool known_to_be_full(uint32_t now) const;
  // Units of time until the slot may be given to another client; nullopt: now.
  std::optional<uint32_t> remaining(const Slot& slot, uint32_t now) const;
  void link(uint16_t slot, uint64_t client, uint32_t now);
  void unlink(uint16_t slot);

  const SlotTimeouts timeouts_;
  const uint64_t secret_;
  std::unique_ptr<Slot[], Free> slots_;
  std::unique_ptr<uint16_t[], Free> heads_;  // 1-based
  std::atomic<size_t> used_{0};
  uint16_t last_ = 0;

  // After a search in vain there is no free slot up to and including that time, unless one was released or a connection
  // ended since. Else each packet of a client beyond the last slot would search them all.
  bool full_ = false;
  uint32_t full_until_ = 0;
  uint32_t full_at_closed_ = 0;
  std::atomic<uint32_t> closed_{0};  // connections that went from established to transient

  mutable std::atomic_flag lock_;
};

}  // namespace ironcore::virtsvc
