#include "underlay/address.h"

#include <algorithm>

#include "net/headers.h"

namespace ironcore {
namespace {

constexpr uint8_t kAddressType = 0xd0;
constexpr uint8_t kFlagExternal = 0x80;

}  // namespace

UnderlayAddresses::UnderlayAddresses(const Ipv6Address& host, bool type_byte, bool is_static, uint64_t random_state)
    : host_(host), type_byte_(type_byte), static_(is_static), random_state_(random_state), counter_(0) {
  if (!static_) counter_ = static_cast<uint8_t>(next_random());
}

uint64_t UnderlayAddresses::next_random() {  // splitmix64
  uint64_t z = (random_state_ += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

Ipv6Address UnderlayAddresses::generate(UnderlayType type) {
  Ipv6Address address{};
  std::copy_n(host_.begin(), 8, address.begin());
  address[8] = kAddressType;
  address[9] = type_byte_ ? static_cast<uint8_t>(type) : 0;
  address[11] = static_ ? 1 : static_cast<uint8_t>(next_random());
  net::store(address.data() + 12, net::swap32(++counter_));
  return address;
}

bool UnderlayAddresses::preferred_allowed(const Ipv6Address& address) const {
  return std::equal(host_.begin(), host_.begin() + 8, address.begin()) && (address[10] & kFlagExternal);
}

uint64_t underlay_low(const Ipv6Address& address) { return net::load<uint64_t>(address.data() + 8); }

}  // namespace ironcore
