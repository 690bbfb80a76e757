#include "testing/traffic.h"

#include <algorithm>

#include "net/checksum.h"

namespace ironcore::testing {
namespace {

constexpr size_t kEth = 14, kOverlay = 54;
constexpr size_t kRemembered = 16;
constexpr uint16_t kPorts[] = {53, 80, 1000, 1001, 1024, 1025, 1026, 1030, 1060, 443};

bool is_v6(const Frame& packet) { return packet[0] >> 4 == 6; }

void fix_ipv4_checksum(Frame& packet) {
  const size_t header = size_t{packet[0] & 0xfu} * 4;
  packet[10] = packet[11] = 0;
  unsigned sum = 0;
  for (size_t i = 0; i + 1 < header && i + 1 < packet.size(); i += 2)
    sum += static_cast<unsigned>(packet[i] << 8 | packet[i + 1]);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  packet[10] = static_cast<uint8_t>(~sum >> 8);
  packet[11] = static_cast<uint8_t>(~sum);
}

// Where the transport header begins in a packet whose headers are those that `Traffic` writes; 0: none is there.
size_t transport_of(const Frame& packet) {
  if (!is_v6(packet)) return (packet[6] & 0x1f) || packet[7] ? 0 : size_t{packet[0] & 0xfu} * 4;
  const uint8_t next = packet[6];
  return next == 6 || next == 17 || next == 58 || next == 132 ? 40 : 0;
}

uint8_t proto_of(const Frame& packet) { return is_v6(packet) ? packet[6] : packet[9]; }

IpAddress address_at(const Frame& packet, bool destination) {
  IpAddress address;
  address.is_v6 = is_v6(packet);
  const size_t length = address.is_v6 ? 16 : 4, at = (address.is_v6 ? 8 : 12) + (destination ? length : 0);
  std::copy_n(packet.begin() + static_cast<std::ptrdiff_t>(at), length, address.bytes.begin());
  return address;
}

// The packet that answers this one.
Frame turned(Frame packet) {
  const size_t length = is_v6(packet) ? 16 : 4, at = is_v6(packet) ? 8 : 12;
  std::swap_ranges(packet.begin() + static_cast<std::ptrdiff_t>(at),
                   packet.begin() + static_cast<std::ptrdiff_t>(at + length),
                   packet.begin() + static_cast<std::ptrdiff_t>(at + length));
  const size_t l4 = transport_of(packet);
  if (!l4 || l4 + 8 > packet.size()) return packet;
  switch (proto_of(packet)) {
    case 6:
    case 17:
      std::swap_ranges(packet.begin() + static_cast<std::ptrdiff_t>(l4),
                       packet.begin() + static_cast<std::ptrdiff_t>(l4 + 2),
                       packet.begin() + static_cast<std::ptrdiff_t>(l4 + 2));
      break;
    case 1:
      if (packet[l4] == 8 || packet[l4] == 0) packet[l4] ^= 8;
      break;
    case 58:
      if (packet[l4] == 128 || packet[l4] == 129) packet[l4] ^= 1;
      break;
    default:
      break;
  }
  return packet;
}

void insert(Frame& frame, size_t at, const Frame& bytes) {
  frame.insert(frame.begin() + static_cast<std::ptrdiff_t>(at), bytes.begin(), bytes.end());
}

void set_ip_length(Frame& packet) {
  const size_t at = is_v6(packet) ? 4 : 2, length = packet.size() - (is_v6(packet) ? 40 : 0);
  packet[at] = static_cast<uint8_t>(length >> 8);
  packet[at + 1] = static_cast<uint8_t>(length);
}

// An ICMP error about `packet` from `router`, as a frame of the packet's sender would have it.
Frame error_about(const Frame& packet, const std::string& router, uint8_t type, uint8_t code) {
  Frame message = {type, code, 0, 0, 0, 0, 5, 0x14};
  const Frame quoted = slice(packet, 0, is_v6(packet) ? 200 : 60);
  message.insert(message.end(), quoted.begin(), quoted.end());
  const bool v6 = is_v6(packet);
  Frame frame = from_vm(router, to_string(address_at(packet, false)), v6 ? 58 : 1, message);
  const size_t l4 = kEth + (v6 ? 40 : 20);
  net::write_l4_checksum(frame.data() + kEth, v6, v6 ? 58 : 1, frame.data() + l4, frame.size() - l4);
  return frame;
}

}  // namespace

const std::string& Traffic::address(bool v6) {
  const auto& all = scenario_addresses(v6);
  return all[below(static_cast<unsigned>(all.size()))];
}

Frame Traffic::guest_request() {
  switch (below(5)) {
    case 0:
      return arp_request(kVmMac, address(false), one_in(4) ? address(false) : "169.254.0.1");
    case 1:
      return from_vm("0.0.0.0", "255.255.255.255", 17, udp(68, 67, 260));
    case 2:
      return from_vm("fe80::5", "ff02::1:2", 17, udp(546, 547, 40));
    case 3:
      return from_vm(address(false), "169.254.0.1", 1, icmp_echo(8, 1));
    default:
      return from_vm(address(true), one_in(2) ? "fe80::1" : address(true), 58,
                     Frame(24, static_cast<uint8_t>(128 + below(10))));
  }
}

Frame Traffic::segment(uint8_t& proto, bool v6) {
  constexpr uint8_t kFlags[] = {0x02, 0x12, 0x10, 0x18, 0x11, 0x04};
  const uint16_t src = kPorts[below(std::size(kPorts))], dst = kPorts[below(std::size(kPorts))];
  switch (below(10)) {
    case 0:
    case 1:
    case 2:
      proto = 6;
      return tcp(src, dst, kFlags[below(std::size(kFlags))]);
    case 3:
    case 4:
      proto = v6 ? 58 : 1;
      return icmp_echo(v6 ? static_cast<uint8_t>(128 + below(2)) : static_cast<uint8_t>(8 * below(2)),
                       static_cast<uint16_t>(1024 + below(6)));
    case 5:
      proto = one_in(2) ? 132 : static_cast<uint8_t>(below(256));
      return Frame(40, static_cast<uint8_t>(below(256)));
    default:
      proto = 17;
      return udp(src, dst, 18 + below(3));
  }
}

// As a VM's frame: options, extension headers, fragments.
Frame Traffic::packet(const std::string& src, const std::string& dst) {
  const bool v6 = src.find(':') != std::string::npos;
  uint8_t proto = 0;
  const Frame body = segment(proto, v6);
  Frame frame = from_vm(src, dst, proto, body);
  Frame packet = slice(frame, kEth);
  const auto identification = static_cast<uint8_t>(below(4));
  if (!v6) {
    if (one_in(6)) {
      packet[5] = identification;
      packet[6] = one_in(2) ? 0x20 : 0;
      packet[7] = packet[6] ? 0 : 3;
    }
    if (one_in(8)) {
      insert(packet, 20, {7, 7, 4, 0, 0, 0, 0, 0});  // record route, and the end of options
      packet[0] = 0x47;
      set_ip_length(packet);
    }
    fix_ipv4_checksum(packet);
  } else if (one_in(6)) {
    const bool first = one_in(2);
    insert(packet, 40,
           {packet[6], 0, 0, static_cast<uint8_t>(first ? 1 : 8 * (1 + below(3))), 0, 0, 0, identification});
    packet[6] = 44;
    set_ip_length(packet);
  } else if (one_in(6)) {
    constexpr uint8_t kExtensions[] = {0, 43, 60};
    for (unsigned count = 1 + below(one_in(4) ? 10 : 2); count > 0; --count) {
      insert(packet, 40, {packet[6], 0, 1, 4, 0, 0, 0, 0});
      packet[6] = kExtensions[below(3)];
    }
    set_ip_length(packet);
  }
  frame.resize(kEth);
  insert(frame, kEth, packet);
  return frame;
}

Frame Traffic::to_fabric(const Scenario& scenario, const IpAddress& to, const Frame& vm_frame) {
  const auto known = scenario.underlay_of(to);
  const bool guess = !known || one_in(6);
  return overlay(one_in(8) ? "fc00:9::d000:0:7" : kRemote,
                 guess ? scenario.underlay(static_cast<uint8_t>(below(256))) : *known, vm_frame);
}

std::optional<Received> Traffic::answer(const Scenario& scenario) {
  if (seen_.empty()) return std::nullopt;
  const Received& sent = seen_[below(static_cast<unsigned>(seen_.size()))];
  const bool on_uplink = sent.port <= kPf1;
  const size_t start = on_uplink ? kOverlay : kEth;
  if (sent.frame.size() < start + 40) return std::nullopt;
  const Frame original = slice(sent.frame, start);
  if (original[0] >> 4 != 4 && original[0] >> 4 != 6) return std::nullopt;
  Frame reply;
  if (one_in(5)) {
    const bool v6 = is_v6(original);
    constexpr uint8_t kTypes4[] = {3, 11, 12}, kTypes6[] = {1, 2, 3, 4};
    const std::string router = one_in(3)   ? address(v6)
                               : one_in(2) ? to_string(address_at(original, true))
                               : v6        ? "2001:db8:7::7"
                                           : "7.7.7.7";
    reply = error_about(original, router, v6 ? kTypes6[below(4)] : kTypes4[below(3)], static_cast<uint8_t>(below(5)));
  } else {
    reply = ethernet({2, 0, 0, 0, 0, 1}, kVmMac, is_v6(original) ? 0x86dd : 0x0800, turned(original));
  }
  if (!on_uplink) return Received{sent.port, reply};
  return Received{one_in(3) ? unsigned{kPf1} : unsigned{kPf0}, to_fabric(scenario, address_at(original, false), reply)};
}

// Not the addresses of Ethernet: they decide nothing but whether a first packet may pass.
void Traffic::damage(Frame& frame, size_t from) {
  if (one_in(3)) frame.resize(std::max<size_t>(from, below(static_cast<unsigned>(frame.size()) + 1)));
  for (unsigned changes = 1 + below(3); changes > 0 && frame.size() > from; --changes)
    frame[from + below(static_cast<unsigned>(frame.size() - from))] = static_cast<uint8_t>(below(256));
}

Received Traffic::next(const Scenario& scenario) {
  if (one_in(2))
    if (auto reply = answer(scenario)) {
      if (one_in(12)) damage(reply->frame, kEth - 2);
      return *std::move(reply);
    }
  const bool v6 = one_in(3);
  Received received;
  if (one_in(3)) {
    const std::string& to = address(v6);
    received = {one_in(3) ? unsigned{kPf1} : unsigned{kPf0}, to_fabric(scenario, ip(to), packet(address(v6), to))};
  } else {
    const unsigned number = below(4);
    const std::string own = v6 ? "2001:db8::" + std::to_string(number + 1) : "10.0.0." + std::to_string(number + 1);
    received = {kVf0 + number, one_in(8) ? guest_request() : packet(one_in(6) ? address(v6) : own, address(v6))};
  }
  if (one_in(10)) damage(received.frame, kEth - 2);
  return received;
}

Scenario::Choice Traffic::next_call() {
  Scenario::Choice choice;
  for (uint8_t& byte : choice) byte = static_cast<uint8_t>(below(256));
  return choice;
}

void Traffic::note(unsigned port, const Frame& frame) {
  if (seen_.size() < kRemembered) {
    seen_.push_back({port, frame});
  } else {
    seen_[below(kRemembered)] = {port, frame};
  }
}

}  // namespace ironcore::testing
