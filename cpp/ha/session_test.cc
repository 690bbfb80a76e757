// Two sessions and a bad wire between them: whatever is lost, repeated or reordered, in the end both know the same.
#include "ha/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "ha/mapping.h"

namespace ironcore::ha {
namespace {

// Connections are numbers here.
Connection connection(uint16_t number, uint8_t state) {
  Connection made;
  made.id.key.family = 4;
  made.id.key.proto = 6;
  made.id.key.src_port = number;
  made.state.tcp.state = static_cast<TcpState>(state % 7);
  return made;
}

struct Tables final : Source {
  static constexpr size_t kQueue = 64;
  std::map<uint16_t, uint8_t> now;
  std::deque<Record> queue;
  uint64_t lost = 0;

  void set(uint16_t number, uint8_t state) {
    now[number] = static_cast<uint8_t>(state % 7);
    push(Put{connection(number, state)});
  }
  void erase(uint16_t number) {
    if (now.erase(number)) push(Gone{connection(number, 0).id, {}});
  }
  void push(const Record& record) { queue.size() < kQueue ? queue.push_back(record) : void(++lost); }
  bool take(Record& change) override {
    if (queue.empty()) return false;
    change = queue.front();
    queue.pop_front();
    return true;
  }
  bool dump(uint64_t& cursor, std::vector<Record>& part) override {
    auto next = now.lower_bound(static_cast<uint16_t>(cursor));
    for (int i = 0; i < 40 && next != now.end(); ++i, ++next) {
      part.push_back(Put{connection(next->first, next->second)});
      cursor = next->first + 1u;
    }
    return next != now.end();
  }
  uint64_t dropped() const override { return lost; }
};

struct Copy final : Sink {
  std::map<uint16_t, uint8_t> now;
  std::set<uint16_t> untold;
  std::vector<Message> messages;

  void apply(const Record& record) override {
    if (const auto* put = std::get_if<Put>(&record)) {
      const auto& [id, state] = put->connection;
      now[id.key.src_port] = static_cast<uint8_t>(state.tcp.state);
      untold.erase(id.key.src_port);
    } else if (const auto* gone = std::get_if<Gone>(&record)) {
      now.erase(gone->id.key.src_port);
    } else if (const auto* mac = std::get_if<PortMac>(&record)) {
      messages.emplace_back(*mac);
    } else if (std::holds_alternative<DumpBegin>(record)) {
      untold.clear();
      for (const auto& [number, state] : now) untold.insert(number);
    } else if (std::holds_alternative<DumpEnd>(record)) {
      for (const uint16_t number : untold) now.erase(number);
    }
  }
  void apply(const NatCreate& message) override { messages.emplace_back(message); }
  void apply(const NatDelete& message) override { messages.emplace_back(message); }
};

// One direction of the wire.
struct Wire {
  std::mt19937_64& random;
  double loss = 0, repeat = 0, reorder = 0;
  std::deque<Frame> frames{};

  bool chance(double p) { return std::uniform_real_distribution<>()(random) < p; }
  bool send(Bytes frame) {
    if (chance(loss)) return true;
    const Frame copy(frame.begin(), frame.end());
    for (int copies = chance(repeat) ? 2 : 1; copies > 0; --copies) {
      const size_t back = chance(reorder) ? random() % (frames.size() + 1) : 0;
      frames.insert(frames.end() - static_cast<ptrdiff_t>(back), copy);
    }
    return true;
  }
  void deliver(Session& to, uint64_t now) {
    // Some stay on the way.
    for (size_t count = frames.size() ? random() % (frames.size() + 1) : 0; count > 0; --count) {
      const Frame frame = frames.front();
      frames.pop_front();
      to.receive(frame, now);
    }
  }
};

struct Pair {
  explicit Pair(uint64_t seed) : random(seed) { start_standby(); }

