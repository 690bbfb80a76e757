#include "virtsvc/slots.h"

#include <emmintrin.h>

#include <algorithm>
#include <new>
#include <type_traits>
#include <utility>

#include "net/headers.h"

namespace ironcore::virtsvc {
namespace {

// The client as the reference lays out its key: VF port in host order, the rest as on the wire.
uint64_t pack(const Client& client) {
  return client.vf_port | uint64_t{net::swap16(client.port)} << 16 |
         uint64_t{net::load<uint32_t>(client.address.data())} << 32;
}

Client unpack(uint64_t packed) {
  Client client{static_cast<uint16_t>(packed), net::swap16(static_cast<uint16_t>(packed >> 16)), {}};
  net::store(client.address.data(), static_cast<uint32_t>(packed >> 32));
  return client;
}

bool has_address(const Client& client) { return client.address != Ipv4Address{}; }

template <typename T>
T* zeroed(size_t count) {
  auto* memory = static_cast<T*>(std::calloc(count, sizeof(T)));
  if (!memory) throw std::bad_alloc();
  return memory;
}

constexpr uint32_t rotate(uint32_t value, unsigned bits) { return value << bits | value >> (32 - bits); }

}  // namespace

uint32_t client_hash(const Client& client) {  // lookup3's final mix is all that eight bytes get
  const uint64_t key = pack(client);
  constexpr uint32_t kStart = 0xdeadbeefu + 8 + 0xfee1900du;
  uint32_t a = kStart + static_cast<uint32_t>(key), b = kStart + static_cast<uint32_t>(key >> 32), c = kStart;
  c = (c ^ b) - rotate(b, 14);
  a = (a ^ c) - rotate(c, 11);
  b = (b ^ a) - rotate(a, 25);
  c = (c ^ b) - rotate(b, 16);
  a = (a ^ c) - rotate(c, 4);
  b = (b ^ a) - rotate(a, 14);
  return (c ^ b) - rotate(b, 24);
}

class ServiceSlots::Lock {
 public:
  explicit Lock(std::atomic_flag& flag) : flag_(flag) {
    while (flag_.test_and_set(std::memory_order_acquire))
      while (flag_.test(std::memory_order_relaxed)) _mm_pause();
  }
  ~Lock() { flag_.clear(std::memory_order_release); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  std::atomic_flag& flag_;
};

ServiceSlots::ServiceSlots(SlotTimeouts timeouts, uint64_t secret)
    : timeouts_(timeouts), secret_(secret), slots_(zeroed<Slot>(kCount)), heads_(zeroed<uint16_t>(kHeads)) {
  static_assert(sizeof(Slot) == 16 && std::is_trivially_destructible_v<Slot>);
}

uint16_t& ServiceSlots::head_of(uint64_t client) const {
  const auto product = static_cast<unsigned __int128>(client ^ secret_) * (0x9e3779b97f4a7c15u ^ secret_ << 1);
  return heads_[static_cast<uint16_t>(product >> 56)];
}

std::optional<uint16_t> ServiceSlots::find(uint64_t client) const {
  for (uint16_t at = head_of(client); at; at = slots_[at - 1].next)
    if (slots_[at - 1].client.load(std::memory_order_relaxed) == client) return static_cast<uint16_t>(at - 1);
  return std::nullopt;
}

std::optional<uint32_t> ServiceSlots::remaining(const Slot& slot, uint32_t now) const {
  if (!slot.client.load(std::memory_order_relaxed)) return std::nullopt;
  const uint32_t timeout =
      slot.established.load(std::memory_order_relaxed) ? timeouts_.established : timeouts_.transient;
  // Another worker's clock may be ahead.
  const auto idle =
      static_cast<uint32_t>(std::max(static_cast<int32_t>(now - slot.last_used.load(std::memory_order_relaxed)), 0));
  if (idle > timeout) return std::nullopt;
  return timeout - idle;
}

void ServiceSlots::link(uint16_t index, uint64_t client, uint32_t now) {
  Slot& slot = slots_[index];
  uint16_t& head = head_of(client);
  slot.last_used.store(now, std::memory_order_relaxed);
  slot.established.store(false, std::memory_order_relaxed);
  slot.handshake.store(kNothing, std::memory_order_relaxed);
  slot.next = std::exchange(head, static_cast<uint16_t>(index + 1));
  slot.client.store(client, std::memory_order_release);
  used_.fetch_add(1, std::memory_order_relaxed);
  last_ = index;
}

void ServiceSlots::unlink(uint16_t index) {
  Slot& slot = slots_[index];
  const uint64_t client = slot.client.exchange(0, std::memory_order_relaxed);
  uint16_t* at = &head_of(client);
  while (*at != index + 1) at = &slots_[*at - 1].next;
  *at = slot.next;
  used_.fetch_sub(1, std::memory_order_relaxed);
  full_ = false;
}

std::optional<uint16_t> ServiceSlots::first_free(uint32_t now, uint32_t& soonest) const {
  soonest = UINT32_MAX;
  for (uint32_t step = 1; step <= kCount; ++step) {
    const auto index = static_cast<uint16_t>((last_ + step) % kCount);
    const auto left = remaining(slots_[index], now);
    if (!left) return index;
    soonest = std::min(soonest, *left);
  }
  return std::nullopt;
}

bool ServiceSlots::known_to_be_full(uint32_t now) const {
  return full_ && closed_.load(std::memory_order_acquire) == full_at_closed_ &&
         static_cast<int32_t>(now - full_until_) <= 0;
}

std::optional<ServiceSlots::Assigned> ServiceSlots::assign(const Client& client, uint32_t now) {
  if (!has_address(client)) return std::nullopt;
  const uint64_t packed = pack(client);
  Lock lock(lock_);
  if (const auto known = find(packed)) {
    Slot& slot = slots_[*known];
    if (!remaining(slot, now)) {  // another connection
      slot.established.store(false, std::memory_order_relaxed);
      if (slot.handshake.load(std::memory_order_relaxed) != kTaken)
        slot.handshake.store(kNothing, std::memory_order_relaxed);
    }
    slot.last_used.store(now, std::memory_order_relaxed);
    return Assigned{*known, false};
  }
  if (known_to_be_full(now)) return std::nullopt;
  const uint32_t closed = closed_.load(std::memory_order_acquire);
  uint32_t soonest = 0;
  if (const auto free = first_free(now, soonest)) {
    if (slots_[*free].client.load(std::memory_order_relaxed)) unlink(*free);
    link(*free, packed, now);
    return Assigned{*free, true};
  }
  full_ = true;
  full_until_ = now + soonest;
  full_at_closed_ = closed;
  return std::nullopt;
}

std::optional<uint16_t> ServiceSlots::peek(const Client& client, uint32_t now) const {
  if (!has_address(client)) return std::nullopt;
  Lock lock(lock_);
  if (const auto known = find(pack(client))) return known;
  uint32_t soonest = 0;
  return known_to_be_full(now) ? std::nullopt : first_free(now, soonest);
}

bool ServiceSlots::take(uint16_t slot, const Client& client, uint32_t now) {
  if (slot >= kCount || !has_address(client)) return false;
  const uint64_t packed = pack(client);
  Lock lock(lock_);
  if (const auto former = find(packed)) unlink(*former);
  if (slots_[slot].client.load(std::memory_order_relaxed)) unlink(slot);
  link(slot, packed, now);
  slots_[slot].handshake.store(kTaken, std::memory_order_relaxed);
  return true;
}

std::optional<Client> ServiceSlots::client_of(uint16_t slot) const {
  if (slot >= kCount) return std::nullopt;
  const uint64_t client = slots_[slot].client.load(std::memory_order_acquire);
  if (!client) return std::nullopt;
  return unpack(client);
}

void ServiceSlots::touch(uint16_t slot, const Client& client, uint32_t now, bool established) {
  // Should another client get the slot just now, it is idle for a little longer than it is.
  if (slot >= kCount || slots_[slot].client.load(std::memory_order_acquire) != pack(client)) return;
  Slot& touched = slots_[slot];
  // Most packets change neither: no store, so that workers do not pass the cache line to and fro.
  if (touched.last_used.load(std::memory_order_relaxed) != now) touched.last_used.store(now, std::memory_order_relaxed);
  if (touched.established.load(std::memory_order_relaxed) == established) return;
  if (touched.established.exchange(established, std::memory_order_relaxed) && !established)
    closed_.fetch_add(1, std::memory_order_release);
}

void ServiceSlots::track(uint16_t slot, const Client& client, uint32_t now, uint8_t tcp_flags) {
  constexpr uint8_t kFinFlag = 0x01, kSynFlag = 0x02, kRstFlag = 0x04, kAckFlag = 0x10;
  if (slot >= kCount || slots_[slot].client.load(std::memory_order_acquire) != pack(client)) return;
  std::atomic<uint8_t>& handshake = slots_[slot].handshake;
  const uint8_t seen = handshake.load(std::memory_order_relaxed);
  const uint8_t flags = tcp_flags & (kFinFlag | kSynFlag | kRstFlag | kAckFlag);
  uint8_t next = seen;
  if (flags & (kFinFlag | kRstFlag)) {
    next = kNothing;
  } else if ((seen == kNothing || seen == kTaken) && flags == kSynFlag) {
    next = kSyn;
  } else if (seen == kSyn && flags == (kSynFlag | kAckFlag)) {
    next = kSynAck;
  } else if ((seen == kSynAck || seen == kTaken) && flags == kAckFlag) {
    next = kOpen;
  }
  if (next != seen) handshake.store(next, std::memory_order_relaxed);
  touch(slot, client, now, next == kOpen);
}

bool ServiceSlots::release(uint16_t slot, const Client& client) {
  if (slot >= kCount || !has_address(client)) return false;
  Lock lock(lock_);
  if (slots_[slot].client.load(std::memory_order_relaxed) != pack(client)) return false;
  unlink(slot);
  return true;
}

size_t ServiceSlots::release_interface(uint16_t vf_port) {
  constexpr uint16_t kPart = 1024;
  static_assert(kCount % kPart == 0);
  size_t released = 0;
  for (uint16_t part = 0; part < kCount; part = static_cast<uint16_t>(part + kPart)) {
    Lock lock(lock_);
    for (auto slot = part; slot < part + kPart; ++slot) {
      const auto client = client_of(slot);
      if (!client || client->vf_port != vf_port) continue;
      unlink(slot);
      ++released;
    }
  }
  return released;
}

}  // namespace ironcore::virtsvc
