#include "nat/ports.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "nat/buckets.h"
#include "nat/port_set.h"
#include "nat/reference_hash.h"

namespace ironcore {
namespace {

using nat::Buckets;
using nat::Locked;
using nat::Pool;

// Keys are plain bytes without gaps.

struct SourceKey {
  std::array<uint8_t, 16> address, nat_address;
  uint32_t vni;
  uint16_t port;
  bool address_is_v6, nat_address_is_v6;

  bool operator==(const SourceKey& other) const { return std::memcmp(this, &other, sizeof other) == 0; }
};
static_assert(sizeof(SourceKey) == 40);

struct DestinationKey {
  std::array<uint8_t, 16> address, nat_address;
  uint16_t port;
  uint8_t protocol;
  uint8_t families;  // is_v6 of the address, and twice that of the NAT address

  bool operator==(const DestinationKey& other) const { return std::memcmp(this, &other, sizeof other) == 0; }
};
static_assert(sizeof(DestinationKey) == 36);

// The nodes of a flow's source and destination.
struct Ends {
  uint32_t source, destination;

  bool operator==(const Ends&) const = default;
};

struct VmKey {
  std::array<uint8_t, 16> address;
  uint32_t vni;
  uint32_t is_v6;

  bool operator==(const VmKey& other) const { return std::memcmp(this, &other, sizeof other) == 0; }
};

// Sources are per NAT address: an IPv6 address of a VM may have NAT and NAT64.
struct alignas(64) SourceNode {
  SourceKey key;
  uint32_t next;
  uint32_t flows;
  uint32_t vm;
  uint16_t port;
  uint16_t vm_tag;
};
struct alignas(64) DestinationNode {
  DestinationKey key;
  uint32_t next;
  nat::PortSet used;  // one port per flow
};
static_assert(sizeof(SourceNode) == 64 && sizeof(DestinationNode) == 64);

struct FlowNode {
  Ends key;
  uint32_t next;
  uint16_t port;
  uint16_t vm_tag;  // of the VM's hash: tells most flows of other VMs apart without a look at their sources
};
static_assert(sizeof(FlowNode) == 16);

struct VmNode {
  VmKey key;
  uint32_t next;
  uint32_t sources;
  std::atomic<uint32_t> more_flows;  // than one per source
};

// Keyed by secrets drawn at start: a guest that picks ports and destinations cannot aim at one bucket.
class Hash {
 public:
  Hash() {
    if (getrandom(secret_, sizeof secret_, 0) != sizeof secret_) throw std::runtime_error("getrandom failed");
    for (auto& word : secret_) word |= 1;
  }

  template <typename Key>
  uint64_t operator()(const Key& key) const {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&key);
    uint64_t hash = secret_[0];
    for (size_t i = 0; i < sizeof key; i += 8) {
      uint64_t word = 0;
      std::memcpy(&word, bytes + i, std::min(sizeof key - i, sizeof word));
      const auto product = static_cast<unsigned __int128>(hash ^ word) * secret_[1 + i / 8 % 3];
      hash = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
    }
    return hash;
  }

 private:
  uint64_t secret_[4];
};

template <typename Node>
struct Table {
  explicit Table(uint32_t capacity) : nodes(capacity), buckets(capacity) {}

  Locked<Node> lock(uint64_t hash) { return {buckets[hash], nodes}; }
  void prefetch_first(uint64_t hash) const {
    __builtin_prefetch(&nodes[Locked<Node>::index_in(buckets[hash].load(std::memory_order_relaxed))]);
  }

  void populate_ahead() {
    nodes.populate_ahead();
    buckets.populate();
  }

  Pool<Node> nodes;
  Buckets buckets;
};

SourceKey key_of(const NatSource& source, const IpAddress& nat_address) {
  return {source.address.bytes, nat_address.bytes, source.vni, source.port, source.address.is_v6, nat_address.is_v6};
}

DestinationKey key_of(const NatDestination& destination, const IpAddress& nat_address) {
  const int families = (destination.address.is_v6 ? 1 : 0) + (nat_address.is_v6 ? 2 : 0);
  return {destination.address.bytes, nat_address.bytes, destination.port, destination.protocol,
          static_cast<uint8_t>(families)};
}

}  // namespace

