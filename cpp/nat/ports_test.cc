#include "nat/ports.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <stdexcept>
#include <vector>

namespace ironcore {
namespace {

constexpr uint8_t kTcp = 6, kUdp = 17;

IpAddress v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) { return IpAddress::v4({a, b, c, d}); }
IpAddress v6(uint8_t last) { return IpAddress::v6({0x20, 1, 0xd, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}); }

const IpAddress kNat = v4(203, 0, 113, 1);
const NatSource kSource{77, v4(10, 1, 2, 3), 40000};
const NatDestination kWeb{v4(198, 51, 100, 20), 443, kTcp};
const NatDestination kDns{v4(8, 8, 8, 8), 53, kUdp};

NatMapping mapping(const NatSource& source, const NatDestination& destination, const IpAddress& nat, uint16_t port) {
  return {source, destination, nat, port};
}

NatPort created(uint16_t port) { return {NatOutcome::kCreated, port}; }
NatPort existing(uint16_t port) { return {NatOutcome::kExisting, port}; }
const NatPort kIsFull{NatOutcome::kFull};

std::vector<NatMapping> dump(const NatPorts& ports) {
  std::vector<NatMapping> all;
  ports.for_each([&](const NatMapping& m) { all.push_back(m); });
  std::sort(all.begin(), all.end());
  return all;
}

TEST(NatPorts, ReferenceHashGoldenVectors) {
  const NatSource six{77, v6(1), 5000};
  EXPECT_EQ(NatPorts::reference_hash(kSource), 0x2f499673u);
  EXPECT_EQ(NatPorts::reference_hash(six), 0x992e2e1eu);
  EXPECT_EQ(NatPorts::first_port(kSource, {kNat, 1024, 2048}), 1651);
  EXPECT_EQ(NatPorts::first_port(six, {kNat, 1024, 2048}), 1566);
}

TEST(NatPorts, ASourceKeepsItsPortTowardsAllDestinationsAndProtocols) {
  NatPorts ports(16);
  const NatRange range{kNat, 1024, 2048};
  EXPECT_EQ(ports.peek(kSource, kWeb, range), created(1651));
  EXPECT_EQ(ports.size(), 0u) << "peek has no side effects";
  EXPECT_EQ(ports.allocate(kSource, kWeb, range), created(1651));
  EXPECT_EQ(ports.allocate(kSource, kDns, range), created(1651));
  EXPECT_EQ(ports.allocate(kSource, {kDns.address, 53, kTcp}, range), created(1651));
  EXPECT_EQ(ports.allocate(kSource, kDns, range), existing(1651));
  EXPECT_EQ(ports.peek(kSource, kDns, range), existing(1651));
  EXPECT_EQ(ports.size(), 3u);
  EXPECT_EQ(ports.flows_of(77, kSource.address), 3u);
  EXPECT_EQ(ports.flows_of(78, kSource.address), 0u);
}

TEST(NatPorts, OnePortServesManySourcesWithDifferentDestinations) {
  NatPorts ports(64);
  const NatRange range{kNat, 500, 501};
  for (uint8_t host = 1; host <= 20; ++host)
    EXPECT_EQ(ports.allocate({5, v4(10, 0, 0, host), 1000}, {v4(1, 1, 1, host), 53, kUdp}, range), created(500));
  EXPECT_EQ(ports.allocate({5, v4(10, 0, 0, 21), 1000}, {v4(1, 1, 1, 7), 53, kUdp}, range), kIsFull);
  EXPECT_EQ(ports.allocate({5, v4(10, 0, 0, 21), 1000}, {v4(1, 1, 1, 7), 53, kTcp}, range), created(500));
  EXPECT_EQ(ports.allocate({5, v4(10, 0, 0, 22), 1000}, {v4(1, 1, 1, 7), 53, kUdp}, {v4(203, 0, 113, 2), 500, 501}),
            created(500));
}

TEST(NatPorts, AnotherPortForAFlowWhosePortIsTakenLeavesTheSourceAlone) {
  NatPorts ports(16);
  const NatRange range{kNat, 1000, 1002};
  const NatSource a{1, v4(10, 0, 0, 1), 1};
  NatSource b{1, v4(10, 0, 0, 2), 1};
  while (NatPorts::first_port(b, range) != NatPorts::first_port(a, range)) ++b.port;
  const uint16_t shared = NatPorts::first_port(a, range);
  const auto other = static_cast<uint16_t>(2001 - shared);

  EXPECT_EQ(ports.allocate(a, kWeb, range), created(shared));
  EXPECT_EQ(ports.allocate(b, kDns, range), created(shared));
  EXPECT_EQ(ports.allocate(b, kWeb, range), created(other)) << "its own port is taken for this destination";
  EXPECT_EQ(ports.allocate(b, kWeb, range), existing(other));
  EXPECT_EQ(ports.allocate(b, {v4(9, 9, 9, 9), 53, kUdp}, range), created(shared));
  EXPECT_TRUE(ports.release(mapping(a, kWeb, kNat, shared)));
  EXPECT_EQ(ports.allocate(b, kWeb, range), existing(other)) << "a flow does not move";
  EXPECT_EQ(ports.allocate(a, kWeb, range), created(shared));
}

TEST(NatPorts, ReleaseEndsExactlyWhatItNames) {
  NatPorts ports(16);
  const NatRange range{kNat, 1024, 2048};
  ports.allocate(kSource, kWeb, range);
  ports.allocate(kSource, kDns, range);
  EXPECT_FALSE(ports.release(mapping(kSource, kWeb, kNat, 1652)));
  EXPECT_FALSE(ports.release(mapping({78, kSource.address, 40000}, kWeb, kNat, 1651)));
  EXPECT_FALSE(ports.release(mapping(kSource, kWeb, v4(203, 0, 113, 2), 1651)));
  EXPECT_EQ(ports.size(), 2u);
  EXPECT_TRUE(ports.release(mapping(kSource, kWeb, kNat, 1651)));
  EXPECT_FALSE(ports.release(mapping(kSource, kWeb, kNat, 1651)));
  EXPECT_EQ(dump(ports), std::vector{mapping(kSource, kDns, kNat, 1651)});
  EXPECT_TRUE(ports.release(mapping(kSource, kDns, kNat, 1651)));
  EXPECT_EQ(ports.flows_of(77, kSource.address), 0u);
}

TEST(NatPorts, ARangeHasOnePortPerFlowTowardsADestinationAndThenIsFull) {
  NatPorts ports(70000);
  const NatRange range{kNat, 1024, 65535};
  std::set<uint16_t> seen;
  std::vector<NatMapping> all;
  for (uint32_t i = 0; i < 64511; ++i) {
    const NatSource source{9, v4(10, 0, static_cast<uint8_t>(i >> 15), 1), static_cast<uint16_t>(i)};
    const NatPort port = ports.allocate(source, kDns, range);
    ASSERT_EQ(port.outcome, NatOutcome::kCreated);
    ASSERT_GE(port.port, 1024);
    ASSERT_LT(port.port, 65535);
    ASSERT_TRUE(seen.insert(port.port).second);
    all.push_back(mapping(source, kDns, kNat, port.port));
  }
  const NatSource late{9, v4(10, 0, 9, 9), 9};
  EXPECT_EQ(ports.allocate(late, kDns, range), kIsFull);
  EXPECT_EQ(ports.peek(late, kDns, range), kIsFull);
  EXPECT_EQ(
      ports.allocate(late, kDns, {kNat, 1000, 1025}),
      created(NatPorts::first_port(late, {kNat, 1000, 1025}) == 1024 ? 1000
                                                                     : NatPorts::first_port(late, {kNat, 1000, 1025})))
      << "another range of the same address has ports of its own";
  EXPECT_TRUE(ports.release(all[12345]));
  const NatSource next{9, v4(10, 0, 9, 10), 9};
  EXPECT_EQ(ports.allocate(next, kDns, range), created(all[12345].nat_port));
}

TEST(NatPorts, TableFullChangesNothing) {
  NatPorts ports(2);
  const NatRange range{kNat, 1024, 2048};
  EXPECT_TRUE(ports.allocate(kSource, kWeb, range).ok());
  EXPECT_TRUE(ports.allocate(kSource, kDns, range).ok());
  const auto before = dump(ports);
  const NatSource other{77, v4(10, 1, 2, 4), 1};
  EXPECT_EQ(ports.allocate(other, kWeb, range), NatPort{NatOutcome::kTableFull});
  EXPECT_EQ(ports.peek(other, kWeb, range), NatPort{NatOutcome::kTableFull});
  EXPECT_EQ(ports.insert_verbatim(mapping(other, kWeb, kNat, 1)), NatOutcome::kTableFull);
  EXPECT_EQ(ports.allocate(kSource, kDns, range), existing(1651));
  EXPECT_EQ(ports.flows_of(77, other.address), 0u);
  EXPECT_EQ(ports.size(), 2u);
  EXPECT_EQ(dump(ports), before);
  EXPECT_THROW(NatPorts(0), std::invalid_argument);
  EXPECT_THROW(NatPorts((1u << 30) + 1), std::invalid_argument);
}

TEST(NatPorts, VerbatimMappingsAreKeptAsTheyCome) {
  NatPorts ports(16);
  const NatRange range{kNat, 1024, 2048};
  EXPECT_EQ(ports.insert_verbatim(mapping(kSource, kWeb, kNat, 65535)), NatOutcome::kCreated);
  EXPECT_EQ(ports.insert_verbatim(mapping(kSource, kWeb, kNat, 65535)), NatOutcome::kExisting);
  EXPECT_EQ(ports.insert_verbatim(mapping(kSource, kWeb, kNat, 1030)), NatOutcome::kTaken) << "the flow has a port";
  const NatSource other{77, v4(10, 1, 2, 4), 1};
  EXPECT_EQ(ports.insert_verbatim(mapping(other, kWeb, kNat, 65535)), NatOutcome::kTaken) << "another source has it";
  EXPECT_EQ(ports.size(), 1u);
  EXPECT_EQ(ports.allocate(kSource, kWeb, range), existing(65535));
  EXPECT_EQ(ports.allocate(kSource, kDns, range), created(1651)) << "outside of the range";
  EXPECT_EQ(ports.insert_verbatim(mapping(other, kWeb, kNat, 1100)), NatOutcome::kCreated);
  EXPECT_EQ(ports.allocate(other, kDns, range), created(1100)) << "endpoint-independent from then on";
}

TEST(NatPorts, AnIpv6SourceMayHaveNat64AndNatAtOnce) {
  NatPorts ports(16);
  const NatSource six{77, v6(1), 5000};
  const IpAddress nat6 = v6(200);
  const NatDestination web6{v6(100), 443, kTcp};
  EXPECT_EQ(ports.allocate(six, kWeb, {kNat, 1024, 2048}), created(1566));
  EXPECT_EQ(ports.allocate(six, web6, {nat6, 5, 6}), created(5));
  EXPECT_EQ(ports.allocate(six, kDns, {kNat, 1024, 2048}), created(1566));
  EXPECT_EQ(ports.flows_of(77, six.address), 3u);
  EXPECT_EQ(ports.drop_source(77, six.address, nat6), 1u);
  EXPECT_EQ(dump(ports), (std::vector{mapping(six, kDns, kNat, 1566), mapping(six, kWeb, kNat, 1566)}));
}

TEST(NatPorts, DropSourceForgetsOneVmOnly) {
  NatPorts ports(4096);
  const NatRange range{kNat, 1024, 2048};
  for (uint32_t vni : {1u, 2u})
    for (uint8_t vm = 1; vm <= 3; ++vm)
      for (uint16_t i = 0; i < 200; ++i)
        ASSERT_TRUE(
            ports.allocate({vni, v4(10, 0, 0, vm), i}, {v4(1, 1, 1, static_cast<uint8_t>(i % 5)), 53, kUdp}, range)
                .ok());
  EXPECT_EQ(ports.flows_of(1, v4(10, 0, 0, 2)), 200u);
  EXPECT_EQ(ports.drop_source(1, v4(10, 0, 0, 2)), 200u);
  EXPECT_EQ(ports.drop_source(1, v4(10, 0, 0, 2)), 0u);
  EXPECT_EQ(ports.flows_of(1, v4(10, 0, 0, 2)), 0u);
  EXPECT_EQ(ports.flows_of(2, v4(10, 0, 0, 2)), 200u);
  EXPECT_EQ(ports.size(), 1000u);
  for (const NatMapping& m : dump(ports)) ASSERT_FALSE(m.source.vni == 1 && m.source.address == v4(10, 0, 0, 2));
}

// --- Against a model that does everything the obvious way ---

class Model {
 public:
  explicit Model(size_t capacity) : capacity_(capacity) {}

