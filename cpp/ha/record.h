// What an active engine tells its peer, free of anything that only one process knows: no instance numbers, no indexes.
#pragma once

#include <cstring>
#include <optional>
#include <variant>

#include "flow/entry.h"
#include "flow/tcp_state.h"
#include "ha/messages.h"
#include "nat/ports.h"

namespace ironcore::ha {

// A connection, by its first direction. `key.scope` is 0 if a VM opened it, which is then the one on `port` in `vni`;
// else it is the low half of the underlay address, which is the same on both sides, and port and VNI are 0.
struct Identity {
  FlowKey key{};
  uint32_t vni = 0;
  uint16_t port = 0;

  bool from_vm() const { return key.side == Side::kVm; }
  bool operator==(const Identity& other) const {
    return same_flow(key, other.key) && vni == other.vni && port == other.port;
  }
};

struct NatBinding {
  IpAddress address;
  uint16_t port = 0;  // host order

  bool operator==(const NatBinding&) const = default;
};

// Where a load balancer sent a connection: to the VM on a port of this host, or on to another host.
using Target = std::variant<std::monostate, uint16_t, Ipv6Address>;

struct ConnectionState {
  std::optional<NatBinding> nat;  // of connections that a VM opened
  TcpTrack tcp;
  Target target;  // of connections that were opened from outside

  bool operator==(const ConnectionState&) const = default;
};

struct Connection {
  Identity id;
  ConnectionState state;

  bool operator==(const Connection&) const = default;
};

// Changes, as records of a stream.
struct Put {  // it began, or something about it changed
  Connection connection;
  bool only_state = false;  // its NAT mapping is as it was; not carried

  bool operator==(const Put&) const = default;
};
struct Gone {
  Identity id;
  std::optional<NatBinding> nat;  // what it held; not carried

  bool operator==(const Gone&) const = default;
};
struct DumpBegin {  // everything there is follows, among newer changes
  bool operator==(const DumpBegin&) const = default;
};
struct DumpEnd {  // what was not told again since DumpBegin is gone
  bool operator==(const DumpEnd&) const = default;
};
using Record = std::variant<Put, Gone, PortMac, ServiceSlot, DumpBegin, DumpEnd>;

inline constexpr size_t kMaxRecord = 96;  // bytes

void write(Writer& out, const Record& record);
std::optional<Record> read_record(Reader& in);  // nothing: malformed

}  // namespace ironcore::ha
