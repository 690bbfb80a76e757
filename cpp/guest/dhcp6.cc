// DHCPv6 server (RFC 8415) for the one address of an interface. No lease state; lifetimes are infinite. A foreign
// server identifier is no reason to stay silent: there is exactly one server on a VM's link, so it stems from before a
// migration.
#include "services.h"

namespace ironcore::guest {
namespace {

enum Option : uint16_t {
  kClientId = 1,
  kServerId = 2,
  kIaNa = 3,
  kIaAddr = 5,
  kStatusCode = 13,
  kRapidCommit = 14,
  kUserClass = 15,
  kVendorClass = 16,
  kDnsServers = 23,
  kBootFileUrl = 59,
};

enum MessageType : uint8_t {
  kSolicit = 1,
  kAdvertise = 2,
  kRequest = 3,
  kConfirm = 4,
  kRenew = 5,
  kRebind = 6,
  kReply = 7,
  kRelease = 8,
  kDecline = 9,
  kInformationRequest = 11,
};

enum Status : uint16_t { kSuccess = 0, kNoAddrsAvail = 2, kNotOnLink = 4 };

constexpr uint32_t kInfinite = 0xffffffff;
constexpr size_t kHeader = 4;         // message type and transaction id
constexpr size_t kIaHeader = 12;      // IAID, T1, T2
constexpr size_t kIaAddrLength = 24;  // address and two lifetimes
constexpr size_t kMaxDuid = 130;      // RFC 8415 section 11.1: two bytes of type and 128 of value
constexpr size_t kMaxDns = 15;
constexpr size_t kMaxIas = 4;    // associations answered in one message
constexpr size_t kMaxStale = 4;  // addresses per association that a client is told to give up
constexpr uint16_t kDuidLinkLayer = 3;
constexpr uint16_t kDuidHardware = 0xabcd;

struct ClientMessage {
  uint8_t type = 0;
  Bytes transaction;
  Bytes client_id;
  std::array<Bytes, kMaxIas> ias;  // contents of IA_NA options
  size_t ia_count = 0;
  bool rapid_commit = false;
  BootStage boot = BootStage::kNone;
};

// Calls visit(code, value) for each option; false if one runs over the end or visit says so.
template <typename Visit>
bool for_each_option(Bytes options, Visit visit) {
  while (!options.empty()) {
    if (options.size() < 4) return false;
    const size_t length = load16(options, 2);
    if (length > options.size() - 4 || !visit(load16(options, 0), options.subspan(4, length))) return false;
    options = options.subspan(4 + length);
  }
  return true;
}

bool has_pxe_vendor_class(Bytes value) {
  if (value.size() < 4) return false;
  for (Bytes rest = value.subspan(4); rest.size() >= 2;) {  // after the enterprise number: counted strings
    const size_t length = load16(rest, 0);
    if (length > rest.size() - 2) return false;
    if (as_text(rest.subspan(2, length)).find(kPxeVendorClass) != std::string_view::npos) return true;
    rest = rest.subspan(2 + length);
  }
  return false;
}

bool is_ipxe_user_class(Bytes value) {
  return value.size() >= 2 && load16(value, 0) <= value.size() - 2 &&
         as_text(value.subspan(2, load16(value, 0))) == kIpxeUserClass;
}

// Calls visit(address) for each address inside an IA_NA; false if malformed.
template <typename Visit>
bool for_each_address(Bytes ia, Visit visit) {
  return for_each_option(ia.subspan(kIaHeader), [&](uint16_t code, Bytes value) {
    if (code != kIaAddr) return true;
    if (value.size() < kIaAddrLength) return false;
    visit(load<16>(value, 0));
    return true;
  });
}

bool read_message(Bytes dhcp, ClientMessage& message) {
  if (dhcp.size() < kHeader) return false;
  message.type = dhcp[0];
  message.transaction = dhcp.subspan(1, 3);
  return for_each_option(dhcp.subspan(kHeader), [&](uint16_t code, Bytes value) {
    switch (code) {
      case kClientId:
        message.client_id = value;
        return value.size() <= kMaxDuid;
      case kIaNa:
        if (value.size() < kIaHeader || !for_each_address(value, [](const Ipv6&) {})) return false;
        if (message.ia_count < kMaxIas) message.ias[message.ia_count++] = value;
        return true;
      case kRapidCommit:
        message.rapid_commit = true;
        return true;
      case kVendorClass:
        if (has_pxe_vendor_class(value)) message.boot = BootStage::kTftp;
        return true;
      case kUserClass:
        if (is_ipxe_user_class(value)) message.boot = BootStage::kHttp;
        return true;
      default:
        return true;
    }
  });
}

void write_status(Writer& w, Status status) { w.u16(kStatusCode).u16(2).u16(status); }

// The server identifier holds the VM's MAC, not the port's: it then survives the move of a VM to another host.
void write_identifiers(Writer& w, const Request& request, const ClientMessage& message) {
  w.u16(kServerId).u16(10).u16(kDuidLinkLayer).u16(kDuidHardware).bytes(request.eth_src);
  if (!message.client_id.empty())
    w.u16(kClientId).u16(static_cast<uint16_t>(message.client_id.size())).bytes(message.client_id);
}

void write_address(Writer& w, const Ipv6& address) {
  w.u16(kIaAddr).u16(kIaAddrLength + 6).bytes(address).u32(kInfinite).u32(kInfinite);
  write_status(w, kSuccess);
}

// The first association gets the address, further ones cannot have one. Other addresses the client still holds get zero
// lifetimes, so that it drops them (RFC 8415 section 18.3.4); an advertisement promises, it takes nothing away.
void write_associations(Writer& w, const GuestConfig& config, const ClientMessage& message, bool committed) {
  for (size_t i = 0; i < message.ia_count; ++i) {
    const Bytes ia = message.ias[i];
    w.u16(kIaNa);
    const size_t length_at = w.length();
    w.u16(0).bytes(ia.first(4)).u32(kInfinite).u32(kInfinite);
    if (i > 0) {
      write_status(w, kNoAddrsAvail);
    } else {
      write_address(w, config.ipv6);
      size_t stale = 0;
      for_each_address(ia, [&](const Ipv6& held) {
        if (!committed || held == config.ipv6 || held == kUnspecifiedIpv6 || stale++ >= kMaxStale) return;
        w.u16(kIaAddr).u16(kIaAddrLength).bytes(held).u32(0).u32(0);
      });
    }
    w.set16(length_at, static_cast<uint16_t>(w.length() - length_at - 2));
  }
}

void write_hex_group(Writer& w, uint16_t group) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  bool started = false;
  for (int shift = 12; shift >= 0; shift -= 4) {
    const size_t digit = (group >> shift) & 0xfu;
    started |= digit != 0 || shift == 0;
    if (started) w.text(kDigits.substr(digit, 1));
  }
}

// Text of RFC 5952: lower case, the longest run of two or more zero groups (the first of equals) as "::".
void write_address_text(Writer& w, const Ipv6& address) {
  size_t best = 8, best_length = 1;
  for (size_t i = 0; i < 8; ++i) {
    size_t end = i;
    while (end < 8 && load16(address, end * 2) == 0) ++end;
    if (end - i > best_length) best = i, best_length = end - i;
  }
  for (size_t i = 0; i < 8;) {
    if (i == best) {
      w.text("::");
      i += best_length;
      continue;
    }
    if (i > 0 && i != best + best_length) w.text(":");
    write_hex_group(w, load16(address, i * 2));
    ++i;
  }
}

void write_boot_url(Writer& w, BootStage stage, const PxeConfig& pxe) {
  w.u16(kBootFileUrl);
  const size_t length_at = w.length();
  w.u16(0).text(stage == BootStage::kTftp ? "tftp://[" : "http://[");
  write_address_text(w, *pxe.server6);
  w.text("]/").text(stage == BootStage::kTftp ? kIpxeBinary : pxe.boot_filename);
  w.set16(length_at, static_cast<uint16_t>(w.length() - length_at - 2));
}

void write_configuration(Writer& w, const GuestConfig& config, const ClientMessage& message) {
  const auto dns = config.dns6.first(std::min(config.dns6.size(), kMaxDns));
  if (!dns.empty()) {
    w.u16(kDnsServers).u16(static_cast<uint16_t>(dns.size() * 16));
    for (const Ipv6& server : dns) w.bytes(server);
  }
  if (message.boot != BootStage::kNone && config.pxe && config.pxe->server6)
    write_boot_url(w, message.boot, *config.pxe);
}

// Whether every address a confirming client holds is ours; nullopt if it names none (RFC 8415 section 18.3.3: no
// answer).
std::optional<bool> confirms(const GuestConfig& config, const ClientMessage& message) {
  bool any = false, all = true;
  for (size_t i = 0; i < message.ia_count; ++i)
    for_each_address(message.ias[i], [&](const Ipv6& held) { any = true, all = all && held == config.ipv6; });
  return any ? std::optional(all) : std::nullopt;
}

Writer begin_reply(const GuestConfig& config, const Request& request, const ClientMessage& message, uint8_t type,
                   std::span<uint8_t> out) {
  Writer w(out);
  ethernet(w, request.eth_src, config.port_mac, kEtherIpv6);
  ipv6_header(w, kProtoUdp, request.ip[7], kGatewayIpv6, load<16>(request.ip, 8));
  w.u16(547).u16(546).u16(0).u16(0).u8(type).bytes(message.transaction);
  write_identifiers(w, request, message);
  return w;
}

GuestReply end_reply(Writer& w) {
  const size_t udp = kEthLength + kIpv6Length;
  w.set16(udp + 4, static_cast<uint16_t>(w.length() - udp));
  finish_ipv6(w, 6);
  return reply(w);
}

}  // namespace

