// Answers to echo requests that this host gives in the name of a public address.
#pragma once

#include <algorithm>

#include "net/headers.h"
#include "translate/incremental.h"

namespace ironcore::overlay {

// Swaps the addresses and changes the type, in place. `ip` and `icmp` are complete headers of an echo request.
inline void turn_echo_into_reply(uint8_t* ip, bool is_v6, uint8_t* icmp) {
  const size_t at = is_v6 ? 8 : 12, size = is_v6 ? 16 : 4;
  std::swap_ranges(ip + at, ip + at + size, ip + at + size);
  const auto before = net::load<uint16_t>(icmp);
  icmp[0] = is_v6 ? 129 : 0;
  const uint16_t change = translate::delta(before, net::load<uint16_t>(icmp));
  net::store(icmp + 2, translate::adjusted(net::load<uint16_t>(icmp + 2), change));
}

}  // namespace ironcore::overlay
