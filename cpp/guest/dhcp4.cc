// DHCPv4 server (RFC 2131) for the one address of an interface. There is no lease state: the lease is infinite and
// every client message is answered from the configuration, so it also confirms an address that a client kept from
// before a migration, by telling it the right one.
#include "services.h"

namespace ironcore::guest {
namespace {

enum Option : uint8_t {
  kPad = 0,
  kSubnetMask = 1,
  kRouters = 3,
  kDnsServers = 6,
  kHostname = 12,
  kInterfaceMtu = 26,
  kLeaseTime = 51,
  kOverload = 52,
  kMessageType = 53,
  kServerId = 54,
  kMaxMessageSize = 57,
  kVendorClass = 60,
  kUserClass = 77,
  kClasslessRoutes = 121,
  kEnd = 255,
};

enum MessageType : uint8_t {
  kDiscover = 1,
  kOffer = 2,
  kRequest = 3,
  kDecline = 4,
  kAck = 5,
  kRelease = 7,
  kInform = 8
};

constexpr size_t kSname = 44, kSnameLength = 64;
constexpr size_t kFile = 108, kFileLength = 128;
constexpr size_t kCookie = 236;
constexpr size_t kOptions = 240;  // length of the fixed BOOTP part and the magic cookie
constexpr uint32_t kMagicCookie = 0x63825363;
constexpr uint32_t kInfinite = 0xffffffff;
constexpr uint32_t kBroadcast = 0xffffffff;
constexpr uint16_t kBroadcastFlag = 0x8000;
constexpr size_t kMinMaxMessage = 576;  // RFC 2132 section 9.10: smaller announcements are not legal
constexpr size_t kMaxDns = 63;          // what the option's length byte can hold
constexpr size_t kMaxHostname = 63;

struct ClientMessage {
  uint8_t type = 0;
  uint8_t overload = 0;
  size_t max_message = SIZE_MAX;  // largest IP packet the client takes
  BootStage boot = BootStage::kNone;
  bool is_dhcpcd = false;
};

void read_option(uint8_t code, Bytes value, ClientMessage& message) {
  switch (code) {
    case kMessageType:
      if (value.size() == 1) message.type = value[0];
      break;
    case kOverload:
      if (value.size() == 1) message.overload = value[0];
      break;
    case kMaxMessageSize:
      if (value.size() == 2) message.max_message = std::max<size_t>(load16(value, 0), kMinMaxMessage);
      break;
    case kVendorClass:
      if (as_text(value).find(kPxeVendorClass) != std::string_view::npos) message.boot = BootStage::kTftp;
      message.is_dhcpcd = as_text(value).starts_with("dhcpcd-");
      break;
    case kUserClass:
      if (as_text(value) == kIpxeUserClass) message.boot = BootStage::kHttp;
      break;
    default:
      break;
  }
}

// Walks one option field. A missing end option is tolerated, an option that runs over the field is not.
bool read_options(Bytes field, ClientMessage& message) {
  for (size_t at = 0; at < field.size();) {
    const uint8_t code = field[at++];
    if (code == kPad) continue;
    if (code == kEnd) return true;
    if (at >= field.size() || field[at] > field.size() - at - 1) return false;
    read_option(code, field.subspan(at + 1, field[at]), message);
    at += size_t{1} + field[at];
  }
  return true;
}

bool read_message(Bytes bootp, ClientMessage& message) {
  if (!read_options(bootp.subspan(kOptions), message)) return false;
  const uint8_t overload = message.overload;  // RFC 2131 section 4.1: file first, then sname
  if ((overload & 1) != 0 && !read_options(bootp.subspan(kFile, kFileLength), message)) return false;
  if ((overload & 2) != 0 && !read_options(bootp.subspan(kSname, kSnameLength), message)) return false;
  return message.type != 0;
}

void write_dotted(Writer& w, uint32_t address) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    const uint8_t octet = static_cast<uint8_t>(address >> shift);
    if (octet >= 100) w.u8(static_cast<uint8_t>('0' + octet / 100));
    if (octet >= 10) w.u8(static_cast<uint8_t>('0' + octet / 10 % 10));
    w.u8(static_cast<uint8_t>('0' + octet % 10));
    if (shift > 0) w.u8('.');
  }
}

// The 128-byte boot file field of a client that boots from the network.
void write_boot_file(Writer& w, BootStage stage, const PxeConfig& pxe) {
  std::array<uint8_t, kFileLength> field{};
  Writer name(std::span<uint8_t>(field).first(kFileLength - 1));
  if (stage == BootStage::kTftp) {
    name.text(kIpxeBinary);
  } else {
    name.text("http://");
    write_dotted(name, *pxe.server4);
    name.text(pxe.boot_filename);
  }
  w.bytes(field);
}

