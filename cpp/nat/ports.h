// The table of NAT mappings: which port of a NAT address stands for which source of a VM, towards which destination.
//
// A source keeps one port towards all destinations (endpoint-independent mapping); one port serves many sources as long
// as their destinations differ. Thread-safe: every call locks one hash bucket per table it touches, by a bit in the
// bucket's head, and allocates from pools. Memory is taken from the system when touched, and never given back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "ironcore/types.h"

namespace ironcore {

// Ports are in host byte order throughout. ICMP echo has its identifier for a port, as source and as destination.

struct NatSource {
  uint32_t vni = 0;
  IpAddress address;  // of the VM; IPv6 for NAT64
  uint16_t port = 0;

  auto operator<=>(const NatSource&) const = default;
};

struct NatDestination {
  IpAddress address;  // as it is after translation: the IPv4 one for NAT64
  uint16_t port = 0;
  uint8_t protocol = 0;  // as the VM sent it: ICMPv6 for NAT64

  auto operator<=>(const NatDestination&) const = default;
};

// Usable are min..max-1, at least one.
struct NatRange {
  IpAddress address;
  uint16_t min = 0, max = 0;
};

struct NatMapping {
  NatSource source;
  NatDestination destination;
  IpAddress nat_address;
  uint16_t nat_port = 0;

  auto operator<=>(const NatMapping&) const = default;
};

enum class NatOutcome : uint8_t {
  kCreated,
  kExisting,   // the flow has this port already; nothing was counted twice
  kFull,       // no port of the range is free towards this destination
  kTaken,      // insert_verbatim: port or flow belong to another mapping
  kTableFull,  // `capacity` mappings exist
};

struct NatPort {
  NatOutcome outcome;
  uint16_t port = 0;  // valid for kCreated and kExisting

  bool ok() const { return outcome == NatOutcome::kCreated || outcome == NatOutcome::kExisting; }
  bool operator==(const NatPort&) const = default;
};

class NatPorts {
 public:
  // At most 2^30 mappings. Reserves address space for all of them: up to 410 bytes each, of which flows of distinct
  // sources and destinations touch 180.
  explicit NatPorts(uint32_t capacity);
  ~NatPorts();
  NatPorts(const NatPorts&) = delete;
  NatPorts& operator=(const NatPorts&) = delete;

  // The source's port, if its flows have one in this range and it is free for this destination; else the first free one
  // from first_port() upwards, with wrap-around. The second case leaves the port of the source's other flows as it is.
  NatPort allocate(const NatSource& source, const NatDestination& destination, const NatRange& range);

  // What allocate() would return now.
  NatPort peek(const NatSource& source, const NatDestination& destination, const NatRange& range) const;

  // Ends a mapping. False: there is none that equals it.
  bool release(const NatMapping& mapping);

  // Adds a mapping as another process decided it. kCreated, kExisting (this very one), kTaken or kTableFull.
  NatOutcome insert_verbatim(const NatMapping& mapping);

  // Ends all mappings of that VM address, or only those to `nat_address`; returns how many. Looks at the whole table,
  // in short steps. Mappings made meanwhile may survive.
  size_t drop_source(uint32_t vni, const IpAddress& address, const std::optional<IpAddress>& nat_address = {});

  // Visits, without a lock, every mapping that exists throughout, once; those that come or go meanwhile maybe.
  void for_each(const std::function<void(const NatMapping&)>& visit) const;

  // Takes memory for the next mappings, so that allocate() need not wait for it. To be called when there is a NAT, and
  // then again and again, by one thread.
  void populate_ahead();

  uint64_t flows_of(uint32_t vni, const IpAddress& address) const;  // mappings of that VM address
  uint64_t size() const;
  uint64_t capacity() const;

  // Hash of the reference implementation over its port-map key (lookup3, seed 0xfee1900d).
  static uint32_t reference_hash(const NatSource& source);
  // Where the search for a port begins.
  static uint16_t first_port(const NatSource& source, const NatRange& range) {
    return static_cast<uint16_t>(range.min + reference_hash(source) % static_cast<uint32_t>(range.max - range.min));
  }

 private:
  struct Tables;
  NatPort decide(const NatSource& source, const NatDestination& destination, const NatRange& range, bool commit) const;

  const std::unique_ptr<Tables> tables_;
};

}  // namespace ironcore