GuestReply answer_dhcp6(const GuestConfig& config, const Request& request, std::span<uint8_t> out) {
  const Bytes udp = request.payload;
  const size_t udp_length = load16(udp, 4);
  const Ipv6 source = load<16>(request.ip, 8);
  ClientMessage message;
  if (udp_length > udp.size() || udp_length < kUdpLength || source[0] == 0xff || source == kUnspecifiedIpv6 ||
      !read_message(udp.subspan(kUdpLength, udp_length - kUdpLength), message))
    return dropped(GuestDrop::kDhcp6Malformed);

  const bool solicits = message.type == kSolicit || message.type == kRequest;
  if (!config.has_ipv6 && !solicits) return dropped(GuestDrop::kDhcp6NoAddress);
  const bool committed = message.type != kSolicit || message.rapid_commit;
  Writer w = begin_reply(config, request, message, committed || !config.has_ipv6 ? kReply : kAdvertise, out);
  if (!config.has_ipv6) {
    write_status(w, kNoAddrsAvail);
    return end_reply(w);
  }
  switch (message.type) {
    case kSolicit:
    case kRequest:
    case kRenew:
    case kRebind:
      write_associations(w, config, message, committed);
      if (message.rapid_commit && message.type == kSolicit) w.u16(kRapidCommit).u16(0);
      write_configuration(w, config, message);
      return end_reply(w);
    case kConfirm: {
      const std::optional<bool> on_link = confirms(config, message);
      if (!on_link) return consumed();
      write_status(w, *on_link ? kSuccess : kNotOnLink);
      return end_reply(w);
    }
    case kRelease:
    case kDecline:
      write_status(w, kSuccess);
      return end_reply(w);
    case kInformationRequest:
      write_configuration(w, config, message);
      return end_reply(w);
    default:
      return dropped(GuestDrop::kDhcp6MessageType);
  }
}

}  // namespace ironcore::guest
