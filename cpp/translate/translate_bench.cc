// TSC cycles per packet of each translation, on packets that lie in the L1 cache. Medians of rounds.
//
//   translate_bench [rounds]
#include <x86intrin.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "net/checksum.h"
#include "translate/icmp_error.h"
#include "translate/rewrite.h"

namespace ironcore::translate {
namespace {

constexpr unsigned kPackets = 32;
constexpr size_t kHeadroom = 128, kRoom = 512;

constexpr Ipv4Address kVm4 = {10, 0, 0, 1}, kNat = {203, 0, 113, 7}, kServer = {8, 8, 8, 8};
constexpr Ipv6Address kVm6 = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
constexpr PortChange kPorts = {net::swap16(40000), net::swap16(1025)};
constexpr PortChange kBack = {kPorts.after, kPorts.before};

// One packet in a buffer, and how to view it.
struct Packet {
  std::vector<uint8_t> room = std::vector<uint8_t>(kRoom);
  PacketView view{};
};

Packet packet_of(bool is_v6, uint8_t proto, const std::vector<uint8_t>& l4) {
  Packet packet;
  const size_t header = is_v6 ? 40 : 20;
  uint8_t* ip = packet.room.data() + kHeadroom;
  if (is_v6) {
    ip[0] = 0x60, ip[5] = static_cast<uint8_t>(l4.size()), ip[6] = proto, ip[7] = 64;
    std::copy(kVm6.begin(), kVm6.end(), ip + 8);
    std::copy_n(kNat64Prefix.begin(), 12, ip + 24);
    std::copy(kServer.begin(), kServer.end(), ip + 36);
  } else {
    ip[0] = 0x45, ip[3] = static_cast<uint8_t>(header + l4.size()), ip[8] = 64, ip[9] = proto;
    std::copy(kVm4.begin(), kVm4.end(), ip + 12);
    std::copy(kServer.begin(), kServer.end(), ip + 16);
    net::store(ip + 10, static_cast<uint16_t>(~net::checksum_sum(ip, 20)));
  }
  std::copy(l4.begin(), l4.end(), ip + header);
  net::write_l4_checksum(ip, is_v6, proto, ip + header, l4.size());
  packet.view = {ip, header + l4.size(), kHeadroom, header, proto, false};
  return packet;
}

std::vector<uint8_t> transport(uint8_t proto) {
  std::vector<uint8_t> l4(proto == net::kTcp ? 32 : 26);
  net::store(l4.data(), kPorts.before);
  if (proto == net::kUdp) l4[5] = 26;
  if (proto == net::kIcmp6) l4[0] = 128;
  return l4;
}

// An error to `nat` about a UDP packet that it sent.
Packet error_packet() {
  Packet quoted = packet_of(false, net::kUdp, transport(net::kUdp));
  PacketView view = quoted.view;
  apply(rewrite_source(IpAddress::v4(kVm4), IpAddress::v4(kNat), kPorts), view);
  std::vector<uint8_t> message = {3, 1, 0, 0, 0, 0, 0, 0};
  message.insert(message.end(), view.ip, view.ip + 28);
  Packet packet = packet_of(false, net::kIcmp, message);
  apply(rewrite_source(IpAddress::v4(kVm4), IpAddress::v4(kServer)), packet.view);
  std::copy(kServer.begin(), kServer.end(), packet.view.ip + 12);
  std::copy(kNat.begin(), kNat.end(), packet.view.ip + 16);
  net::store<uint16_t>(packet.view.ip + 10, 0);
  net::store(packet.view.ip + 10, static_cast<uint16_t>(~net::checksum_sum(packet.view.ip, 20)));
  return packet;
}

// `operation` changes a packet, `undo` makes it as it was; only the former is timed.
template <typename Operation, typename Undo>
void measure(const char* name, unsigned rounds, const Packet& model, Operation operation, Undo undo) {
  std::vector<Packet> packets(kPackets, model);
  for (Packet& packet : packets) packet.view.ip = packet.room.data() + kHeadroom;
  std::vector<double> cycles;
  unsigned failures = 0;
  for (unsigned round = 0; round < rounds; ++round) {
    unsigned unused;
    const uint64_t start = __rdtscp(&unused);
    for (Packet& packet : packets) failures += operation(packet.view) != Outcome::kOk;
    cycles.push_back(static_cast<double>(__rdtscp(&unused) - start) / kPackets);
    for (Packet& packet : packets) undo(packet, model);
  }
  std::sort(cycles.begin(), cycles.end());
  std::printf("%-20s %6.1f  (a tenth below %.1f, a tenth above %.1f)%s\n", name, cycles[rounds / 2],
              cycles[rounds / 10], cycles[rounds - rounds / 10 - 1], failures ? "  FAILED" : "");
  if (failures) std::exit(1);
}

void restore(Packet& packet, const Packet& model) {
  std::copy(model.room.begin(), model.room.begin() + 256, packet.room.begin());
  packet.view = model.view;
  packet.view.ip = packet.room.data() + kHeadroom;
}

void run_all(unsigned rounds) {
  const auto with = [](const Rewrite& rewrite) { return [rewrite](PacketView& view) { return apply(rewrite, view); }; };
  const IpAddress vm = IpAddress::v4(kVm4), nat = IpAddress::v4(kNat);
  measure(
      "empty loop", rounds, packet_of(false, net::kUdp, transport(net::kUdp)),
      [](PacketView& view) { return view.length == 0 ? Outcome::kTruncated : Outcome::kOk; }, restore);
  const Rewrite source = rewrite_source(vm, nat, kPorts), destination = rewrite_destination(nat, vm, kBack);
  measure("source, UDP", rounds, packet_of(false, net::kUdp, transport(net::kUdp)), with(source), restore);
  measure("source, TCP", rounds, packet_of(false, net::kTcp, transport(net::kTcp)), with(source), restore);
  measure("destination, TCP", rounds, packet_of(false, net::kTcp, transport(net::kTcp)), with(destination), restore);
  const Rewrite out = six_to_four(kVm6, kNat, kPorts), in = four_to_six(kNat, kVm6, kBack);
  measure("NAT64 out, UDP", rounds, packet_of(true, net::kUdp, transport(net::kUdp)), with(out), restore);
  measure("NAT64 out, TCP", rounds, packet_of(true, net::kTcp, transport(net::kTcp)), with(out), restore);
  measure("NAT64 out, echo", rounds, packet_of(true, net::kIcmp6, transport(net::kIcmp6)), with(out), restore);
  measure("NAT64 in, UDP", rounds, packet_of(false, net::kUdp, transport(net::kUdp)), with(in), restore);
  measure("NAT64 in, TCP", rounds, packet_of(false, net::kTcp, transport(net::kTcp)), with(in), restore);
  measure(
      "ICMP error", rounds, error_packet(), [&](PacketView& view) { return translate_icmp_error(destination, view); },
      restore);
  measure(
      "ICMP error, NAT64", rounds, error_packet(), [&](PacketView& view) { return translate_icmp_error(in, view); },
      restore);
}

}  // namespace
}  // namespace ironcore::translate

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 50000;
  if (rounds < 10) {
    std::fprintf(stderr, "translate_bench [rounds]\n");
    return 2;
  }
  ironcore::translate::run_all(static_cast<unsigned>(rounds));
}
