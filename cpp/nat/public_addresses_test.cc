#include "nat/public_addresses.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <vector>

namespace ironcore {
namespace {

IpAddress v4(uint8_t last) { return IpAddress::v4({203, 0, 113, last}); }
IpAddress v6(uint8_t last) { return IpAddress::v6({0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}); }
Ipv6Address underlay(uint8_t last) { return {0xfc, 0, 0, 0, 0, 0, 0, 0, 0xd0, 0, 0, 0, 0, 0, 0, last}; }
NeighborNat neighbor(const IpAddress& ip, uint32_t vni, uint16_t min, uint16_t max, uint8_t host = 1) {
  return {ip, vni, min, max, underlay(host)};
}

class PublicAddressesTest : public ::testing::Test {
 protected:
  PublicAddresses make(size_t addresses, size_t neighbors) {
    return PublicAddresses([this](std::function<void()> action) { retired_.push_back(std::move(action)); }, addresses,
                           neighbors);
  }
  ~PublicAddressesTest() override {
    for (const auto& action : retired_) action();
  }

  const PublicVip vip_{3, IpAddress::v4({10, 0, 0, 1}), underlay(9)};
  const LocalRange range_{1024, 2048, 3, underlay(8)};
  std::vector<std::function<void()>> retired_;
};

TEST_F(PublicAddressesTest, VipNeedsAnAddressThatHasNoUseInItsVni) {
  PublicAddresses table = make(10, 10);
  EXPECT_EQ(table.add_vip(7, v4(1), vip_), Status::OK);
  EXPECT_EQ(table.add_vip(7, v4(1), vip_), Status::DNAT_EXISTS);
  EXPECT_EQ(table.add_vip(8, v4(1), vip_), Status::OK);
  ASSERT_NE(table.lookup(7, v4(1)), nullptr);
  EXPECT_EQ(table.lookup(7, v4(1))->vip, vip_);
  EXPECT_EQ(table.lookup(9, v4(1)), nullptr);
  EXPECT_EQ(table.add_nat(7, v4(2), range_), Status::OK);
  EXPECT_EQ(table.add_vip(7, v4(2), vip_), Status::DNAT_EXISTS);
  EXPECT_EQ(table.add_neighbor(neighbor(v4(3), 7, 1, 2)), Status::OK);
  EXPECT_EQ(table.add_vip(7, v4(3), vip_), Status::DNAT_EXISTS);
  EXPECT_EQ(table.add_vip(7, v6(1), vip_), Status::OK);
  EXPECT_EQ(table.remove_vip(7, v4(1)), Status::OK);
  EXPECT_EQ(table.lookup(7, v4(1)), nullptr);
  EXPECT_EQ(table.remove_vip(7, v4(1)), Status::DNAT_NO_DATA);
  EXPECT_EQ(table.remove_vip(7, v4(2)), Status::DNAT_NO_DATA) << "a NAT address only";
  EXPECT_NE(table.lookup(8, v4(1)), nullptr);
}

TEST_F(PublicAddressesTest, NatMayShareTheAddressOfAVip) {
  PublicAddresses table = make(10, 10);
  ASSERT_EQ(table.add_vip(7, v4(1), vip_), Status::OK);
  ASSERT_EQ(table.add_nat(7, v4(1), range_), Status::OK);
  EXPECT_EQ(table.lookup(7, v4(1))->vip, vip_);
  EXPECT_EQ(table.remove_vip(7, v4(1)), Status::OK);
  ASSERT_NE(table.lookup(7, v4(1)), nullptr);
  EXPECT_FALSE(table.lookup(7, v4(1))->vip);
  EXPECT_EQ(table.remove_nat(7, v4(1), 3), Status::OK);
  EXPECT_EQ(table.lookup(7, v4(1)), nullptr);
  EXPECT_EQ(table.add_vip(7, v4(1), vip_), Status::OK) << "both leave nothing behind";
}

TEST_F(PublicAddressesTest, NatAddressLivesAsLongAsItHasAnyUser) {
  PublicAddresses table = make(10, 10);
  const LocalRange other{2048, 3072, 4, underlay(7)};
  ASSERT_EQ(table.add_nat(7, v4(1), range_), Status::OK);
  ASSERT_EQ(table.add_nat(7, v4(1), other), Status::OK);
  EXPECT_EQ(table.add_nat(7, v4(1), range_), Status::SNAT_EXISTS);
  EXPECT_EQ(table.add_nat(7, v4(1), {5, 5, 5, {}}), Status::BAD_REQUEST);
  ASSERT_EQ(table.add_neighbor(neighbor(v4(1), 7, 3072, 4096)), Status::OK);
  EXPECT_EQ(table.lookup(7, v4(1))->local, (std::vector{range_, other}));
  EXPECT_EQ(table.remove_nat(7, v4(1), 3), Status::OK);
  EXPECT_EQ(table.remove_nat(7, v4(1), 3), Status::DNAT_NO_DATA);
  EXPECT_EQ(table.remove_neighbor(v4(1), 7, 3072, 4096), Status::OK);
  ASSERT_NE(table.lookup(7, v4(1)), nullptr) << "a local user is left";
  EXPECT_TRUE(table.lookup(7, v4(1))->is_nat());
  EXPECT_EQ(table.remove_nat(7, v4(1), 4), Status::OK);
  EXPECT_EQ(table.lookup(7, v4(1)), nullptr);
}

TEST_F(PublicAddressesTest, NeighborsOfAnAddressDoNotOverlapInAnyVni) {
  PublicAddresses table = make(10, 10);
  EXPECT_EQ(table.add_neighbor(neighbor(v4(1), 7, 1000, 2000)), Status::OK);
  for (const uint32_t vni : {7u, 8u}) {
    EXPECT_EQ(table.add_neighbor(neighbor(v4(1), vni, 1000, 2000)), Status::ALREADY_EXISTS);
    EXPECT_EQ(table.add_neighbor(neighbor(v4(1), vni, 1999, 3000)), Status::ALREADY_EXISTS);
    EXPECT_EQ(table.add_neighbor(neighbor(v4(1), vni, 500, 1001)), Status::ALREADY_EXISTS);
    EXPECT_EQ(table.add_neighbor(neighbor(v4(1), vni, 500, 3000)), Status::ALREADY_EXISTS);
    EXPECT_EQ(table.add_neighbor(neighbor(v4(1), vni, 1200, 1300)), Status::ALREADY_EXISTS);
  }
  EXPECT_EQ(table.add_neighbor(neighbor(v4(1), 7, 2000, 3000, 2)), Status::OK) << "adjacent";
  EXPECT_EQ(table.add_neighbor(neighbor(v4(1), 8, 500, 1000, 3)), Status::OK);
  EXPECT_EQ(table.add_neighbor(neighbor(v4(2), 7, 1000, 2000, 4)), Status::OK) << "another address";
  EXPECT_EQ(table.add_neighbor(neighbor(v4(3), 7, 5, 5)), Status::BAD_REQUEST);
  EXPECT_EQ(table.neighbor_count(), 4u);

  const PublicAddress* address = table.lookup(7, v4(1));
  ASSERT_NE(address, nullptr);
  EXPECT_EQ(address->neighbor_of(999), nullptr);
  ASSERT_NE(address->neighbor_of(1000), nullptr);
  EXPECT_EQ(address->neighbor_of(1999)->underlay, underlay(1));
  EXPECT_EQ(address->neighbor_of(2000)->underlay, underlay(2));
  EXPECT_EQ(address->neighbor_of(3000), nullptr);
  EXPECT_EQ(table.lookup(8, v4(1))->neighbor_of(1000), nullptr);
}

TEST_F(PublicAddressesTest, NeighborsAreListedAsAdded) {
  PublicAddresses table = make(10, 10);
  const std::vector all{neighbor(v4(1), 7, 3000, 4000), neighbor(v4(2), 7, 1, 2), neighbor(v4(1), 8, 1000, 2000),
                        neighbor(v6(1), 7, 1, 2)};
  for (const NeighborNat& nat : all) ASSERT_EQ(table.add_neighbor(nat), Status::OK);
  EXPECT_EQ(table.neighbors(IpAddress{}), all);
  EXPECT_EQ(table.neighbors(v4(1)), (std::vector{all[0], all[2]}));
  EXPECT_TRUE(table.neighbors(v4(9)).empty());

  EXPECT_EQ(table.remove_neighbor(v4(1), 7, 1000, 2000), Status::NOT_FOUND);
  EXPECT_EQ(table.remove_neighbor(v4(1), 8, 1000, 2001), Status::NOT_FOUND);
  EXPECT_EQ(table.remove_neighbor(v4(1), 8, 1001, 2000), Status::NOT_FOUND);
  EXPECT_EQ(table.remove_neighbor(v4(3), 8, 1000, 2000), Status::NOT_FOUND);
  EXPECT_EQ(table.neighbors(IpAddress{}), all);
  EXPECT_EQ(table.remove_neighbor(v4(1), 8, 1000, 2000), Status::OK);
  EXPECT_EQ(table.remove_neighbor(v4(1), 8, 1000, 2000), Status::NOT_FOUND);
  EXPECT_EQ(table.lookup(8, v4(1)), nullptr);
  EXPECT_NE(table.lookup(7, v4(1)), nullptr);
}

TEST_F(PublicAddressesTest, EndOfAVniTakesAllItsUses) {
  PublicAddresses table = make(10, 10);
  for (const uint32_t vni : {7u, 8u}) {
    ASSERT_EQ(table.add_vip(vni, v4(1), vip_), Status::OK);
    ASSERT_EQ(table.add_nat(vni, v4(2), range_), Status::OK);
    ASSERT_EQ(
        table.add_neighbor(neighbor(v4(3), vni, static_cast<uint16_t>(vni * 10), static_cast<uint16_t>(vni * 11))),
        Status::OK);
  }
  table.purge_vni(7);
  for (const uint8_t last : {1, 2, 3}) {
    EXPECT_EQ(table.lookup(7, v4(last)), nullptr);
    EXPECT_NE(table.lookup(8, v4(last)), nullptr);
  }
  EXPECT_EQ(table.remove_neighbor(v4(3), 7, 70, 77), Status::NOT_FOUND);
  EXPECT_EQ(table.add_vip(7, v4(3), vip_), Status::OK);
  EXPECT_EQ(table.neighbor_count(), 1u);
}

TEST_F(PublicAddressesTest, PurgeOfNeighborsLeavesNoMarker) {
  PublicAddresses table = make(10, 10);
  ASSERT_EQ(table.add_nat(7, v4(1), range_), Status::OK);
  for (uint16_t i = 1; i < 4; ++i) {
    ASSERT_EQ(table.add_neighbor(neighbor(v4(1), 7, i, static_cast<uint16_t>(i + 1))), Status::OK);
    ASSERT_EQ(table.add_neighbor(neighbor(v4(2), 7, i, static_cast<uint16_t>(i + 1))), Status::OK);
  }
  table.purge_neighbors();
  EXPECT_TRUE(table.neighbors(IpAddress{}).empty());
  EXPECT_EQ(table.lookup(7, v4(2)), nullptr);
  ASSERT_NE(table.lookup(7, v4(1)), nullptr);
  EXPECT_TRUE(table.lookup(7, v4(1))->neighbors.empty());
  EXPECT_EQ(table.size(), 1u);
  EXPECT_EQ(table.add_neighbor(neighbor(v4(1), 9, 1, 9)), Status::OK);
}

TEST_F(PublicAddressesTest, FullTablesRefuseAndChangeNothing) {
  PublicAddresses table = make(2, 2);
  ASSERT_EQ(table.add_vip(7, v4(1), vip_), Status::OK);
  ASSERT_EQ(table.add_neighbor(neighbor(v4(2), 7, 1, 2)), Status::OK);
  EXPECT_EQ(table.add_vip(7, v4(3), vip_), Status::DNAT_CREATE);
  EXPECT_EQ(table.add_nat(7, v4(3), range_), Status::DNAT_CREATE);
  EXPECT_EQ(table.add_neighbor(neighbor(v4(3), 7, 1, 2)), Status::DNAT_CREATE);
  EXPECT_EQ(table.neighbor_count(), 1u);
  EXPECT_EQ(table.add_nat(7, v4(1), range_), Status::OK) << "no new address";
  EXPECT_EQ(table.add_neighbor(neighbor(v4(2), 7, 2, 3)), Status::OK);
  EXPECT_EQ(table.add_neighbor(neighbor(v4(2), 7, 3, 4)), Status::OUT_OF_MEMORY);
  EXPECT_EQ(table.add_neighbor(neighbor(v4(2), 7, 2, 4)), Status::ALREADY_EXISTS);
  EXPECT_EQ(table.lookup(7, v4(2))->neighbors.size(), 2u);
  EXPECT_EQ(table.lookup(7, v4(3)), nullptr);
  EXPECT_EQ(table.size(), 2u);
  EXPECT_EQ(table.remove_vip(7, v4(1)), Status::OK);
  EXPECT_EQ(table.remove_nat(7, v4(1), 3), Status::OK);
  EXPECT_EQ(table.add_vip(7, v4(3), vip_), Status::OK) << "room again";
}

TEST_F(PublicAddressesTest, WhatAReaderHoldsStaysUntilItIsRetired) {
  PublicAddresses table = make(10, 10);
  ASSERT_EQ(table.add_vip(7, v4(1), vip_), Status::OK);
  const PublicAddress* held = table.lookup(7, v4(1));
  retired_.clear();
  ASSERT_EQ(table.add_nat(7, v4(1), range_), Status::OK);
  ASSERT_EQ(table.remove_vip(7, v4(1)), Status::OK);
  EXPECT_EQ(retired_.size(), 2u);
  EXPECT_EQ(held->vip, vip_);
  EXPECT_TRUE(held->local.empty());
}

// --- Against a model: lists of what was added, searched from end to end ---

struct Model {
  struct Vip {
    uint32_t vni;
    IpAddress address;
    PublicVip vip;
  };
  struct Nat {
    uint32_t vni;
    IpAddress address;
    LocalRange range;
  };
  std::vector<Vip> vips;
  std::vector<Nat> nats;
  std::vector<NeighborNat> neighbors;

