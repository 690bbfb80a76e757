#include "ha/record.h"

namespace ironcore::ha {
namespace {

enum class Kind : uint8_t { kPut = 1, kGone, kPortMac, kServiceSlot, kDumpBegin, kDumpEnd };

enum Flag : uint8_t {
  kIpv6 = 1,
  kFromUplink = 2,
  kNat = 4,
  kNatIpv6 = 8,
  kTargetPort = 16,
  kTargetHost = 32,
  kAllFlags = 63,
};

size_t address_length(bool is_v6) { return is_v6 ? 16 : 4; }

void write_address(Writer& out, const IpAddress& address) {
  out.bytes(Bytes(address.bytes).first(address_length(address.is_v6)));
}

IpAddress read_address(Reader& in, bool is_v6) {
  return {is_v6, in.bytes<std::array<uint8_t, 16>>(address_length(is_v6))};
}

// Ports as they lie in the key: network order, or ICMP type and code and the identifier.
void write(Writer& out, const Identity& id) {
  out.number(id.key.proto);
  out.big16(net::swap16(id.key.src_port));
  out.big16(net::swap16(id.key.dst_port));
  if (id.from_vm()) {
    out.number(id.vni);
    out.number(id.port);
  } else {
    out.number(id.key.scope);
  }
  write_address(out, source_of(id.key));
  write_address(out, destination_of(id.key));
}

Identity read_identity(Reader& in, uint8_t flags) {
  Identity id;
  id.key.family = flags & kIpv6 ? 6 : 4;
  id.key.side = flags & kFromUplink ? Side::kUplink : Side::kVm;
  id.key.proto = in.number<uint8_t>();
  id.key.src_port = net::swap16(in.big16());
  id.key.dst_port = net::swap16(in.big16());
  if (id.from_vm()) {
    id.vni = in.number<uint32_t>();
    id.port = in.number<uint16_t>();
  } else {
    id.key.scope = in.number<uint64_t>();
  }
  set_source(id.key, read_address(in, id.key.is_v6()));
  set_destination(id.key, read_address(in, id.key.is_v6()));
  return id;
}

uint8_t flags_of(const Identity& id) {
  return static_cast<uint8_t>((id.key.is_v6() ? kIpv6 : 0) | (id.from_vm() ? 0 : kFromUplink));
}

void begin(Writer& out, Kind kind) { out.number(static_cast<uint8_t>(kind)); }

void write_one(Writer& out, const Put& put) {
  const auto& [id, state] = put.connection;
  const auto* port = std::get_if<uint16_t>(&state.target);
  const auto* host = std::get_if<Ipv6Address>(&state.target);
  begin(out, Kind::kPut);
  out.number(static_cast<uint8_t>(flags_of(id) | (state.nat ? kNat : 0) |
                                  (state.nat && state.nat->address.is_v6 ? kNatIpv6 : 0) | (port ? kTargetPort : 0) |
                                  (host ? kTargetHost : 0)));
  write(out, id);
  out.number(state.tcp.pack());
  if (state.nat) {
    write_address(out, state.nat->address);
    out.number(state.nat->port);
  }
  if (port) out.number(*port);
  if (host) out.bytes(*host);
}

void write_one(Writer& out, const Gone& gone) {
  begin(out, Kind::kGone);
  out.number(flags_of(gone.id));
  write(out, gone.id);
}

void write_one(Writer& out, const PortMac& mac) {
  begin(out, Kind::kPortMac);
  write(out, mac);
}

void write_one(Writer& out, const ServiceSlot& slot) {
  begin(out, Kind::kServiceSlot);
  write(out, slot);
}

void write_one(Writer& out, const DumpBegin&) { begin(out, Kind::kDumpBegin); }
void write_one(Writer& out, const DumpEnd&) { begin(out, Kind::kDumpEnd); }

Put read_put(Reader& in, uint8_t flags) {
  Put put;
  put.connection.id = read_identity(in, flags);
  ConnectionState& state = put.connection.state;
  state.tcp = TcpTrack::unpack(in.number<uint8_t>());
  if (flags & kNat) {
    state.nat.emplace();
    state.nat->address = read_address(in, flags & kNatIpv6);
    state.nat->port = in.number<uint16_t>();
  }
  if (flags & kTargetPort) state.target = in.number<uint16_t>();
  if (flags & kTargetHost) state.target = in.bytes<Ipv6Address>(16);
  return put;
}

bool valid(const ConnectionState& state) { return state.tcp.state <= TcpState::kPickUp; }

}  // namespace

void write(Writer& out, const Record& record) {
  std::visit([&](const auto& one) { write_one(out, one); }, record);
}

std::optional<Record> read_record(Reader& in) {
  Record record;
  switch (static_cast<Kind>(in.number<uint8_t>())) {
    case Kind::kPut: {
      const auto flags = in.number<uint8_t>();
      const Put put = read_put(in, flags);
      if (flags & ~kAllFlags || !valid(put.connection.state)) return std::nullopt;
      record = put;
      break;
    }
    case Kind::kGone: {
      const auto flags = in.number<uint8_t>();
      record = Gone{read_identity(in, flags), {}};
      break;
    }
    case Kind::kPortMac:
      record = read_port_mac(in);
      break;
    case Kind::kServiceSlot:
      record = read_service_slot(in);
      break;
    case Kind::kDumpBegin:
      record = DumpBegin{};
      break;
    case Kind::kDumpEnd:
      record = DumpEnd{};
      break;
    default:
      return std::nullopt;
  }
  if (!in.ok()) return std::nullopt;
  return record;
}

}  // namespace ironcore::ha