  NatPort allocate(const NatSource& source, const NatDestination& destination, const NatRange& range, bool commit) {
    if (const auto it = flows.find({source, range.address, destination}); it != flows.end())
      return existing(it->second);
    std::optional<uint16_t> found;
    const auto own = sources.find({source, range.address});
    const auto free = [&](uint16_t port) { return !used.contains({range.address, port, destination}); };
    if (own != sources.end() && own->second.port >= range.min && own->second.port < range.max && free(own->second.port))
      found = own->second.port;
    uint16_t port = NatPorts::first_port(source, range);
    for (int i = 0; !found && i < range.max - range.min; ++i) {
      if (free(port)) found = port;
      if (++port == range.max) port = range.min;
    }
    if (!found) return kIsFull;
    if (flows.size() >= capacity_) return {NatOutcome::kTableFull};
    if (commit) add(mapping(source, destination, range.address, *found));
    return created(*found);
  }

  NatOutcome insert(const NatMapping& m) {
    if (const auto it = flows.find({m.source, m.nat_address, m.destination}); it != flows.end())
      return it->second == m.nat_port ? NatOutcome::kExisting : NatOutcome::kTaken;
    if (used.contains({m.nat_address, m.nat_port, m.destination})) return NatOutcome::kTaken;
    if (flows.size() >= capacity_) return NatOutcome::kTableFull;
    add(m);
    return NatOutcome::kCreated;
  }

