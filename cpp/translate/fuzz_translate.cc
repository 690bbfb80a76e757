// libFuzzer entry: the first byte chooses what to do, the second the headroom, the rest is an IP packet. A packet that
// is refused must be unchanged; one that is not must stay inside of its buffer and be of the right length. Checksums of
// ICMP errors are made right, so that the fuzzer gets past them.
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "net/checksum.h"
#include "translate/icmp_error.h"
#include "translate/rewrite.h"

namespace {

using namespace ironcore;
using namespace ironcore::translate;

constexpr Ipv4Address kVm4 = {10, 0, 0, 1}, kNat = {203, 0, 113, 7};
constexpr Ipv6Address kVm6 = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

Rewrite rewrite_of(uint8_t choice) {
  const std::optional<PortChange> port = choice & 1 ? std::optional(PortChange{1, 2}) : std::nullopt;
  switch (choice >> 1 & 7) {
    case 0:
      return rewrite_source(IpAddress::v4(kVm4), IpAddress::v4(kNat), port);
    case 1:
      return rewrite_destination(IpAddress::v4(kNat), IpAddress::v4(kVm4), port);
    case 2:
      return rewrite_source(IpAddress::v6(kVm6), IpAddress::v6(kNat64Prefix), port);
    case 3:
      return rewrite_destination(IpAddress::v6(kNat64Prefix), IpAddress::v6(kVm6), port);
    case 4:
    case 5:
      return six_to_four(kVm6, kNat, port);
    default:
      return four_to_six(kNat, kVm6, port);
  }
}

// A packet as its parser hands it over; false if a parser would have refused it.
bool view_of(uint8_t* ip, size_t size, bool is_v6, PacketView& view) {
  if (size < (is_v6 ? 40u : 20u) || ip[0] >> 4 != (is_v6 ? 6 : 4)) return false;
  view.ip = ip;
  if (!is_v6) {
    view.l4 = size_t{ip[0] & 0xfu} * 4;
    view.length = net::swap16(net::load<uint16_t>(ip + 2));
    view.proto = ip[9];
    view.is_fragment = (net::load<uint16_t>(ip + 6) & net::swap16(0x3fff)) != 0;
    return view.l4 >= 20 && view.length >= view.l4 && view.length <= size;
  }
  view.length = 40u + net::swap16(net::load<uint16_t>(ip + 4));
  view.proto = ip[6];
  view.l4 = 40;
  if (view.length > size) return false;
  while (view.proto == 0 || view.proto == 43 || view.proto == 60 || view.proto == 44) {
    if (view.l4 + 8 > view.length) return false;
    const uint8_t* extension = ip + view.l4;
    const bool fragment = view.proto == 44;
    view.is_fragment |= fragment;
    view.proto = extension[0];
    view.l4 += fragment ? 8 : (size_t{extension[1]} + 1) * 8;
    if (view.l4 > view.length) return false;
    if (fragment && (net::load<uint16_t>(extension + 2) & net::swap16(0xfff8))) break;
  }
  return true;
}

void repair_checksums(const PacketView& view, bool is_v6) {
  uint8_t* message = view.ip + view.l4;
  const size_t length = view.length - view.l4;
  if (!is_v6 && length >= 28) {
    const size_t header = size_t{message[8] & 0xfu} * 4;
    if (header >= 20 && 8 + header <= length) {
      net::store<uint16_t>(message + 18, 0);
      net::store(message + 18, static_cast<uint16_t>(~net::checksum_sum(message + 8, header)));
    }
  }
  net::write_l4_checksum(view.ip, is_v6, view.proto, message, length);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const Rewrite rewrite = rewrite_of(data[0]);
  const size_t headroom = data[1] % 80;
  std::vector<uint8_t> room(headroom + size - 2);
  std::copy(data + 2, data + size, room.begin() + static_cast<ptrdiff_t>(headroom));
  PacketView view{};
  view.headroom = headroom;
  if (!view_of(room.data() + headroom, size - 2, rewrite.is_v6, view)) return 0;
  const bool error = (data[0] & 0x80) != 0;
  if (error && (view.proto == net::kIcmp || view.proto == net::kIcmp6)) repair_checksums(view, rewrite.is_v6);

  const std::vector<uint8_t> before = room;
  const PacketView old = view;
  const Outcome outcome = error ? translate_icmp_error(rewrite, view) : apply(rewrite, view);
  if (outcome == Outcome::kNoHeadroom && (rewrite.kind != RewriteKind::kFourToSix || headroom >= 55)) std::abort();
  if (outcome != Outcome::kOk) {
    if (room != before || view.ip != old.ip || view.length != old.length || view.l4 != old.l4) std::abort();
    return 0;
  }
  if (view.ip - view.headroom != room.data() || view.ip + view.length != old.ip + old.length) std::abort();
  const bool is_v6 = view.ip[0] >> 4 == 6;
  PacketView again{};
  again.headroom = view.headroom;
  if (!view_of(view.ip, view.length, is_v6, again)) std::abort();
  if (again.length != view.length || again.l4 != view.l4 || again.proto != view.proto) std::abort();
  return 0;
}