  static bool before(const NeighborRange& a, const NeighborRange& b) { return a.min < b.min; }

  std::optional<PublicAddress> lookup(uint32_t vni, const IpAddress& address) const {
    PublicAddress found;
    for (const Vip& v : vips)
      if (v.vni == vni && v.address == address) found.vip = v.vip;
    for (const Nat& n : nats)
      if (n.vni == vni && n.address == address) found.local.push_back(n.range);
    for (const NeighborNat& n : neighbors)
      if (n.vni == vni && n.nat_ip == address) found.neighbors.push_back({n.min_port, n.max_port, n.underlay});
    std::sort(found.neighbors.begin(), found.neighbors.end(), before);
    if (!found.vip && !found.is_nat()) return std::nullopt;
    return found;
  }
};

TEST_F(PublicAddressesTest, EqualsTheModel) {
  constexpr size_t kAddresses = 14, kNeighbors = 12;
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    PublicAddresses table = make(kAddresses, kNeighbors);
    Model model;
    const auto pick = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
    const auto any = [&] { return pick(4) ? v4(static_cast<uint8_t>(pick(6))) : v6(static_cast<uint8_t>(pick(2))); };
    const auto count = [&] {
      size_t used = 0;
      for (uint32_t vni = 1; vni <= 3; ++vni)
        for (uint8_t last = 0; last < 6; ++last)
          used += (model.lookup(vni, v4(last)) ? 1 : 0) + (last < 2 && model.lookup(vni, v6(last)) ? 1 : 0);
      return used;
    };
    for (int step = 0; step < 3000; ++step) {
      const uint32_t vni = 1 + pick(3);
      const IpAddress address = any();
      const auto device = static_cast<uint16_t>(pick(3));
      const auto min = static_cast<uint16_t>(pick(20) * 10);
      const auto max = static_cast<uint16_t>(min + pick(8) * 5);
      const bool room = model.lookup(vni, address) || count() < kAddresses;
      switch (pick(100) == 0 ? 6 + pick(2) : pick(6)) {
        case 0: {
          const PublicVip vip{device, v4(static_cast<uint8_t>(step)), underlay(static_cast<uint8_t>(step))};
          const Status expected = model.lookup(vni, address) ? Status::DNAT_EXISTS
                                  : room                     ? Status::OK
                                                             : Status::DNAT_CREATE;
          ASSERT_EQ(table.add_vip(vni, address, vip), expected);
          if (expected == Status::OK) model.vips.push_back({vni, address, vip});
          break;
        }
        case 1: {
          const bool gone =
              std::erase_if(model.vips, [&](const Model::Vip& v) { return v.vni == vni && v.address == address; });
          ASSERT_EQ(table.remove_vip(vni, address), gone ? Status::OK : Status::DNAT_NO_DATA);
          break;
        }
        case 2: {
          const LocalRange range{min, max, device, underlay(static_cast<uint8_t>(step))};
          const bool twice = std::any_of(model.nats.begin(), model.nats.end(), [&](const Model::Nat& n) {
            return n.vni == vni && n.address == address && n.range.device == device;
          });
          const Status expected = min >= max ? Status::BAD_REQUEST
                                  : twice    ? Status::SNAT_EXISTS
                                  : room     ? Status::OK
                                             : Status::DNAT_CREATE;
          ASSERT_EQ(table.add_nat(vni, address, range), expected);
          if (expected == Status::OK) model.nats.push_back({vni, address, range});
          break;
        }
        case 3: {
          const bool gone = std::erase_if(model.nats, [&](const Model::Nat& n) {
            return n.vni == vni && n.address == address && n.range.device == device;
          });
          ASSERT_EQ(table.remove_nat(vni, address, device), gone ? Status::OK : Status::DNAT_NO_DATA);
          break;
        }
        case 4: {
          const NeighborNat nat = neighbor(address, vni, min, max, static_cast<uint8_t>(step));
          const bool overlaps = std::any_of(model.neighbors.begin(), model.neighbors.end(), [&](const NeighborNat& n) {
            return n.nat_ip == address && max > n.min_port && min < n.max_port;
          });
          const Status expected = min >= max                             ? Status::BAD_REQUEST
                                  : overlaps                             ? Status::ALREADY_EXISTS
                                  : model.neighbors.size() >= kNeighbors ? Status::OUT_OF_MEMORY
                                  : room                                 ? Status::OK
                                                                         : Status::DNAT_CREATE;
          ASSERT_EQ(table.add_neighbor(nat), expected);
          if (expected == Status::OK) model.neighbors.push_back(nat);
          break;
        }
        case 5: {
          NeighborNat nat = neighbor(address, vni, min, max);
          if (!model.neighbors.empty() && pick(3))
            nat = model.neighbors[pick(static_cast<unsigned>(model.neighbors.size()))];
          const bool gone = std::erase_if(model.neighbors, [&](const NeighborNat& n) {
            return n.nat_ip == nat.nat_ip && n.vni == nat.vni && n.min_port == nat.min_port &&
                   n.max_port == nat.max_port;
          });
          ASSERT_EQ(table.remove_neighbor(nat.nat_ip, nat.vni, nat.min_port, nat.max_port),
                    gone ? Status::OK : Status::NOT_FOUND);
          break;
        }
        case 6:
          table.purge_vni(vni);
          std::erase_if(model.vips, [&](const Model::Vip& v) { return v.vni == vni; });
          std::erase_if(model.nats, [&](const Model::Nat& n) { return n.vni == vni; });
          std::erase_if(model.neighbors, [&](const NeighborNat& n) { return n.vni == vni; });
          break;
        default:
          table.purge_neighbors();
          model.neighbors.clear();
      }
      ASSERT_EQ(table.size(), count());
      ASSERT_EQ(table.neighbors(IpAddress{}), model.neighbors);
      const IpAddress probe = any();
      const PublicAddress* found = table.lookup(vni, probe);
      const auto expected = model.lookup(vni, probe);
      ASSERT_EQ(found != nullptr, expected.has_value());
      if (!found) continue;
      ASSERT_EQ(found->vip, expected->vip);
      ASSERT_EQ(found->local, expected->local);
      ASSERT_EQ(found->neighbors, expected->neighbors);
      const auto port = static_cast<uint16_t>(pick(260));
      const auto owner = std::find_if(expected->neighbors.begin(), expected->neighbors.end(),
                                      [port](const NeighborRange& r) { return port >= r.min && port < r.max; });
      const NeighborRange* neighbor = found->neighbor_of(port);
      ASSERT_EQ(neighbor != nullptr, owner != expected->neighbors.end());
      if (neighbor) {
        ASSERT_EQ(*neighbor, *owner);
      }
    }
  }
}

// A reader without locks beside a writer: what it sees is one of the published values, whole, and a VIP that stays is
// always found, however often the table is rebuilt. Actions wait until the reader has gone round once more.
TEST(PublicAddressesThreads, AReaderSeesWholeValuesOnly) {
  std::mutex mutex;
  std::atomic<uint64_t> rounds{0};
  std::vector<std::pair<uint64_t, std::function<void()>>> waiting;
  const Retire retire = [&](std::function<void()> action) {
    std::lock_guard lock(mutex);
    waiting.emplace_back(rounds.load() + 2, std::move(action));
  };
  std::atomic<unsigned> violations{0};
  std::atomic<bool> done{false};
  {
    PublicAddresses table(retire, 1000, 1000);
    ASSERT_EQ(table.add_vip(1, v4(1), {1, v4(2), underlay(3)}), Status::OK);
    std::thread reader([&] {
      do {
        const PublicAddress* vip = table.lookup(1, v4(1));
        if (!vip || !vip->vip || vip->vip->device != 1) ++violations;
        for (uint32_t vni = 2; vni < 300; ++vni) {
          const PublicAddress* nat = table.lookup(vni, v4(1));
          if (nat && (nat->local.size() != 1 || nat->local[0].device != vni || nat->local[0].max != vni + 1))
            ++violations;
        }
        rounds.fetch_add(1);
      } while (!done);
    });
    for (int turn = 0; turn < 20; ++turn) {
      for (uint16_t vni = 2; vni < 300; ++vni)
        ASSERT_EQ(table.add_nat(vni, v4(1), {vni, static_cast<uint16_t>(vni + 1), vni, underlay(1)}), Status::OK);
      for (uint16_t vni = 2; vni < 300; ++vni) ASSERT_EQ(table.remove_nat(vni, v4(1), vni), Status::OK);
      std::lock_guard lock(mutex);
      std::erase_if(waiting, [&](const auto& item) {
        if (item.first > rounds.load()) return false;
        item.second();
        return true;
      });
    }
    done = true;
    reader.join();
  }
  for (const auto& item : waiting) item.second();
  EXPECT_EQ(violations, 0u);
}

}  // namespace
}  // namespace ironcore