  void start_standby() {
    copy = Copy{};
    standby = std::make_unique<Session>(random() | 1, Role::kStandby, nothing, copy);
  }
  void start_active() { active = std::make_unique<Session>(random() | 1, Role::kActive, tables, no_copy); }
  void round() {
    ++now;
    active->poll(now, [&](Bytes frame) { return forth.send(frame); });
    forth.deliver(*standby, now);
    standby->poll(now, [&](Bytes frame) { return back.send(frame); });
    back.deliver(*active, now);
  }
  bool settle(uint64_t rounds) {
    for (const uint64_t end = now + rounds; now < end;) {
      round();
      if (active->in_sync(now) && tables.queue.empty()) return true;
    }
    return false;
  }
  void change() {
    const auto number = static_cast<uint16_t>(random() % 3000);
    random() % 3 ? tables.set(number, static_cast<uint8_t>(random())) : tables.erase(number);
  }

  std::mt19937_64 random;
  Wire forth{random}, back{random};
  Tables tables, nothing;
  Copy copy, no_copy;
  std::unique_ptr<Session> active = std::make_unique<Session>(random() | 1, Role::kActive, tables, no_copy);
  std::unique_ptr<Session> standby;
  uint64_t now = 1'000'000;
};

class BadWire : public ::testing::TestWithParam<uint64_t> {};

TEST_P(BadWire, BothKnowTheSameInTheEnd) {
  Pair pair(GetParam());
  for (Wire* wire : {&pair.forth, &pair.back}) {
    wire->loss = static_cast<double>(pair.random() % 40) / 100;
    wire->repeat = static_cast<double>(pair.random() % 30) / 100;
    wire->reorder = static_cast<double>(pair.random() % 30) / 100;
  }
  for (int number = 0; number < 500; ++number) pair.change();
  const double loss = pair.forth.loss;
  for (int round = 0; round < 12'000; ++round) {
    for (uint64_t changes = pair.random() % 3; changes > 0; --changes) pair.change();
    if (pair.random() % 2000 == 0) {  // more than the queue holds
      for (size_t i = 0; i < 2 * Tables::kQueue; ++i) pair.change();
    }
    if (pair.random() % 4000 == 0) pair.start_standby();
    if (pair.random() % 4000 == 0) pair.start_active();
    if (pair.random() % 4000 == 0) pair.forth.loss = pair.back.loss = 1;  // unplugged
    if (pair.random() % 1000 == 0) pair.forth.loss = pair.back.loss = loss;
    pair.round();
  }
  pair.forth.loss = pair.back.loss = loss;
  // The silence of a former active or standby ends, greetings become as rare as 64 s.
  EXPECT_TRUE(pair.settle(200'000));
  EXPECT_EQ(pair.copy.now, pair.tables.now);
  EXPECT_GT(pair.active->counters().sent[index_of(MessageType::kData)] +
                pair.standby->counters().received[index_of(MessageType::kData)],
            0u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, BadWire, ::testing::Range<uint64_t>(1, 25));

TEST(Session, AGoodWireRepeatsNothing) {
  Pair pair(1);
  for (uint16_t number = 0; number < 20'000; ++number) pair.tables.now[number] = 3;
  ASSERT_TRUE(pair.settle(5000));
  EXPECT_EQ(pair.copy.now, pair.tables.now);
  EXPECT_EQ(pair.active->counters().resent, 0u);
  EXPECT_EQ(pair.active->counters().resyncs, 1u);
  EXPECT_EQ(pair.active->counters().lost, 0u);
  EXPECT_EQ(pair.standby->counters().gaps, 0u);
  EXPECT_TRUE(pair.standby->in_sync(pair.now));
}

TEST(Session, LostChangesAreCountedAndMadeUpFor) {
  Pair pair(1);
  ASSERT_TRUE(pair.settle(5000));
  for (uint16_t number = 0; number < Tables::kQueue + 10; ++number) pair.tables.set(number, 1);
  ASSERT_TRUE(pair.settle(5000));
  EXPECT_EQ(pair.active->counters().lost, 10u);
  EXPECT_EQ(pair.active->counters().resyncs, 2u);
  EXPECT_EQ(pair.copy.now, pair.tables.now);
}

TEST(Session, ASilentPeerIsToldAgainWhenItIsBack) {
  Pair pair(1);
  pair.tables.set(1, 1);
  ASSERT_TRUE(pair.settle(5000));
  pair.forth.loss = pair.back.loss = 1;
  for (int round = 0; round < 10'000; ++round) {
    pair.tables.set(static_cast<uint16_t>(round % 1000), 2);
    pair.round();
  }
  EXPECT_FALSE(pair.active->in_sync(pair.now));
  pair.tables.erase(1);
  pair.forth.loss = pair.back.loss = 0;
  ASSERT_TRUE(pair.settle(70'000));
  EXPECT_EQ(pair.copy.now, pair.tables.now);
  EXPECT_GE(pair.active->counters().resyncs, 2u);
}

// --- A peer that knows only the reference's messages ---

struct Alone {
  Tables tables;
  Copy copy;
  std::vector<Message> sent;
  std::vector<Frame> frames;

  void poll(Session& session, uint64_t now) {
    session.poll(now, [&](Bytes frame) {
      frames.emplace_back(frame.begin(), frame.end());
      sent.push_back(*decode(frame));
      return true;
    });
  }
  template <typename T>
  size_t count() const {
    return static_cast<size_t>(std::count_if(
        sent.begin(), sent.end(), [](const Message& message) { return std::holds_alternative<T>(message); }));
  }
};

Connection with_nat(uint16_t port, uint16_t nat_port) {
  Connection made;
  made.id.vni = 100;
  made.id.port = 3;
  made.id.key.family = 4;
  made.id.key.proto = 17;
  made.id.key.src_port = net::swap16(port);
  made.id.key.dst_port = net::swap16(53);
  set_source(made.id.key, IpAddress::v4({10, 0, 0, 1}));
  set_destination(made.id.key, IpAddress::v4({8, 8, 8, 8}));
  made.state.nat = NatBinding{IpAddress::v4({203, 0, 113, 1}), nat_port};
  return made;
}

TEST(Session, AStandbyAsksOnceForEverything) {
  Alone alone;
  Session session(1, Role::kStandby, alone.tables, alone.copy);
  for (uint64_t now = 0; now < 200'000; ++now) alone.poll(session, now);
  EXPECT_EQ(alone.count<DumpRequest>(), 1u);
  EXPECT_EQ(alone.count<Hello>(), alone.sent.size() - 1);
  EXPECT_LE(alone.count<Hello>(), 9u);  // a peer that logs what it does not know is not flooded
}

TEST(Session, AnActiveSpeaksTheReferencesLanguageToOthers) {
  Alone alone;
  Session session(1, Role::kActive, alone.tables, alone.copy);
  const Connection udp = with_nat(1000, 2000);
  const NatMapping mapping = mapping_of(udp.id, *udp.state.nat);
  alone.tables.push(Put{udp});
  alone.tables.push(Put{udp, true});         // nothing that such a peer knows
  alone.tables.push(Put{connection(1, 1)});  // nor this
  alone.tables.push(PortMac{4, {2, 0, 0, 0, 0, 1}});
  alone.tables.push(Gone{udp.id, udp.state.nat});
  alone.tables.push(Gone{connection(1, 1).id, {}});
  alone.poll(session, 1);
  ASSERT_EQ(alone.sent.size(), 4u);
  EXPECT_TRUE(std::holds_alternative<Hello>(alone.sent[0]));
  EXPECT_EQ(std::get<NatCreate>(alone.sent[1]), (NatCreate{mapping, 3, 0, 0}));
  EXPECT_EQ(std::get<PortMac>(alone.sent[2]), (PortMac{4, {2, 0, 0, 0, 0, 1}}));
  EXPECT_EQ(std::get<NatDelete>(alone.sent[3]), NatDelete{mapping});
}

TEST(Session, AnActiveTellsOthersEverythingWhenAsked) {
  struct Mappings final : Source {
    bool take(Record&) override { return false; }
    bool dump(uint64_t& cursor, std::vector<Record>& part) override {
      for (const uint64_t end = cursor + 30; cursor < end; ++cursor)
        part.push_back(Put{with_nat(static_cast<uint16_t>(cursor), static_cast<uint16_t>(cursor))});
      return cursor < 300;
    }
    uint64_t dropped() const override { return 0; }
  } mappings;
  Alone alone;
  Session session(1, Role::kActive, mappings, alone.copy);
  alone.poll(session, 1);
  EXPECT_EQ(alone.count<NatCreate>(), 0u);
  session.receive(encode(DumpRequest{}), 2);
  for (uint64_t now = 2; now < 20; ++now) alone.poll(session, now);
  EXPECT_EQ(alone.count<NatCreate>(), 300u);
  // No more than a round's share at once.
  EXPECT_EQ(session.counters().resyncs, 1u);
}

TEST(Session, WhatDoesNotFitTheRoleIsCountedAndIgnored) {
  Alone alone;
  const NatMapping mapping = mapping_of(with_nat(1, 1).id, *with_nat(1, 1).state.nat);
  Session active(1, Role::kActive, alone.tables, alone.copy);
  active.receive(encode(NatCreate{mapping, 3, 0, 0}), 1);
  active.receive(encode(NatDelete{mapping}), 1);
  active.receive(encode(ServiceSlot{}), 1);
  active.receive(encode(PortMac{}), 1);
  active.receive(encode(Data{1, 1, 1, 0, {}}), 1);
  EXPECT_EQ(active.counters().wrong_role, 5u);
  Session standby(1, Role::kStandby, alone.tables, alone.copy);
  standby.receive(encode(DumpRequest{}), 1);
  EXPECT_EQ(standby.counters().wrong_role, 1u);
  EXPECT_TRUE(alone.copy.messages.empty());

  Frame unknown = encode(DumpRequest{});
  unknown[14] = 0x42;
  Frame cut = encode(PortMac{});
  cut.pop_back();
  standby.receive(unknown, 1);
  standby.receive(cut, 1);
  EXPECT_EQ(standby.counters().unknown, 1u);
  EXPECT_EQ(standby.counters().malformed, 1u);
}

TEST(Session, AStandbyTakesTheReferencesMessages) {
  Alone alone;
  Session session(1, Role::kStandby, alone.tables, alone.copy);
  const NatMapping mapping = mapping_of(with_nat(1, 1).id, *with_nat(1, 1).state.nat);
  session.receive(encode(NatCreate{mapping, 3, 0, 7}), 1);
  session.receive(encode(PortMac{4, {2}}), 1);
  session.receive(encode(NatDelete{mapping}), 1);
  ASSERT_EQ(alone.copy.messages.size(), 3u);
  EXPECT_EQ(std::get<NatCreate>(alone.copy.messages[0]), (NatCreate{mapping, 3, 0, 7}));
  EXPECT_EQ(std::get<PortMac>(alone.copy.messages[1]), (PortMac{4, {2}}));
  EXPECT_EQ(std::get<NatDelete>(alone.copy.messages[2]), NatDelete{mapping});
}

TEST(Session, APeerOfAnotherVersionIsTreatedAsTheReference) {
  Alone alone;
  Session session(1, Role::kActive, alone.tables, alone.copy);
  session.receive(encode(Hello{2, Role::kStandby, 5, 0, 0, 0}), 1);
  alone.tables.push(Put{with_nat(1, 1)});
  alone.poll(session, 1);
  EXPECT_EQ(alone.count<Data>(), 0u);
  EXPECT_EQ(alone.count<NatCreate>(), 1u);
}

}  // namespace
}  // namespace ironcore::ha
