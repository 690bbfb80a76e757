#include "virtsvc/slots.h"

#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace ironcore::virtsvc {
namespace {

constexpr SlotTimeouts kTimeouts = SlotTimeouts::of(1);
constexpr uint64_t kSecret = 0x1234'5678'9abc'def1;
constexpr uint16_t kCount = ServiceSlots::kCount;

Client client(unsigned number, uint16_t vf_port = 5) {
  return {vf_port, static_cast<uint16_t>(number), {10, 1, static_cast<uint8_t>(number >> 16), 3}};
}

std::optional<uint16_t> assign(ServiceSlots& slots, const Client& client, uint32_t now) {
  const auto peeked = slots.peek(client, now);
  const auto assigned = slots.assign(client, now);
  const auto slot = assigned ? std::optional(assigned->slot) : std::nullopt;
  EXPECT_EQ(slot, peeked);
  return slot;
}

// Assigns slots 1, 2 .. kCount-1, 0 to the clients 1, 2 .. kCount.
void fill(ServiceSlots& slots, uint32_t now) {
  for (unsigned i = 1; i <= kCount; ++i) ASSERT_EQ(assign(slots, client(i), now), i % kCount);
}

TEST(VirtualServiceSlots, HashIsTheReferences) {
  EXPECT_EQ(client_hash({5, 40000, {10, 1, 2, 3}}), 0x1ef5060au);
  EXPECT_EQ(client_hash({5, 40000, {10, 1, 2, 3}}) % 10, 6u);
}

TEST(VirtualServiceSlots, PortsOfSlots) {
  EXPECT_EQ(ServiceSlots::port_of(0), 1024);
  EXPECT_EQ(ServiceSlots::port_of(kCount - 1), 65535);
  EXPECT_EQ(ServiceSlots::slot_of(1024), 0);
  EXPECT_EQ(ServiceSlots::slot_of(65535), kCount - 1);
  EXPECT_EQ(ServiceSlots::slot_of(1023), std::nullopt);
}

TEST(VirtualServiceSlots, TimeoutsInUnits) {
  EXPECT_EQ(SlotTimeouts::of(10).transient, 300u);
  EXPECT_EQ(SlotTimeouts::of(10).established, 864'000u);
}

TEST(VirtualServiceSlots, StartsAtSlotOneAndGoesRound) {
  ServiceSlots slots(kTimeouts, kSecret);
  EXPECT_EQ(slots.used(), 0u);
  fill(slots, 0);
  EXPECT_EQ(slots.used(), kCount);
  EXPECT_EQ(assign(slots, client(kCount + 1), 0), std::nullopt);
  EXPECT_EQ(slots.used(), kCount);
}

TEST(VirtualServiceSlots, AClientKeepsItsSlot) {
  ServiceSlots slots(kTimeouts, kSecret);
  EXPECT_EQ(assign(slots, client(1), 0), 1);
  EXPECT_EQ(assign(slots, client(2), 0), 2);
  EXPECT_EQ(assign(slots, client(1), 1), 1);
  EXPECT_EQ(assign(slots, client(1, 6), 1), 3);     // the same on another VM's port
  EXPECT_EQ(assign(slots, client(1), 100'000), 1);  // idle for long, but nobody took the slot
  EXPECT_EQ(slots.used(), 3u);
  EXPECT_EQ(slots.client_of(2), client(2));
  EXPECT_EQ(slots.client_of(4), std::nullopt);
  EXPECT_EQ(slots.client_of(kCount), std::nullopt);
}

// Whether the slot of client 1 is still held so long after these segments that only an open connection keeps it.
bool open_after(const std::vector<uint8_t>& segments) {
  ServiceSlots slots(kTimeouts, kSecret);
  fill(slots, 0);
  for (const uint8_t flags : segments) slots.track(1, client(1), 0, flags);
  for (unsigned i = 2; i <= kCount; ++i) slots.touch(static_cast<uint16_t>(i % kCount), client(i), 31, false);
  return !assign(slots, client(kCount + 1), 31);
}

TEST(VirtualServiceSlots, TheHandshakeOpensAndFinOrResetCloses) {
  constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kPush = 8, kAck = 16, kEce = 64, kCwr = 128;
  EXPECT_TRUE(open_after({kSyn, kSyn | kAck, kAck}));
  EXPECT_TRUE(open_after({kSyn | kEce | kCwr, kSyn | kAck | kEce, kAck | kPush}));
  EXPECT_TRUE(open_after({kSyn, kSyn, kSyn | kAck, kAck, kAck, kSyn}));
  EXPECT_FALSE(open_after({}));
  EXPECT_FALSE(open_after({kAck}));
  EXPECT_FALSE(open_after({kSyn, kAck}));
  EXPECT_FALSE(open_after({kSyn, kSyn | kAck}));
  EXPECT_FALSE(open_after({kSyn, kSyn | kAck, kAck, kFin | kAck}));
  EXPECT_FALSE(open_after({kSyn, kSyn | kAck, kAck, kRst}));
  EXPECT_FALSE(open_after({kSyn, kSyn | kAck, kRst, kAck}));
  EXPECT_TRUE(open_after({kSyn, kSyn | kAck, kAck, kRst, kSyn, kSyn | kAck, kAck}));
}

// As above, but of a connection that the peer of an HA pair began.
bool taken_is_open_after(const std::vector<uint8_t>& segments) {
  ServiceSlots slots(kTimeouts, kSecret);
  fill(slots, 0);
  EXPECT_TRUE(slots.take(1, client(1), 0));
  for (const uint8_t flags : segments) slots.track(1, client(1), 0, flags);
  for (unsigned i = 2; i <= kCount; ++i) slots.touch(static_cast<uint16_t>(i % kCount), client(i), 31, false);
  return !assign(slots, client(kCount + 1), 31);
}

TEST(VirtualServiceSlots, AConnectionThatThePeerBeganGoesOn) {
  constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kPush = 8, kAck = 16;
  EXPECT_FALSE(taken_is_open_after({}));
  EXPECT_TRUE(taken_is_open_after({kAck}));
  EXPECT_TRUE(taken_is_open_after({kAck | kPush}));
  EXPECT_TRUE(taken_is_open_after({kSyn | kAck, kAck}));
  EXPECT_TRUE(taken_is_open_after({kSyn, kSyn | kAck, kAck}));
  EXPECT_FALSE(taken_is_open_after({kSyn, kAck}));
  EXPECT_FALSE(taken_is_open_after({kSyn | kAck}));
  EXPECT_FALSE(taken_is_open_after({kFin | kAck, kAck}));
  EXPECT_FALSE(taken_is_open_after({kRst, kAck}));
  EXPECT_FALSE(taken_is_open_after({kAck, kFin | kAck}));
}

TEST(VirtualServiceSlots, AConnectionThatThePeerBeganGoesOnAfterLongSilence) {
  ServiceSlots slots(kTimeouts, kSecret);
  ASSERT_TRUE(slots.take(1, client(1), 0));
  EXPECT_EQ(assign(slots, client(1), 1000), 1);
  slots.track(1, client(1), 1000, 16);
  ASSERT_TRUE(slots.take(0, client(2), 2000));  // the search starts at slot 1
  EXPECT_EQ(assign(slots, client(3), 2000), 2);
}

TEST(VirtualServiceSlots, TellsWhoIsNew) {
  ServiceSlots slots(kTimeouts, kSecret);
  EXPECT_TRUE(slots.assign(client(1), 0)->is_new);
  EXPECT_FALSE(slots.assign(client(1), 0)->is_new);
  EXPECT_FALSE(slots.assign(client(1), 1000)->is_new);
  EXPECT_TRUE(slots.release(1, client(1)));
  EXPECT_TRUE(slots.assign(client(1), 1000)->is_new);
}

TEST(VirtualServiceSlots, PeekingChangesNothing) {
  ServiceSlots slots(kTimeouts, kSecret);
  EXPECT_EQ(slots.peek(client(1), 0), 1);
  EXPECT_EQ(slots.peek(client(2), 0), 1);
  EXPECT_EQ(slots.used(), 0u);
  ASSERT_EQ(assign(slots, client(1), 0), 1);
  EXPECT_EQ(slots.peek(client(1), 29), 1);
  EXPECT_EQ(slots.peek({5, 40000, {}}, 0), std::nullopt);
  ASSERT_TRUE(slots.take(0, client(2), 31));
  EXPECT_EQ(assign(slots, client(3), 31), 1);  // peeking was no use of it
}

TEST(VirtualServiceSlots, SegmentsOfOthersOpenNothing) {
  ServiceSlots slots(kTimeouts, kSecret);
  fill(slots, 0);
  for (const uint8_t flags : {2, 18, 16}) slots.track(1, client(2), 0, flags);
  for (const uint8_t flags : {2, 18, 16}) slots.track(kCount, client(1), 0, flags);
  EXPECT_EQ(assign(slots, client(kCount + 1), 31), 1);
}

TEST(VirtualServiceSlots, NobodyHasTheUnspecifiedAddress) {
  ServiceSlots slots(kTimeouts, kSecret);
  EXPECT_EQ(assign(slots, {5, 40000, {}}, 0), std::nullopt);
  EXPECT_FALSE(slots.take(3, {5, 40000, {}}, 0));
  EXPECT_FALSE(slots.release(0, {}));
  EXPECT_EQ(slots.used(), 0u);
}

TEST(VirtualServiceSlots, IdleSlotIsReusedAfterItsTimeout) {
  ServiceSlots slots(kTimeouts, kSecret);
  fill(slots, 1000);
  for (uint16_t slot = 0; slot < kCount; ++slot)
    if (slot != 7 && slot != 9) slots.touch(slot, *slots.client_of(slot), 1100, false);
  slots.touch(9, client(9), 1000, true);
  EXPECT_EQ(assign(slots, client(kCount + 1), 1030), std::nullopt);
  EXPECT_EQ(slots.client_of(7), client(7));
  EXPECT_EQ(assign(slots, client(kCount + 1), 1031), 7);
  EXPECT_EQ(slots.client_of(7), client(kCount + 1));
  EXPECT_EQ(slots.used(), kCount);
  EXPECT_EQ(assign(slots, client(7), 1031), std::nullopt);  // its slot is another's now
}

TEST(VirtualServiceSlots, EstablishedConnectionsStayForADay) {
  ServiceSlots slots(kTimeouts, kSecret);
  fill(slots, 0);
  for (uint16_t slot = 0; slot < kCount; ++slot) slots.touch(slot, *slots.client_of(slot), 0, true);
  EXPECT_EQ(assign(slots, client(kCount + 1), 86'400), std::nullopt);
  EXPECT_EQ(assign(slots, client(kCount + 1), 86'401), 1);
  // The new client starts anew, with the short timeout.
  EXPECT_EQ(assign(slots, client(kCount + 2), 86'401), 2);
  EXPECT_EQ(assign(slots, client(kCount + 1), 86'401), 1);
}

TEST(VirtualServiceSlots, EndOfAConnectionIsNoticedThoughTheTableIsKnownToBeFull) {
  ServiceSlots slots(kTimeouts, kSecret);
  fill(slots, 0);
  for (uint16_t slot = 0; slot < kCount; ++slot) slots.touch(slot, *slots.client_of(slot), 0, true);
  EXPECT_EQ(assign(slots, client(kCount + 1), 40), std::nullopt);
  slots.touch(50, client(50), 40, false);  // FIN or RST
  EXPECT_EQ(assign(slots, client(kCount + 1), 70), std::nullopt);
  EXPECT_EQ(assign(slots, client(kCount + 1), 71), 50);
}

TEST(VirtualServiceSlots, TouchOfAFormerHolderHasNoEffect) {
  ServiceSlots slots(kTimeouts, kSecret);
  ASSERT_EQ(assign(slots, client(1), 0), 1);
  ASSERT_TRUE(slots.take(1, client(2), 0));
  slots.touch(1, client(1), 1000, true);
  slots.touch(kCount, client(1), 1000, true);
  ASSERT_TRUE(slots.take(0, client(3), 40));  // the search starts at slot 1
  EXPECT_EQ(assign(slots, client(4), 31), 1);
}

TEST(VirtualServiceSlots, SurvivesClocksThatWrapOrDiffer) {
  ServiceSlots slots(kTimeouts, kSecret);
  ASSERT_EQ(assign(slots, client(1), UINT32_MAX - 5), 1);
  ASSERT_TRUE(slots.take(0, client(2), UINT32_MAX - 5));
  EXPECT_EQ(assign(slots, client(3), 20), 2);  // 26 idle: slot 1 is not free
  ASSERT_TRUE(slots.take(0, client(2), 20));
  EXPECT_EQ(assign(slots, client(4), 25), 1);  // 31 idle
  ASSERT_TRUE(slots.take(0, client(2), 25));
  EXPECT_EQ(assign(slots, client(5), 20), 3);  // a worker that is behind: not idle for 2^32 seconds
}

TEST(VirtualServiceSlots, ReleaseFreesASlot) {
  ServiceSlots slots(kTimeouts, kSecret);
  fill(slots, 0);
  EXPECT_EQ(assign(slots, client(kCount + 1), 0), std::nullopt);
  EXPECT_FALSE(slots.release(30, client(31)));
  EXPECT_FALSE(slots.release(kCount, client(31)));
  EXPECT_TRUE(slots.release(30, client(30)));
  EXPECT_FALSE(slots.release(30, client(30)));
  EXPECT_EQ(slots.used(), kCount - 1u);
  EXPECT_EQ(assign(slots, client(kCount + 1), 0), 30);
}

TEST(VirtualServiceSlots, ReleaseOfAnInterfaceLeavesTheOthers) {
  ServiceSlots slots(kTimeouts, kSecret);
  for (unsigned i = 1; i <= 5000; ++i) ASSERT_TRUE(assign(slots, client(i, i % 3 ? 5 : 6), 0));
  EXPECT_EQ(slots.release_interface(6), 1666u);
  EXPECT_EQ(slots.release_interface(6), 0u);
  EXPECT_EQ(slots.used(), 3334u);
  for (unsigned i = 1; i <= 5000; ++i)
    EXPECT_EQ(slots.client_of(static_cast<uint16_t>(i)).has_value(), i % 3 != 0) << i;
  size_t seen = 0;
  slots.for_each([&](uint16_t slot, const Client& holder) {
    EXPECT_EQ(holder, client(slot));
    ++seen;
  });
  EXPECT_EQ(seen, 3334u);
}

TEST(VirtualServiceSlots, TakeMovesAClientAndPushesOutAnother) {
  ServiceSlots slots(kTimeouts, kSecret);
  ASSERT_EQ(assign(slots, client(1), 0), 1);
  ASSERT_EQ(assign(slots, client(2), 0), 2);
  EXPECT_TRUE(slots.take(2, client(1), 0));
  EXPECT_EQ(slots.client_of(2), client(1));
  EXPECT_EQ(slots.client_of(1), std::nullopt);
  EXPECT_EQ(slots.used(), 1u);
  EXPECT_EQ(assign(slots, client(1), 0), 2);
  EXPECT_EQ(assign(slots, client(2), 0), 3);  // goes on after the slot taken
  EXPECT_TRUE(slots.take(3, client(2), 0));   // again, as a full dump would
  EXPECT_EQ(slots.used(), 2u);
  EXPECT_FALSE(slots.take(kCount, client(4), 0));
}

// Slots without an index, searched one by one.
class Model {
 public:
  std::optional<uint16_t> assign(const Client& client, uint32_t now) {
    for (size_t slot = 0; slot < held_.size(); ++slot) {
      auto& held = held_[slot];
      if (!held || held->client != client) continue;
      if (expired(*held, now)) held->established = false;
      held->last_used = now;
      return static_cast<uint16_t>(slot);
    }
    for (uint32_t step = 1; step <= kCount; ++step) {
      const auto slot = static_cast<uint16_t>((last_ + step) % kCount);
      if (held_[slot] && !expired(*held_[slot], now)) continue;
      held_[slot] = {client, now, false};
      return last_ = slot;
    }
    return std::nullopt;
  }
  void take(uint16_t slot, const Client& client, uint32_t now) {
    for (auto& held : held_)
      if (held && held->client == client) held.reset();
    place(slot, client, now);
  }
  void place(uint16_t slot, const Client& client, uint32_t now) {
    held_[slot] = {client, now, false};
    last_ = slot;
  }
  void touch(uint16_t slot, const Client& client, uint32_t now, bool established) {
    if (holds(slot, client)) held_[slot] = {client, now, established};
  }
  bool release(uint16_t slot, const Client& client) {
    const bool held = holds(slot, client);
    if (held) held_[slot].reset();
    return held;
  }
  size_t release_interface(uint16_t vf_port) {
    size_t released = 0;
    for (auto& held : held_) {
      if (!held || held->client.vf_port != vf_port) continue;
      held.reset();
      ++released;
    }
    return released;
  }

  void expect_equal(const ServiceSlots& slots) const {
    size_t used = 0;
    for (uint16_t slot = 0; slot < kCount; ++slot) {
      const auto holder = slots.client_of(slot);
      ASSERT_EQ(holder, held_[slot] ? std::optional(held_[slot]->client) : std::nullopt) << slot;
      used += holder.has_value();
    }
    EXPECT_EQ(slots.used(), used);
  }

 private:
  struct Held {
    Client client;
    uint32_t last_used;
    bool established;
  };

  static bool expired(const Held& held, uint32_t now) {
    return now - held.last_used > (held.established ? kTimeouts.established : kTimeouts.transient);
  }
  bool holds(uint16_t slot, const Client& client) const { return held_[slot] && held_[slot]->client == client; }

  std::vector<std::optional<Held>> held_ = std::vector<std::optional<Held>>(kCount);
  uint16_t last_ = 0;
};

TEST(VirtualServiceSlots, BehavesAsTheModel) {
  std::mt19937 random(3);
  for (int round = 0; round < 10; ++round) {
    ServiceSlots slots(kTimeouts, random());
    Model model;
    uint32_t now = random();
    // Near the end of the ring, so that it wraps.
    const auto start = static_cast<uint16_t>(kCount - 1 - random() % 50);
    ASSERT_TRUE(slots.take(start, client(1), now));
    model.take(start, client(1), now);
    for (int step = 0; step < 1000; ++step) {
      now += random() % 20 ? 0 : random() % 20;
      const Client some = client(1 + random() % 120, static_cast<uint16_t>(random() % 3));
      const auto slot = static_cast<uint16_t>((start + random() % 150) % kCount);
      const unsigned what = random() % 100;
      if (what < 50) {
        ASSERT_EQ(assign(slots, some, now), model.assign(some, now));
      } else if (what < 80) {
        const Client holder = slots.client_of(slot).value_or(some);
        const bool established = random() % 2;
        slots.touch(slot, holder, now, established);
        model.touch(slot, holder, now, established);
      } else if (what < 90) {
        const Client holder = slots.client_of(slot).value_or(some);
        ASSERT_EQ(slots.release(slot, holder), model.release(slot, holder));
      } else if (what < 99) {
        ASSERT_TRUE(slots.take(slot, some, now));
        model.take(slot, some, now);
      } else {
        ASSERT_EQ(slots.release_interface(some.vf_port), model.release_interface(some.vf_port));
      }
    }
    model.expect_equal(slots);
  }
}

// A nearly full table under churn: what is remembered about a full table never hides a free slot.
TEST(VirtualServiceSlots, BehavesAsTheModelWhenFull) {
  std::mt19937 random(4);
  ServiceSlots slots(kTimeouts, kSecret);
  Model model;
  fill(slots, 0);
  for (unsigned i = 1; i <= kCount; ++i) model.place(static_cast<uint16_t>(i % kCount), client(i), 0);
  for (uint16_t slot = 0; slot < kCount; ++slot) {
    const Client holder = *slots.client_of(slot);
    const bool established = slot % 500 != 0;
    slots.touch(slot, holder, slot % 7, established);
    model.touch(slot, holder, slot % 7, established);
  }
  unsigned refused = 0, given = 0;
  uint32_t now = 7;
  for (int step = 0; step < 1500; ++step) {
    now += random() % 10 ? 0 : 1;
    if (random() % 3) {
      const Client fresh = client(kCount + 1 + static_cast<unsigned>(step));
      const auto slot = assign(slots, fresh, now);
      ASSERT_EQ(slot, model.assign(fresh, now)) << step;
      slot ? ++given : ++refused;
    } else {
      const auto slot = static_cast<uint16_t>(random() % 1000);
      const Client holder = *slots.client_of(slot);
      const bool established = random() % 3;
      slots.touch(slot, holder, now, established);
      model.touch(slot, holder, now, established);
    }
  }
  EXPECT_GT(refused, 100u);
  EXPECT_GT(given, 100u);
  model.expect_equal(slots);
}

TEST(VirtualServiceSlots, ThreadsNeverShareASlot) {
  ServiceSlots slots(kTimeouts, kSecret);
  constexpr unsigned kThreads = 4, kEach = 12'000;
  std::vector<std::vector<uint16_t>> got(kThreads);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (unsigned i = 0; i < kEach; ++i) {
        const Client mine = client(i, static_cast<uint16_t>(t));
        const auto assigned = slots.assign(mine, 0);
        if (!assigned) return;  // fewer than expected below
        slots.touch(assigned->slot, mine, 1, i % 2);
        if (slots.client_of(assigned->slot) == mine) got[t].push_back(assigned->slot);
        if (i % 1000 == 999) slots.release_interface(100);
      }
    });
  for (std::thread& thread : threads) thread.join();
  std::set<uint16_t> all;
  for (const auto& mine : got) all.insert(mine.begin(), mine.end());
  EXPECT_EQ(all.size(), kThreads * kEach);
  EXPECT_EQ(slots.used(), kThreads * kEach);
}

}  // namespace
}  // namespace ironcore::virtsvc