  bool release(const NatMapping& m) {
    const auto it = flows.find({m.source, m.nat_address, m.destination});
    if (it == flows.end() || it->second != m.nat_port) return false;
    flows.erase(it);
    used.erase({m.nat_address, m.nat_port, m.destination});
    const auto source = sources.find({m.source, m.nat_address});
    if (--source->second.flows == 0) sources.erase(source);
    return true;
  }

  std::vector<NatMapping> all() const {
    std::vector<NatMapping> result;
    for (const auto& [key, port] : flows)
      result.push_back({std::get<0>(key), std::get<2>(key), std::get<1>(key), port});
    std::sort(result.begin(), result.end());
    return result;
  }

 private:
  struct Port {
    uint16_t port;
    size_t flows;
  };

  void add(const NatMapping& m) {
    flows[{m.source, m.nat_address, m.destination}] = m.nat_port;
    used.insert({m.nat_address, m.nat_port, m.destination});
    ++sources.try_emplace({m.source, m.nat_address}, Port{m.nat_port, 0}).first->second.flows;
  }

  const size_t capacity_;
  std::map<std::tuple<NatSource, IpAddress, NatDestination>, uint16_t> flows;
  std::set<std::tuple<IpAddress, uint16_t, NatDestination>> used;
  std::map<std::tuple<NatSource, IpAddress>, Port> sources;
};

struct World {
  size_t capacity;
  uint16_t width;         // of a range
  unsigned source_ports;  // per VM
  unsigned destinations;
};

class NatPortsProperty : public ::testing::TestWithParam<World> {};

TEST_P(NatPortsProperty, EqualsTheModel) {
  const World& world = GetParam();
  for (unsigned seed = 0; seed < 8; ++seed) {
    std::mt19937 random(seed);
    NatPorts ports(static_cast<uint32_t>(world.capacity));
    Model model(world.capacity);
    std::vector<NatMapping> known;  // made at some time; some of them are gone
    const auto pick = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
    const auto source = [&] {
      const auto host = static_cast<uint8_t>(pick(3));
      return NatSource{1 + pick(2), pick(4) ? v4(10, 0, 0, host) : v6(host),
                       static_cast<uint16_t>(pick(world.source_ports))};
    };
    const auto destination = [&] {
      return NatDestination{v4(8, 8, 0, static_cast<uint8_t>(pick(world.destinations))), 53, pick(3) ? kUdp : kTcp};
    };
    // Overlapping ranges of two addresses, of which one is IPv6.
    const auto range = [&] {
      const auto min = static_cast<uint16_t>(1000 + pick(2) * world.width / 2);
      return NatRange{pick(3) ? kNat : v6(99), min, static_cast<uint16_t>(min + world.width)};
    };
    for (int step = 0; step < 6000; ++step) {
      const bool shrinking = step / 1500 % 2;
      const unsigned op = pick(100);
      if (op < (shrinking ? 30u : 65u)) {
        const auto s = source();
        const auto d = destination();
        const auto r = range();
        const NatPort expected = model.allocate(s, d, r, true);
        ASSERT_EQ(ports.peek(s, d, r), expected) << step;
        ASSERT_EQ(ports.allocate(s, d, r), expected) << step;
        ASSERT_EQ(ports.peek(s, d, r), model.allocate(s, d, r, false));
        if (expected.ok()) known.push_back(mapping(s, d, r.address, expected.port));
      } else if (op < 70) {
        const auto m =
            mapping(source(), destination(), range().address, static_cast<uint16_t>(1000 + pick(2 * world.width)));
        const NatOutcome expected = model.insert(m);
        ASSERT_EQ(ports.insert_verbatim(m), expected) << step;
        if (expected == NatOutcome::kCreated) known.push_back(m);
      } else if (op < 99 && !known.empty()) {
        const size_t at = pick(static_cast<unsigned>(known.size()));
        ASSERT_EQ(ports.release(known[at]), model.release(known[at])) << step;
        known[at] = known.back();
        known.pop_back();
      } else if (op == 99) {
        const auto s = source();
        const std::optional<IpAddress> nat = pick(2) ? std::optional(range().address) : std::nullopt;
        size_t expected = 0;
        for (const NatMapping& m : model.all())
          if (m.source.vni == s.vni && m.source.address == s.address && (!nat || m.nat_address == *nat))
            expected += model.release(m) ? 1 : 0;
        ASSERT_EQ(ports.drop_source(s.vni, s.address, nat), expected) << step;
      }
      if (step % 250 == 0) {
        const auto all = model.all();
        ASSERT_EQ(dump(ports), all) << step;
        ASSERT_EQ(ports.size(), all.size());
        std::map<std::pair<uint32_t, IpAddress>, uint64_t> per_vm;
        for (const NatMapping& m : all) ++per_vm[{m.source.vni, m.source.address}];
        for (uint32_t vni = 1; vni <= 2; ++vni)
          for (uint8_t host = 0; host < 3; ++host)
            for (const IpAddress& address : {v4(10, 0, 0, host), v6(host)})
              ASSERT_EQ(ports.flows_of(vni, address), (per_vm[{vni, address}]));
      }
    }
    // Nothing leaked: after all has gone, the table takes as many mappings as it has room for.
    for (const NatMapping& m : model.all()) ASSERT_TRUE(ports.release(m));
    ASSERT_EQ(ports.size(), 0u);
    for (uint32_t i = 0; i < world.capacity; ++i)
      ASSERT_TRUE(
          ports.allocate({i, v4(1, 2, 3, 4), 1}, {v4(4, 3, 2, 1), static_cast<uint16_t>(i), 6}, {kNat, 1, 2}).ok());
    ASSERT_EQ(ports.allocate({9, v4(1, 2, 3, 5), 1}, kWeb, {kNat, 1, 2}), NatPort{NatOutcome::kTableFull});
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, NatPortsProperty,
                         ::testing::Values(World{2000, 40, 60, 2},    // full ranges
                                           World{2000, 600, 400, 2},  // several pages
                                           World{2000, 6, 8, 30},     // many destinations, few ports
                                           World{50, 40, 60, 4}));    // a full table

}  // namespace
}  // namespace ironcore
