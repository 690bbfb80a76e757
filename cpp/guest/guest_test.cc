// What holds for every frame: nothing is read or written out of bounds, and a reply is always well-formed.
#include <random>

#include "guest/wire.h"
#include "guest_test_support.h"

namespace ironcore::guest {
namespace {

// A golden IPv6 frame with more headers in front of its upper layer.
Frame with_headers(std::string_view golden, uint8_t first, std::string_view headers) {
  Frame frame = from_hex(golden);
  const Frame added = from_hex(headers);
  frame[20] = first;
  frame[19] = static_cast<uint8_t>(frame[19] + added.size());
  frame.insert(frame.begin() + 54, added.begin(), added.end());
  return frame;
}

const std::vector<Frame>& seeds() {
  static const std::vector<Frame> frames = [] {
    std::vector<Frame> all;
    for (const std::string_view hex :
         {golden::kArpRequest,    golden::kSolicitation, golden::kSolicitationDad, golden::kRouterSolicitation,
          golden::kEcho4,         golden::kEcho6,        golden::kDiscover,        golden::kRequest,
          golden::kRenew4,        golden::kInform,       golden::kPxeDiscover,     golden::kIpxeDiscover,
          golden::kSolicit,       golden::kSolicitRapid, golden::kRequest6,        golden::kRenew6,
          golden::kRequestTwoIas, golden::kConfirm,      golden::kRelease6,        golden::kInformationRequest,
          golden::kSolicitPxe,    golden::kSolicitIpxe})
      all.push_back(from_hex(hex));
    all.push_back(with_headers(golden::kSolicitation, 0, "3c000104000000003a01010400000000010400000000ffff"));
    return all;
  }();
  return frames;
}

void expect_sound(const GuestConfig& config, std::span<const uint8_t> request, size_t room) {
  // Exact-size heap copies, so that the address sanitizer sees any step over either end.
  const Frame in(request.begin(), request.end());
  Frame out(room);
  const GuestReply reply = handle(config, in, out);
  ASSERT_EQ(reply.verdict == Verdict::kDrop, reply.drop != GuestDrop::kNone);
  ASSERT_EQ(reply.verdict == Verdict::kReply, reply.length != 0);
  if (reply.verdict != Verdict::kReply) return;
  ASSERT_LE(reply.length, room);
  const Bytes frame = std::span(out).first(reply.length);
  ASSERT_TRUE(std::equal(config.port_mac.begin(), config.port_mac.end(), frame.begin() + 6));
  if (load16(frame, 12) == kEtherIpv4) {
    ASSERT_EQ(load16(frame, 16), frame.size() - kEthLength);
    ASSERT_EQ(finish(sum16(frame.subspan(kEthLength, kIpv4Length))), 0);
    const Bytes upper = frame.subspan(kEthLength + kIpv4Length);
    ASSERT_EQ(frame[23] == kProtoUdp ? checksum4(load32(frame, 26), load32(frame, 30), kProtoUdp, upper)
                                     : finish(sum16(upper)),
              0);
  } else if (load16(frame, 12) == kEtherIpv6) {
    ASSERT_EQ(load16(frame, 18), frame.size() - kEthLength - kIpv6Length);
    ASSERT_EQ(
        checksum6(frame.subspan(22, 16), frame.subspan(38, 16), frame[20], frame.subspan(kEthLength + kIpv6Length)), 0);
  }
}

TEST(Handle, EveryTruncationIsSound) {
  const GuestConfig config = vm_config();
  for (const Frame& seed : seeds())
    for (size_t length = 0; length <= seed.size(); ++length)
      expect_sound(config, std::span(seed).first(length), kReplyRoom);
}

TEST(Handle, EveryOutputSizeIsSound) {
  const GuestConfig config = vm_config();
  for (const Frame& seed : seeds())
    for (size_t room = 0; room < 400; ++room) expect_sound(config, seed, room);
}

TEST(Handle, MutatedFramesAreSound) {
  std::mt19937 random(20240607);
  GuestConfig config = vm_config();
  config.pxe =
      PxeConfig{.server4 = kPxeServer4, .server6 = kPxeServer6, .boot_filename = "0123456789012345678901234567890"};
  for (int round = 0; round < 200000; ++round) {
    Frame frame = seeds()[random() % seeds().size()];
    for (size_t edits = 1 + random() % 6; edits > 0; --edits) {
      // Headers stay mostly intact so that mutations reach the parsers behind them.
      const size_t start = random() % 8 == 0 ? 0 : std::min<size_t>(frame.size() - 1, 42);
      frame[start + random() % (frame.size() - start)] = static_cast<uint8_t>(random());
    }
    if (random() % 4 == 0) frame.resize(random() % (frame.size() + 64));
    config.vm_mac_known = random() % 2 == 0;
    expect_sound(config, frame, kReplyRoom);
    if (HasFatalFailure()) FAIL() << "round " << round << ": " << to_hex(frame);
  }
}

TEST(Handle, OrdinaryTrafficIsNotForUs) {
  Frame tcp = from_hex(golden::kEcho4);
  tcp[23] = 6;
  EXPECT_EQ(ask(vm_config(), tcp).reply.verdict, Verdict::kNotForUs);
  Frame fragment = from_hex(golden::kDiscover);
  fragment[20] = 0x20;  // more fragments
  EXPECT_EQ(ask(vm_config(), fragment).reply.verdict, Verdict::kNotForUs);
  EXPECT_EQ(ask(vm_config(), Frame(60, 0)).reply.verdict, Verdict::kNotForUs);
}

TEST(Handle, GroupSourceMacIsRefused) {
  Frame frame = from_hex(golden::kArpRequest);
  frame[6] |= 1;
  expect_drop(vm_config(), frame, GuestDrop::kEthSource);
}

TEST(Handle, EthernetPaddingIsIgnored) {
  Frame frame = from_hex(golden::kSolicit);
  frame.resize(frame.size() + 40, 0xaa);
  expect_reply(vm_config(), to_hex(frame), golden::kAdvertise);
}

TEST(Handle, ExtensionHeadersHideNothing) {
  const GuestConfig config = vm_config();
  // Hop-by-hop, destination options twice as long, authentication of 12 bytes.
  constexpr std::string_view kIcmp6 = "3c00010400000000330101040000000001040000000000003a01000000000000000000aa";
  constexpr std::string_view kUdp = "1100010400000000";
  EXPECT_EQ(to_hex(ask(config, with_headers(golden::kSolicitation, 0, kIcmp6)).frame), golden::kAdvertisement);
  EXPECT_EQ(to_hex(ask(config, with_headers(golden::kSolicit, 60, kUdp)).frame), golden::kAdvertise);
  expect_drop(config, with_headers(golden::kRogueRa, 60, "3a00010400000000"), GuestDrop::kNdFromGuest);
  for (const size_t cut : {1u, 9u, 30u}) {
    Frame frame = with_headers(golden::kSolicitation, 0, kIcmp6);
    frame[19] = static_cast<uint8_t>(36 - cut);
    EXPECT_EQ(ask(config, frame).reply.verdict, Verdict::kNotForUs) << cut;
  }
}

TEST(Handle, FragmentsAreServedByNobody) {
  const GuestConfig config = vm_config();
  for (const std::string_view fragment : {"3a00000000000007", "3a00000100000007"})
    expect_drop(config, with_headers(golden::kSolicitation, 44, fragment), GuestDrop::kNdMalformed);
  // What follows is in the middle of a message.
  EXPECT_EQ(ask(config, with_headers(golden::kSolicitation, 44, "3a00000800000007")).reply.verdict, Verdict::kNotForUs);
  EXPECT_EQ(ask(config, with_headers(golden::kSolicit, 44, "1100000100000007")).reply.verdict, Verdict::kNotForUs);
}

TEST(Handle, EveryDropHasAName) {
  for (size_t i = 0; i < static_cast<size_t>(GuestDrop::kCount); ++i)
    EXPECT_NE(to_string(static_cast<GuestDrop>(i)), "unknown") << i;
  EXPECT_EQ(to_string(GuestDrop::kIcmpMalformed), "icmp_malformed");
}

}  // namespace
}  // namespace ironcore::guest