// Locks are taken in this order of tables: sources, destinations, then flows or VMs. Nodes in use of each kind are
// never more than `flows` counts, because they are given back before it goes down.
struct NatPorts::Tables {
  explicit Tables(uint32_t mappings)
      : capacity(checked(mappings)),
        sources(mappings),
        destinations(mappings),
        flows(mappings),
        vms(mappings),
        port_sets(mappings) {}

  static uint32_t checked(uint32_t mappings) {
    if (mappings == 0 || mappings > nat::kMaxNodes) throw std::invalid_argument("1 to 2^30 NAT mappings");
    return mappings;
  }

  // A flow's source and destination, locked; 0: there is none.
  struct Place {
    Place(Tables& t, const NatSource& from, const NatDestination& to, const IpAddress& nat_address)
        : Place(t, key_of(from, nat_address), key_of(to, nat_address)) {}

    const SourceKey source_key;
    const DestinationKey destination_key;
    Locked<SourceNode> sources;
    Locked<DestinationNode> destinations;
    uint32_t source, destination;

   private:
    Place(Tables& t, const SourceKey& from, const DestinationKey& to)
        : Place(t, from, to, t.prefetched(t.sources, from), t.prefetched(t.destinations, to)) {}
    Place(Tables& t, const SourceKey& from, const DestinationKey& to, uint64_t from_hash, uint64_t to_hash)
        : source_key(from),
          destination_key(to),
          sources(t.sources.lock(from_hash)),
          destinations(t.destinations.lock(to_hash)),
          source(sources.find(from)),
          destination(destinations.find(to)) {}
  };

  template <typename Node, typename Key>
  uint64_t prefetched(const Table<Node>& table, const Key& key) const {
    const uint64_t value = hash(key);
    table.buckets.prefetch(value);
    return value;
  }

  // The port of the flow, if it exists.
  std::optional<uint16_t> port_of(const Place& place) {
    if (!place.source || !place.destination) return std::nullopt;
    const Ends ends{place.source, place.destination};
    const auto bucket = flows.lock(hash(ends));
    const uint32_t flow = bucket.find(ends);
    if (!flow) return std::nullopt;
    return flows.nodes[flow].port;
  }

  std::optional<uint16_t> choose(const Place& place, const NatSource& source, const NatRange& range) const {
    const nat::PortSet none{};
    const nat::PortSet& used = place.destination ? destinations.nodes[place.destination].used : none;
    if (place.source) {
      const uint16_t port = sources.nodes[place.source].port;
      if (port >= range.min && port < range.max && !port_sets.contains(used, port)) return port;
    }
    return port_sets.first_free(used, range.min, range.max, first_port(source, range));
  }

  static uint16_t tag_of(uint64_t hash) { return static_cast<uint16_t>(hash >> 48); }

  // Takes a reference to the VM's node.
  uint32_t refer_to_vm(const VmKey& key, uint64_t key_hash) {
    auto bucket = vms.lock(key_hash);
    uint32_t index = bucket.find(key);
    if (!index) {
      index = vms.nodes.take();
      vms.nodes[index].key = key;
      vms.nodes[index].sources = 0;
      vms.nodes[index].more_flows.store(0, std::memory_order_relaxed);
      bucket.push(index);
    }
    ++vms.nodes[index].sources;
    return index;
  }

  void release_vm(uint32_t index) {
    auto bucket = vms.lock(hash(vms.nodes[index].key));
    if (--vms.nodes[index].sources) return;
    bucket.unlink(index);
    vms.nodes.give(index);
  }