void write_options(Writer& w, const GuestConfig& config, const ClientMessage& message, bool network_boot) {
  w.u8(kMessageType).u8(1).u8(message.type == kDiscover ? kOffer : kAck);
  if (message.type != kInform) w.u8(kLeaseTime).u8(4).u32(kInfinite);  // RFC 2131 section 4.3.5: INFORM has no lease
  w.u8(kServerId).u8(4).u32(kGatewayIpv4);
  // 169.254.0.0/16 on-link, so that the gateway is reachable with a /32 mask; then the default route through it.
  // dhcpcd (seen with 9.4) takes an on-link route for a host route to the network's address, whatever its mask, and
  // then cannot reach the gateway: for it the gateway comes first as a host route of its own.
  w.u8(kClasslessRoutes).u8(static_cast<uint8_t>(12 + (message.is_dhcpcd ? 9 : 0) + (config.virtual_services ? 8 : 0)));
  if (message.is_dhcpcd) w.u8(32).u32(kGatewayIpv4).u32(0);
  w.u8(16).u16(0xa9fe).u32(0).u8(0).u32(kGatewayIpv4);
  if (config.virtual_services) w.u8(24).u16(0xa9fe).u8(1).u32(kGatewayIpv4);
  w.u8(kSubnetMask).u8(4).u32(0xffffffff);
  w.u8(kInterfaceMtu).u8(2).u16(config.dhcp_mtu);
  if (network_boot) w.u8(kRouters).u8(4).u32(kGatewayIpv4);  // firmware does not know option 121

  const std::string_view hostname = config.hostname.substr(0, kMaxHostname);
  const size_t hostname_room = hostname.empty() ? 0 : 2 + hostname.size();
  // A client with a small receive buffer gets fewer name servers rather than a packet it must throw away.
  const size_t used = w.length() - kEthLength + hostname_room + 3;
  const size_t room = message.max_message > used ? (message.max_message - used) / 4 : 0;
  const auto dns = config.dns4.first(std::min({config.dns4.size(), kMaxDns, room}));
  if (!dns.empty()) {
    w.u8(kDnsServers).u8(static_cast<uint8_t>(dns.size() * 4));
    for (const uint32_t server : dns) w.u32(server);
  }
  if (!hostname.empty()) w.u8(kHostname).u8(static_cast<uint8_t>(hostname.size())).text(hostname);
  w.u8(kEnd);
}

GuestReply write_reply(const GuestConfig& config, const Request& request, const ClientMessage& message,
                       std::span<uint8_t> out) {
  const Bytes ip = request.ip, bootp = request.payload.subspan(kUdpLength);
  const uint16_t flags = load16(bootp, 10);
  const uint32_t client = load32(bootp, 12);
  const bool network_boot = message.boot != BootStage::kNone && config.pxe && config.pxe->server4;
  const bool broadcast = network_boot || ((flags & kBroadcastFlag) != 0 && client == 0);
  // RFC 2131 section 4.1: a client that has an address gets the answer there, one that cannot take unicast by
  // broadcast.
  const uint32_t destination = broadcast ? kBroadcast : client != 0 && message.type != kDiscover ? client : config.ipv4;

  Writer w(out);
  ethernet(w, broadcast ? kBroadcastMac : request.eth_src, config.port_mac, kEtherIpv4);
  w.u8(0x45)
      .u8(ip[1])
      .u16(0)
      .u16(load16(ip, 4))
      .u16(0)
      .u8(ip[8])
      .u8(kProtoUdp)
      .u16(0)
      .u32(kGatewayIpv4)
      .u32(destination);
  w.u16(67).u16(68).u16(0).u16(0);

  w.u8(2).bytes(bootp.subspan(1, 3)).bytes(bootp.subspan(4, 12));  // op; htype, hlen, hops; xid, secs, flags, ciaddr
  w.u32(message.type == kInform ? 0 : config.ipv4);
  w.u32(network_boot ? *config.pxe->server4 : kGatewayIpv4).u32(kGatewayIpv4);
  w.bytes(request.eth_src).bytes(bootp.subspan(34, 10));
  // Fields that carried options are not echoed: without option 52 they would read as names.
  if ((message.overload & 2) != 0)
    w.zeros(kSnameLength);
  else
    w.bytes(bootp.subspan(kSname, kSnameLength));
  if (network_boot)
    write_boot_file(w, message.boot, *config.pxe);
  else if ((message.overload & 1) != 0)
    w.zeros(kFileLength);
  else
    w.bytes(bootp.subspan(kFile, kFileLength));
  w.u32(kMagicCookie);
  write_options(w, config, message, network_boot);
  if (!w.ok()) return dropped(GuestDrop::kNoRoom);

  const size_t udp = kEthLength + kIpv4Length;
  w.set16(kEthLength + 2, static_cast<uint16_t>(w.length() - kEthLength));
  w.set16(kEthLength + 10, finish(sum16(w.written().subspan(kEthLength, kIpv4Length))));
  w.set16(udp + 4, static_cast<uint16_t>(w.length() - udp));
  w.set16(udp + 6, udp_checksum(checksum4(kGatewayIpv4, destination, kProtoUdp, w.written().subspan(udp))));
  return reply(w);
}

}  // namespace

GuestReply answer_dhcp4(const GuestConfig& config, const Request& request, std::span<uint8_t> out) {
  if (!config.has_ipv4) return dropped(GuestDrop::kDhcp4NoAddress);
  const Bytes udp = request.payload;
  const size_t udp_length = load16(udp, 4);
  if (udp_length > udp.size() || udp_length < kUdpLength + kOptions) return dropped(GuestDrop::kDhcp4Malformed);
  const Request exact{request.eth_src, request.ip, udp.first(udp_length)};
  const Bytes bootp = exact.payload.subspan(kUdpLength);
  const bool ethernet_request = bootp[0] == 1 && bootp[1] == 1 && bootp[2] == 6;
  if (!ethernet_request || load32(bootp, kCookie) != kMagicCookie) return dropped(GuestDrop::kDhcp4Malformed);
  if (load32(bootp, 24) != 0) return dropped(GuestDrop::kDhcp4Relayed);

  ClientMessage message;
  if (!read_message(bootp, message)) return dropped(GuestDrop::kDhcp4Malformed);
  switch (message.type) {
    case kDiscover:
    case kInform:
      return write_reply(config, exact, message, out);
    case kRequest: {
      GuestReply result = write_reply(config, exact, message, out);
      if (result.verdict == Verdict::kReply) result.learned_vm_mac = request.eth_src;
      return result;
    }
    case kDecline:  // no lease state to change
    case kRelease:
      return consumed();
    default:
      return dropped(GuestDrop::kDhcp4MessageType);
  }
}

}  // namespace ironcore::guest
