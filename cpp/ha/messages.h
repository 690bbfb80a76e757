// Frames on the sync port: raw Ethernet, one message each. Types 1 to 5 are the reference implementation's (no
// acknowledgement, no version); those from 0x80 are understood by this engine alone, and others ignore them.
#pragma once

#include <optional>
#include <variant>

#include "ha/bytes.h"
#include "nat/ports.h"

namespace ironcore::ha {

inline constexpr uint16_t kEtherType = 0x88b5;
inline constexpr MacAddress kDestinationMac = {0x02, 0x64, 0x70, 0x73, 0x00, 0x02};
inline constexpr MacAddress kSourceMac = {0x02, 0x64, 0x70, 0x73, 0x00, 0x01};
inline constexpr size_t kHeaderLength = 15;  // Ethernet and the message type
inline constexpr size_t kMaxFrame = 1514;
inline constexpr uint8_t kVersion = 1;

enum class Role : uint8_t { kStandby = 0, kActive = 1 };

enum class MessageType : uint8_t {
  kNatCreate = 1,
  kNatDelete = 2,
  kServiceSlot = 3,
  kPortMac = 4,
  kDumpRequest = 5,
  kHello = 0x80,
  kData = 0x81,
};

inline constexpr size_t kMessageTypes = 7;
constexpr size_t index_of(MessageType type) {
  const auto number = static_cast<size_t>(type);
  return number < 0x80 ? number - 1 : 5 + number - 0x80;
}
const char* name_of(size_t index);  // for operators: "nat_create"

// A NAT mapping came into use. IPv4 on the outside; `mapping` has ports in host order and ICMP identifiers for ports.
struct NatCreate {
  NatMapping mapping;
  uint16_t port = 0;         // DPDK port of the VM
  uint16_t icmp_type = 0;    // of the first packet
  uint16_t ip_checksum = 0;  // of the first packet's IPv4 header, as it lies in memory; this engine needs none

  bool operator==(const NatCreate&) const = default;
};

struct NatDelete {
  NatMapping mapping;

  bool operator==(const NatDelete&) const = default;
};

// A port of a virtual service stands for a client. L4 ports in host order.
struct ServiceSlot {
  Ipv4Address service{};
  uint16_t service_port = 0;
  uint16_t slot = 0;
  Ipv4Address client{};
  uint16_t client_port = 0;
  uint16_t vf_port = 0;  // DPDK port of the VM
  uint8_t protocol = 0;

  bool operator==(const ServiceSlot&) const = default;
};

// The MAC that a VM uses was learned.
struct PortMac {
  uint16_t port = 0;  // DPDK port
  MacAddress mac{};

  bool operator==(const PortMac&) const = default;
};

// A standby asks for everything there is.
struct DumpRequest {
  bool operator==(const DumpRequest&) const = default;
};

// Who is there. From a standby it also acknowledges: it has taken the frames below `next` of that stream of the active.
struct Hello {
  uint8_t version = kVersion;
  Role role = Role::kStandby;
  uint64_t session = 0;  // of the sender: random, one per process
  uint64_t active = 0;   // session that the stream comes from, 0: none yet
  uint32_t stream = 0;
  uint64_t next = 0;

  bool operator==(const Hello&) const = default;
};

// Records (record.h) of a stream from an active to one standby, to be taken in order of `sequence`, from 0.
struct Data {
  uint64_t standby = 0, active = 0;  // sessions
  uint32_t stream = 0;
  uint64_t sequence = 0;
  Bytes records;  // in the frame
};
inline constexpr size_t kMaxRecords = kMaxFrame - kHeaderLength - 30;  // bytes

struct Unusable {
  bool unknown_type = false;  // else malformed

  bool operator==(const Unusable&) const = default;
};

using Message = std::variant<NatCreate, NatDelete, ServiceSlot, PortMac, DumpRequest, Hello, Data, Unusable>;

// Nothing: not a sync frame. Bytes behind a message are padding.
std::optional<Message> decode(Bytes frame);

// A NAT message must be of IPv4 addresses on the outside.
Frame encode(const NatCreate& message);
Frame encode(const NatDelete& message);
Frame encode(const ServiceSlot& message);
Frame encode(const PortMac& message);
Frame encode(const DumpRequest& message);
Frame encode(const Hello& message);
Frame encode(const Data& message);  // at most kMaxRecords

// The payload of types 3 and 4, which records use too.
void write(Writer& out, const ServiceSlot& message);
void write(Writer& out, const PortMac& message);
ServiceSlot read_service_slot(Reader& in);
PortMac read_port_mac(Reader& in);

}  // namespace ironcore::ha