  // A flow that does not exist yet, on a port that is free. False: the table is full.
  bool add(Place& place, uint16_t port) {
    if (count.fetch_add(1, std::memory_order_acq_rel) >= capacity) {
      count.fetch_sub(1, std::memory_order_relaxed);
      return false;
    }
    if (!place.source) {
      place.source = sources.nodes.take();
      SourceNode& node = sources.nodes[place.source];
      node.key = place.source_key;
      node.flows = 0;
      node.port = port;
      const VmKey vm{node.key.address, node.key.vni, node.key.address_is_v6};
      const uint64_t vm_hash = hash(vm);
      node.vm = refer_to_vm(vm, vm_hash);
      node.vm_tag = tag_of(vm_hash);
      place.sources.push(place.source);
    } else {
      vms.nodes[sources.nodes[place.source].vm].more_flows.fetch_add(1, std::memory_order_relaxed);
    }
    if (!place.destination) {
      place.destination = destinations.nodes.take();
      DestinationNode& node = destinations.nodes[place.destination];
      node.key = place.destination_key;
      node.used = {};
      place.destinations.push(place.destination);
    }
    ++sources.nodes[place.source].flows;
    port_sets.insert(destinations.nodes[place.destination].used, port);

    const uint32_t flow = flows.nodes.take();
    const Ends ends{place.source, place.destination};
    flows.nodes[flow].key = ends;
    flows.nodes[flow].port = port;
    flows.nodes[flow].vm_tag = sources.nodes[place.source].vm_tag;
    flows.lock(hash(ends)).push(flow);
    return true;
  }

  bool remove(Place& place, uint16_t port) {
    if (!place.source || !place.destination) return false;
    {
      const Ends ends{place.source, place.destination};
      auto bucket = flows.lock(hash(ends));
      const uint32_t flow = bucket.find(ends);
      if (!flow || flows.nodes[flow].port != port) return false;
      bucket.unlink(flow);
      flows.nodes.give(flow);
    }
    DestinationNode& destination = destinations.nodes[place.destination];
    port_sets.erase(destination.used, port);
    if (!destination.used.count) {
      place.destinations.unlink(place.destination);
      destinations.nodes.give(place.destination);
    }
    SourceNode& source = sources.nodes[place.source];
    if (--source.flows) {
      vms.nodes[source.vm].more_flows.fetch_sub(1, std::memory_order_relaxed);
    } else {
      release_vm(source.vm);
      place.sources.unlink(place.source);
      sources.nodes.give(place.source);
    }
    count.fetch_sub(1, std::memory_order_acq_rel);
    return true;
  }

  // Calls `visit` with the flows of one bucket after another, each time under its lock only. A flow in its bucket keeps
  // its source and destination alive. `between` runs after each bucket that was not empty; false ends it.
  template <typename Visit, typename Between>
  void for_each_flow(Visit visit, Between between) {
    constexpr size_t kAhead = 16;
    for (size_t i = 0; i < flows.buckets.size(); ++i) {
      flows.prefetch_first(i + kAhead);
      if (!flows.buckets[i].load(std::memory_order_relaxed)) continue;
      flows.lock(i).for_each(visit);
      if (!between()) return;
    }
  }

  NatMapping mapping(const FlowNode& flow) const {
    const SourceKey& from = sources.nodes[flow.key.source].key;
    const DestinationKey& to = destinations.nodes[flow.key.destination].key;
    return {{from.vni, {from.address_is_v6, from.address}, from.port},
            {{(to.families & 1) != 0, to.address}, to.port, to.protocol},
            {from.nat_address_is_v6, from.nat_address},
            flow.port};
  }

  const uint64_t capacity;
  const Hash hash;
  Table<SourceNode> sources;
  Table<DestinationNode> destinations;
  Table<FlowNode> flows;
  Table<VmNode> vms;
  nat::PortSets port_sets;
  alignas(64) std::atomic<uint64_t> count{0};
};

NatPorts::NatPorts(uint32_t capacity) : tables_(std::make_unique<Tables>(capacity)) {}

NatPorts::~NatPorts() = default;

NatPort NatPorts::allocate(const NatSource& source, const NatDestination& destination, const NatRange& range) {
  return decide(source, destination, range, true);
}

NatPort NatPorts::peek(const NatSource& source, const NatDestination& destination, const NatRange& range) const {
  return decide(source, destination, range, false);
}

