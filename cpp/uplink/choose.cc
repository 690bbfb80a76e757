#include "uplink/choose.h"

#include <linux/neighbour.h>

#include <algorithm>
#include <tuple>
#include <vector>

namespace ironcore::uplink {
namespace {

std::vector<Gateway> ranked(const Uplink& uplink, std::span<const Gateway> gateways) {
  std::vector<Gateway> mine;
  std::copy_if(gateways.begin(), gateways.end(), std::back_inserter(mine),
               [&](const Gateway& g) { return g.ifindex == uplink.ifindex; });
  std::sort(mine.begin(), mine.end(), [](const Gateway& a, const Gateway& b) {
    return std::tuple(!a.is_default, a.metric, a.address) < std::tuple(!b.is_default, b.metric, b.address);
  });
  return mine;
}

const Neighbour* find(std::span<const Neighbour> neighbours, int ifindex, const Ipv6& address) {
  const auto it = std::find_if(neighbours.begin(), neighbours.end(),
                               [&](const Neighbour& n) { return n.ifindex == ifindex && n.address == address; });
  return it == neighbours.end() ? nullptr : &*it;
}

}  // namespace

bool is_usable(const Neighbour& neighbour) {
  constexpr uint16_t kValid = NUD_PERMANENT | NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE;
  return neighbour.mac && (neighbour.state & kValid) != 0 && ((*neighbour.mac)[0] & 1) == 0 && *neighbour.mac != Mac{};
}

std::optional<Mac> choose(const Uplink& uplink, std::span<const Gateway> gateways,
                          std::span<const Neighbour> neighbours, const std::optional<Mac>& current) {
  const auto acceptable = [&](const Neighbour& n) {
    return n.ifindex == uplink.ifindex && is_usable(n) && n.mac != uplink.own_mac;
  };
  for (const Gateway& gateway : ranked(uplink, gateways)) {
    const Neighbour* neighbour = find(neighbours, uplink.ifindex, gateway.address);
    if (neighbour != nullptr && acceptable(*neighbour)) return neighbour->mac;
  }
  const Neighbour* best = nullptr;
  for (const Neighbour& n : neighbours)
    if (n.is_router && acceptable(n) && (best == nullptr || n.address < best->address)) best = &n;
  return best != nullptr ? best->mac : current;
}

size_t to_probe(const Uplink& uplink, std::span<const Gateway> gateways, std::span<const Neighbour> neighbours,
                std::span<Ipv6> out) {
  size_t count = 0;
  for (const Gateway& gateway : ranked(uplink, gateways)) {
    if (count == out.size()) break;
    if (std::find(out.begin(), out.begin() + static_cast<ptrdiff_t>(count), gateway.address) !=
        out.begin() + static_cast<ptrdiff_t>(count))
      continue;
    const Neighbour* neighbour = find(neighbours, uplink.ifindex, gateway.address);
    constexpr uint16_t kConfirmed = NUD_PERMANENT | NUD_REACHABLE | NUD_DELAY | NUD_PROBE | NUD_NOARP;
    if (neighbour == nullptr || (neighbour->state & kConfirmed) == 0) out[count++] = gateway.address;
  }
  return count;
}

}  // namespace ironcore::uplink
