// The wire formats: golden bytes of the reference's messages, and what becomes of frames that are not well-formed.
#include <gtest/gtest.h>

#include <random>

#include "ha/mapping.h"
#include "testing/packets.h"

namespace ironcore::ha {
namespace {

using testing::ip;
using testing::ip4;
using testing::ip6;

Frame golden(const Frame& rest) {
  Frame frame = {0x02, 0x64, 0x70, 0x73, 0x00, 0x02, 0x02, 0x64, 0x70, 0x73, 0x00, 0x01, 0x88, 0xb5};
  frame.insert(frame.end(), rest.begin(), rest.end());
  return frame;
}

// VM 10.0.0.1 port 1000 of VNI 100 to 8.8.4.4 port 53 by UDP, as 203.0.113.1 port 1024.
const NatMapping kMapping = {{100, ip("10.0.0.1"), 1000}, {ip("8.8.4.4"), 53, 17}, ip("203.0.113.1"), 1024};

Frame nat_payload(uint8_t type) {
  return {type, 100,  0,    0,   0,                                         // VNI
          1,    0,    0,    10,  0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  // VM
          0,    0xe8, 0x03,                                                 // not IPv6; its port
          1,    113,  0,    203, 0x00, 0x04,                                // NAT address and port
          4,    4,    8,    8,   53,   0,    17};                           // destination
}

template <typename T>
void expect_wire(const T& message, const Frame& wire) {
  EXPECT_EQ(encode(message), wire);
  const auto decoded = decode(wire);
  ASSERT_TRUE(decoded && std::holds_alternative<T>(*decoded));
  EXPECT_EQ(std::get<T>(*decoded), message);
  // What the device or a bridge pads with does not matter.
  Frame padded = wire;
  padded.resize(wire.size() + 20, 0);
  EXPECT_EQ(std::get<T>(*decode(padded)), message);
  for (size_t length = 15; length < wire.size(); ++length)
    EXPECT_EQ(std::get<Unusable>(*decode(Bytes(wire).first(length))), Unusable{}) << length;
}

TEST(Messages, NatCreate) {
  Frame payload = nat_payload(1);
  payload.insert(payload.end(), {7, 0, 0, 0, 0x34, 0x12});
  ASSERT_EQ(payload.size(), 1u + 42);
  expect_wire(NatCreate{kMapping, 7, 0, 0x1234}, golden(payload));
}

TEST(Messages, NatCreateOfNat64) {
  NatMapping mapping = kMapping;
  mapping.source.address = ip("2001:db8::1");
  mapping.destination.protocol = 58;
  Frame payload = nat_payload(1);
  const Ipv6Address vm = ip6("2001:db8::1");
  std::copy(vm.begin(), vm.end(), payload.begin() + 5);
  payload[21] = 1;
  payload[36] = 58;
  payload.insert(payload.end(), {3, 1, 128, 0, 0, 0});
  expect_wire(NatCreate{mapping, 259, 128, 0}, golden(payload));
}

TEST(Messages, NatDelete) {
  ASSERT_EQ(nat_payload(2).size(), 1u + 36);
  expect_wire(NatDelete{kMapping}, golden(nat_payload(2)));
}

TEST(Messages, ServiceSlot) {
  expect_wire(ServiceSlot{ip4("169.254.1.1"), 53, 513, ip4("10.0.0.1"), 4660, 3, 17},
              golden({3, 169, 254, 1, 1, 0, 53, 0x01, 0x02, 10, 0, 0, 1, 0x12, 0x34, 3, 0, 17}));
}

TEST(Messages, PortMac) {
  expect_wire(PortMac{258, {0x52, 0x54, 0, 1, 2, 3}}, golden({4, 0x02, 0x01, 0x52, 0x54, 0, 1, 2, 3}));
}

TEST(Messages, DumpRequest) { expect_wire(DumpRequest{}, golden({5})); }

TEST(Messages, Hello) {
  expect_wire(
      Hello{1, Role::kActive, 0x0102030405060708, 9, 3, 0x10},
      golden({0x80, 1, 1, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0}));
}

TEST(Messages, Data) {
  const Frame records = {1, 2, 3};
  const Frame wire =
      golden({0x81, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 2, 3});
  EXPECT_EQ(encode(Data{5, 6, 7, 8, records}), wire);
  const auto decoded = decode(wire);
  const auto& data = std::get<Data>(*decoded);
  EXPECT_EQ(std::tie(data.standby, data.active, data.stream, data.sequence),
            std::make_tuple(uint64_t{5}, uint64_t{6}, uint32_t{7}, uint64_t{8}));
  EXPECT_EQ(Frame(data.records.begin(), data.records.end()), records);
  for (size_t length = 15; length < wire.size(); ++length)
    EXPECT_TRUE(std::holds_alternative<Unusable>(*decode(Bytes(wire).first(length))));
  EXPECT_EQ(encode(Data{5, 6, 7, 8, Frame(kMaxRecords)}).size(), kMaxFrame);
}

TEST(Messages, OthersAreNotTaken) {
  EXPECT_FALSE(decode({}));
  Frame foreign = golden({5});
  foreign[12] = 0x08;
  EXPECT_FALSE(decode(foreign));
  EXPECT_EQ(std::get<Unusable>(*decode(golden({}))), Unusable{});
  for (const uint8_t type : {0x00, 0x06, 0x7f, 0x82, 0xff})
    EXPECT_EQ(std::get<Unusable>(*decode(golden({type, 0, 0}))), Unusable{true}) << int{type};
}

Identity identity(const char* source, const char* destination, uint8_t proto) {
  Identity id;
  id.vni = 100;
  id.port = 3;
  id.key.family = ip(source).is_v6 ? 6 : 4;
  id.key.proto = proto;
  id.key.src_port = net::swap16(1000);
  id.key.dst_port = net::swap16(53);
  set_source(id.key, ip(source));
  set_destination(id.key, ip(destination));
  return id;
}

TEST(Records, GoThroughTheWireUnchanged) {
  Identity from_uplink = identity("8.8.8.8", "10.0.0.1", 6);
  from_uplink.key.side = Side::kUplink;
  from_uplink.key.scope = 0x1122334455667788;
  from_uplink.vni = from_uplink.port = 0;
  const TcpTrack established{TcpState::kEstablished, true};
  const std::vector<Record> records = {
      Put{{identity("10.0.0.1", "8.8.8.8", 6), {NatBinding{ip("203.0.113.1"), 1024}, established, {}}}},
      Put{{identity("2001:db8::1", "64:ff9b::808:808", 17), {NatBinding{ip("203.0.113.1"), 1024}, {}, {}}}},
      Put{{identity("2001:db8::1", "2001:db8::2", 17), {NatBinding{ip("2001:db8::9"), 9}, {}, {}}}},
      Put{{from_uplink, {{}, established, uint16_t{5}}}},
      Put{{from_uplink, {{}, {}, ip6("fc00:2::1")}}},
      Gone{identity("2001:db8::1", "2001:db8::2", 58), {}},
      Gone{from_uplink, {}},
      PortMac{9, {1, 2, 3, 4, 5, 6}},
      ServiceSlot{ip4("169.254.1.1"), 53, 513, ip4("10.0.0.1"), 4660, 3, 17},
      DumpBegin{},
      DumpEnd{},
  };
  Frame wire;
  Writer out(wire);
  for (const Record& record : records) {
    const size_t before = wire.size();
    write(out, record);
    EXPECT_LE(wire.size() - before, kMaxRecord);
    for (size_t length = before; length < wire.size(); ++length) {
      Reader cut(Bytes(wire).subspan(before, length - before));
      EXPECT_FALSE(read_record(cut));
    }
  }
  Reader in(wire);
  for (const Record& record : records) EXPECT_EQ(read_record(in), record);
  EXPECT_TRUE(in.empty());
}

TEST(Records, AnyBytesAreReadOrRefused) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20000; ++round) {
    Frame bytes(random() % 120);
    for (auto& byte : bytes) byte = static_cast<uint8_t>(random());
    if (!bytes.empty()) bytes[0] = static_cast<uint8_t>(random() % 8);
    Reader in(bytes);
    const auto record = read_record(in);
    if (!record) continue;
    Frame again;
    Writer out(again);
    write(out, *record);
    Reader reread(again);
    EXPECT_EQ(read_record(reread), record);
  }
}

TEST(Records, AMappingNamesItsConnection) {
  for (const bool icmp : {false, true}) {
    for (const bool nat64 : {false, true}) {
      Identity id = nat64 ? identity("2001:db8::1", "64:ff9b::808:808", icmp ? 58 : 6)
                          : identity("10.0.0.1", "8.8.8.8", icmp ? 1 : 6);
      const uint16_t type = icmp ? (nat64 ? 128 : 8) : 0;
      if (icmp) id.key.src_port = type;
      const NatMapping mapping = mapping_of(id, {ip("203.0.113.1"), 1024});
      EXPECT_EQ(mapping.destination.address, ip("8.8.8.8"));
      EXPECT_EQ(mapping.source.port, icmp ? 53 : 1000);
      EXPECT_EQ(identity_of(mapping, 3, type), id);
    }
  }
}

}  // namespace
}  // namespace ironcore::ha