NatPort NatPorts::decide(const NatSource& source, const NatDestination& destination, const NatRange& range,
                         bool commit) const {
  if (range.min >= range.max) return {NatOutcome::kFull};
  Tables::Place place(*tables_, source, destination, range.address);
  if (const auto port = tables_->port_of(place)) return {NatOutcome::kExisting, *port};
  const auto port = tables_->choose(place, source, range);
  if (!port) return {NatOutcome::kFull};
  const bool room = commit ? tables_->add(place, *port) : size() < capacity();
  return room ? NatPort{NatOutcome::kCreated, *port} : NatPort{NatOutcome::kTableFull};
}

bool NatPorts::release(const NatMapping& mapping) {
  Tables::Place place(*tables_, mapping.source, mapping.destination, mapping.nat_address);
  return tables_->remove(place, mapping.nat_port);
}

NatOutcome NatPorts::insert_verbatim(const NatMapping& mapping) {
  Tables::Place place(*tables_, mapping.source, mapping.destination, mapping.nat_address);
  if (const auto port = tables_->port_of(place))
    return *port == mapping.nat_port ? NatOutcome::kExisting : NatOutcome::kTaken;
  if (place.destination &&
      tables_->port_sets.contains(tables_->destinations.nodes[place.destination].used, mapping.nat_port))
    return NatOutcome::kTaken;
  return tables_->add(place, mapping.nat_port) ? NatOutcome::kCreated : NatOutcome::kTableFull;
}

size_t NatPorts::drop_source(uint32_t vni, const IpAddress& address, const std::optional<IpAddress>& nat_address) {
  const uint16_t tag = Tables::tag_of(tables_->hash(VmKey{address.bytes, vni, address.is_v6}));
  uint64_t left = flows_of(vni, address);
  size_t dropped = 0;
  std::vector<NatMapping> found;
  if (left == 0) return 0;
  tables_->for_each_flow(
      [&](const FlowNode& flow) {
        if (flow.vm_tag != tag) return;
        const SourceKey& key = tables_->sources.nodes[flow.key.source].key;
        if (key.vni != vni || key.address_is_v6 != address.is_v6 || key.address != address.bytes) return;
        if (nat_address && *nat_address != IpAddress{key.nat_address_is_v6, key.nat_address}) return;
        found.push_back(tables_->mapping(flow));
      },
      [&] {
        for (const NatMapping& mapping : found) dropped += release(mapping) ? 1 : 0;
        left -= std::min<uint64_t>(left, found.size());
        found.clear();
        return left > 0;
      });
  return dropped;
}

void NatPorts::for_each(const std::function<void(const NatMapping&)>& visit) const {
  std::vector<NatMapping> found;
  tables_->for_each_flow([&](const FlowNode& flow) { found.push_back(tables_->mapping(flow)); },
                         [&] {
                           for (const NatMapping& mapping : found) visit(mapping);
                           found.clear();
                           return true;
                         });
}

uint64_t NatPorts::flows_of(uint32_t vni, const IpAddress& address) const {
  const VmKey key{address.bytes, vni, address.is_v6};
  const auto bucket = tables_->vms.lock(tables_->hash(key));
  const uint32_t index = bucket.find(key);
  if (!index) return 0;
  const VmNode& vm = tables_->vms.nodes[index];
  return uint64_t{vm.sources} + vm.more_flows.load(std::memory_order_relaxed);
}

// Calls that find the table full count for a moment.
void NatPorts::populate_ahead() {
  tables_->sources.populate_ahead();
  tables_->destinations.populate_ahead();
  tables_->flows.populate_ahead();
  tables_->vms.populate_ahead();
}

uint64_t NatPorts::size() const { return std::min(tables_->count.load(std::memory_order_relaxed), tables_->capacity); }
uint64_t NatPorts::capacity() const { return tables_->capacity; }

uint32_t NatPorts::reference_hash(const NatSource& source) {
  struct __attribute__((packed)) {
    uint32_t vni;
    std::array<uint8_t, 16> address;  // IPv4: in host byte order, then zero
    uint8_t is_v6;
    uint16_t port;
  } key{source.vni, source.address.bytes, source.address.is_v6, source.port};
  if (!source.address.is_v6) std::reverse(key.address.begin(), key.address.begin() + 4);
  return nat::lookup3(std::bit_cast<std::array<uint8_t, sizeof key>>(key), nat::kReferenceSeed);
}

}  // namespace ironcore
