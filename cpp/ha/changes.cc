#include "ha/changes.h"

#include <rte_errno.h>
#include <rte_ring_elem.h>

#include "flow/connections.h"
#include "ha/service_slots.h"

namespace ironcore::ha {
namespace {

using virtsvc::ServiceSlots;

constexpr uint64_t kBucketsOfPart = 64;
constexpr uint16_t kSlotsOfPart = 256, kPartsOfService = ServiceSlots::kCount / kSlotsOfPart;
static_assert(ServiceSlots::kCount % kSlotsOfPart == 0);

rte_ring* create_ring(unsigned element) {
  static std::atomic<unsigned> serial{0};
  const std::string name = "ironcore_ha" + std::to_string(serial++);
  rte_ring* ring =
      rte_ring_create_elem(name.c_str(), element, Changes::kRing, SOCKET_ID_ANY, RING_F_SC_DEQ | RING_F_EXACT_SZ);
  if (!ring) throw EngineError("cannot create ring " + name + ": " + rte_strerror(rte_errno));
  return ring;
}

ConnectionState state_of(const FlowEntry& entry) {
  ConnectionState state;
  state.nat = nat_of(entry.key, content_of(entry));
  state.tcp = TcpTrack::unpack(entry.tcp.load(std::memory_order_relaxed));
  if (entry.key.side == Side::kUplink) {
    if (entry.program.action == Action::kDeliver) {
      state.target = entry.program.out_port;
    } else {
      state.target = Ipv6Address(entry.program.outer_dst);
    }
  }
  return state;
}

}  // namespace

struct Changes::Event {
  enum class Kind : uint8_t { kConnection, kMac, kSlot } kind;
  ConnectionChange change{};
  bool has_nat = false;
  Identity id{};
  NatBinding nat{};
  PortMac mac{};
  ServiceSlot slot{};
};

std::optional<Identity> identity_of(const FlowKey& original, const FlowContent& content) {
  const FlowOwner& owner = content.owner;
  if (original.fragment || owner.timeout == TimeoutClass::kFragment) return std::nullopt;
  // Its slot is all that has to be known.
  if (content.program.action == Action::kVirtualService) return std::nullopt;
  Identity id;
  id.key = original;
  if (id.from_vm()) {
    id.key.scope = 0;
    id.vni = owner.vni;
    id.port = owner.port;
  }
  return id;
}

std::optional<NatBinding> nat_of(const FlowKey& original, const FlowContent& content) {
  if (!content.owner.nat) return std::nullopt;
  const NatMapping mapping = nat_mapping(original, content);
  return NatBinding{mapping.nat_address, mapping.nat_port};
}

Changes::Changes(const FlowTable& flows, const Ports& ports, const virtsvc::Registry* services)
    : flows_(flows), ports_(ports), services_(services), ring_(create_ring(sizeof(Event))) {
  static_assert(sizeof(Event) % 4 == 0 && std::is_trivially_copyable_v<Event>);
}

Changes::~Changes() { rte_ring_free(ring_); }

void Changes::put(const Event& event) {
  Event copy = event;  // the ring's interface has no const
  if (rte_ring_mp_enqueue_elem(ring_, &copy, sizeof copy) != 0) dropped_.fetch_add(1, std::memory_order_relaxed);
}

void Changes::connection(ConnectionChange change, const FlowKey& original, const FlowContent& content) {
  const auto id = identity_of(original, content);
  if (!id) return;
  Event event{.kind = Event::Kind::kConnection, .change = change, .id = *id};
  if (const auto nat = nat_of(original, content)) {
    event.has_nat = true;
    event.nat = *nat;
  }
  put(event);
}

void Changes::vm_mac_learned(uint16_t port, const MacAddress& mac) {
  put({.kind = Event::Kind::kMac, .mac = {port, mac}});
}

void Changes::service_slot_taken(const virtsvc::Service& service, uint16_t slot, const virtsvc::Client& client) {
  put({.kind = Event::Kind::kSlot, .slot = told(service, slot, client)});
}

const FlowEntry* Changes::find(const Identity& id) const {
  FlowKey key = id.key;
  if (id.from_vm()) {
    const Port* port = ports_.by_id(id.port);
    const InterfaceView* view = port ? port->interface.load(std::memory_order_acquire) : nullptr;
    if (!view || view->vni != id.vni) return nullptr;
    key.scope = view->instance;
  }
  const FlowEntry* entry = flows_.find(key, flows_.hash(key));
  return entry && !entry->is_reply.load(std::memory_order_relaxed) ? entry : nullptr;
}

bool Changes::take(Record& change) {
  Event event;
  if (rte_ring_sc_dequeue_elem(ring_, &event, sizeof event) != 0) return false;
  switch (event.kind) {
    case Event::Kind::kMac:
      change = event.mac;
      return true;
    case Event::Kind::kSlot:
      change = event.slot;
      return true;
    case Event::Kind::kConnection:
      break;
  }
  const auto nat = event.has_nat ? std::optional(event.nat) : std::nullopt;
  const FlowEntry* entry = find(event.id);
  if (!entry) {
    change = Gone{event.id, nat};
    return true;
  }
  const ConnectionState state = state_of(*entry);
  // It went on with another NAT port: that change comes, too.
  if (event.change == ConnectionChange::kEnded && state.nat != nat) {
    change = Gone{event.id, nat};
    return true;
  }
  change = Put{{event.id, state}, event.change == ConnectionChange::kState};
  return true;
}

// The flow table by its buckets, then ports, then services by parts of their slots.
bool Changes::dump(uint64_t& cursor, std::vector<Record>& part) {
  const uint64_t buckets = flows_.bucket_count();
  if (cursor >= buckets) {
    dump_slots(cursor - buckets, part);
    return ++cursor < buckets + service_count() * kPartsOfService;
  }
  const uint64_t end = std::min(cursor + kBucketsOfPart, buckets);
  for (; cursor < end; ++cursor)
    flows_.visit_bucket(cursor, [&](const FlowEntry& entry) {
      if (entry.is_reply.load(std::memory_order_relaxed)) return;
      if (const auto id = identity_of(entry.key, content_of(entry))) part.emplace_back(Put{{*id, state_of(entry)}});
    });
  if (cursor < buckets) return true;
  dump_ports(part);
  return service_count() > 0;
}

void Changes::dump_ports(std::vector<Record>& part) const {
  for (const Port* port : ports_.vm_ports())
    if (const uint64_t mac = port->peer.load(); mac & AtomicMac::kKnown)
      part.emplace_back(PortMac{port->id, AtomicMac::unpack(mac)});
}

void Changes::dump_slots(uint64_t at, std::vector<Record>& part) const {
  const virtsvc::Service& service = *services_->services()[at / kPartsOfService];
  if (service.slots.used() == 0) return;
  const auto first = static_cast<uint16_t>(at % kPartsOfService * kSlotsOfPart);
  service.slots.for_each(
      first, static_cast<uint16_t>(first + kSlotsOfPart),
      [&](uint16_t slot, const virtsvc::Client& client) { part.emplace_back(told(service, slot, client)); });
}

}  // namespace ironcore::ha
