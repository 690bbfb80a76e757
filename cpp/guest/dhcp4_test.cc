#include "guest_test_support.h"

namespace ironcore::guest {
namespace {

constexpr std::string_view kPxeClass = "PXEClient:Arch:00007";

GuestConfig pxe_config() {
  GuestConfig config = vm_config();
  config.pxe = PxeConfig{.server4 = kPxeServer4, .server6 = {}, .boot_filename = "/boot.ipxe"};
  return config;
}

// The options of a DHCPv4 reply as (code, length) pairs.
std::vector<std::pair<int, size_t>> options_of(const Frame& frame) {
  std::vector<std::pair<int, size_t>> options;
  for (size_t at = 14 + 20 + 8 + 240; at + 1 < frame.size() && frame[at] != 255; at += 2u + frame[at + 1])
    options.emplace_back(frame[at], frame[at + 1]);
  return options;
}

TEST(Dhcp4, DiscoverIsOffered) { expect_reply(vm_config(), golden::kDiscover, golden::kOffer); }

TEST(Dhcp4, BroadcastFlagIsHonoured) { expect_reply(vm_config(), golden::kDiscoverBroadcast, golden::kOfferBroadcast); }

TEST(Dhcp4, RequestIsAcknowledgedAndTeachesTheMac) {
  expect_reply(vm_config(), golden::kRequest, golden::kAck);
  EXPECT_EQ(ask(vm_config(), golden::kRequest).reply.learned_vm_mac, kVmMac);
  EXPECT_FALSE(ask(vm_config(), golden::kDiscover).reply.learned_vm_mac);
}

TEST(Dhcp4, UnicastRenewalIsAnsweredAtTheClientsAddress) {
  expect_reply(vm_config(), golden::kRenew4, golden::kRenewAck);
}

TEST(Dhcp4, RenewalOfAnotherAddressNamesTheRightOne) {
  Frame frame = from_hex(golden::kRenew4);
  frame[14 + 20 + 8 + 15] = 99;  // ciaddr 10.0.0.99
  const Answer answer = ask(vm_config(), frame);
  ASSERT_EQ(answer.reply.verdict, Verdict::kReply);
  EXPECT_EQ(to_hex(std::span(answer.frame).subspan(30, 4)), "0a000063");
  EXPECT_EQ(to_hex(std::span(answer.frame).subspan(42 + 16, 4)), "0a000001");
}

TEST(Dhcp4, InformGetsConfigurationButNoLease) { expect_reply(vm_config(), golden::kInform, golden::kInformAck); }

TEST(Dhcp4, ReleaseAndDeclineAreConsumed) {
  expect_verdict(vm_config(), golden::kRelease4, Verdict::kConsumed);
  expect_verdict(vm_config(), golden::kDecline4, Verdict::kConsumed);
}

TEST(Dhcp4, NetworkBootFirmware) { expect_reply(pxe_config(), golden::kPxeDiscover, golden::kPxeOffer); }

TEST(Dhcp4, NetworkBootIpxe) { expect_reply(pxe_config(), golden::kIpxeDiscover, golden::kIpxeOffer); }

TEST(Dhcp4, NetworkBootIsDecidedPerRequest) {
  const GuestConfig config = pxe_config();
  expect_reply(config, golden::kPxeDiscover, golden::kPxeOffer);
  expect_reply(config, golden::kDiscover, golden::kOffer);
}

// iPXE repeats the class of the firmware that started it.
TEST(Dhcp4, TheLastBootClassDecides) {
  const std::string firmware = "3c14" + to_hex(std::vector<uint8_t>(kPxeClass.begin(), kPxeClass.end()));
  const std::string ipxe = "4d0469505845";
  const auto boot_file = [](const std::string& classes) {
    Frame frame = from_hex(golden::kDiscover);
    const Frame options = from_hex(classes);
    frame.insert(frame.begin() + 42 + 240, options.begin(), options.end());
    frame[17] = static_cast<uint8_t>(frame[17] + options.size());
    frame[39] = static_cast<uint8_t>(frame[39] + options.size());
    const Frame reply = ask(pxe_config(), frame).frame;
    return std::string(reinterpret_cast<const char*>(reply.data()) + 42 + 108);
  };
  EXPECT_EQ(boot_file(firmware + ipxe), "http://192.0.2.7/boot.ipxe");
  EXPECT_EQ(boot_file(ipxe + firmware), "ipxe/x86_64/ipxe.new");
}

TEST(Dhcp4, BootServerOfTheOtherFamilyIsLeftOut) {
  GuestConfig config = vm_config();
  config.pxe = PxeConfig{.server4 = {}, .server6 = kPxeServer6, .boot_filename = "boot.ipxe"};
  expect_reply(config, golden::kPxeDiscover, golden::kOffer);
}

TEST(Dhcp4, LongestBootUrlFits) {
  GuestConfig config = pxe_config();
  config.pxe->server4 = 0xffffffff;
  config.pxe->boot_filename = "/123456789012345678901234567890";
  const Answer answer = ask(config, golden::kIpxeDiscover);
  ASSERT_EQ(answer.reply.verdict, Verdict::kReply);
  const char* file = reinterpret_cast<const char*>(answer.frame.data()) + 42 + 108;
  EXPECT_STREQ(file, "http://255.255.255.255/123456789012345678901234567890");
}

TEST(Dhcp4, OptionsAreOptional) {
  GuestConfig config = vm_config();
  config.dns4 = {};
  config.hostname = "";
  const std::vector<std::pair<int, size_t>> expected = {{53, 1}, {51, 4}, {54, 4}, {121, 12}, {1, 4}, {26, 2}};
  EXPECT_EQ(options_of(ask(config, golden::kDiscover).frame), expected);
}

TEST(Dhcp4, NameServersAreCutToTheClientsBuffer) {
  GuestConfig config = vm_config();
  const std::vector<uint32_t> many(100, 0x01020304);
  config.dns4 = many;
  config.hostname = "a-name-of-thirty-bytes-in-sum-";
  Answer answer = ask(config, golden::kDiscover);
  EXPECT_EQ(options_of(answer.frame)[6], (std::pair<int, size_t>(6, 63 * 4)));

  Frame frame = from_hex(golden::kDiscover);
  const std::string max_message = "39020240";  // option 57: 576
  const Frame option = from_hex(max_message);
  frame.insert(frame.begin() + 42 + 240, option.begin(), option.end());
  frame[17] = static_cast<uint8_t>(frame[17] + 4);
  frame[39] = static_cast<uint8_t>(frame[39] + 4);
  answer = ask(config, frame);
  ASSERT_EQ(answer.reply.verdict, Verdict::kReply);
  EXPECT_LE(answer.frame.size() - 14, 576u);
  EXPECT_GT(answer.frame.size() - 14, 572u);
  EXPECT_EQ(options_of(answer.frame).back().first, 12);
}

TEST(Dhcp4, DhcpcdGetsTheGatewayAsAHostRouteToo) {
  Frame frame = from_hex(golden::kDiscover);
  const Frame vendor_class = from_hex(
      "3c0c64686370"
      "63642d392e342e31");  // option 60: dhcpcd-9.4.1
  frame.insert(frame.begin() + 42 + 240, vendor_class.begin(), vendor_class.end());
  frame[17] = static_cast<uint8_t>(frame[17] + vendor_class.size());
  frame[39] = static_cast<uint8_t>(frame[39] + vendor_class.size());
  const Answer answer = ask(vm_config(), frame);
  ASSERT_EQ(answer.reply.verdict, Verdict::kReply);
  EXPECT_EQ(options_of(answer.frame)[3], (std::pair<int, size_t>(121, 21)));
  const std::string routes =
      "79"
      "15"
      "20a9fe000100000000"
      "10a9fe00000000"
      "00a9fe0001";
  EXPECT_NE(to_hex(answer.frame).find(routes), std::string::npos);
}

TEST(Dhcp4, VirtualServicesHaveARoute) {
  GuestConfig config = vm_config();
  config.virtual_services = true;
  const Answer answer = ask(config, from_hex(golden::kDiscover));
  ASSERT_EQ(answer.reply.verdict, Verdict::kReply);
  EXPECT_EQ(options_of(answer.frame)[3], (std::pair<int, size_t>(121, 20)));
  const std::string routes =
      "10a9fe00000000"
      "00a9fe0001"
      "18a9fe01a9fe0001";
  EXPECT_NE(to_hex(answer.frame).find(routes), std::string::npos);
}

TEST(Dhcp4, OptionOverloadIsReadAndNotEchoed) {
  Frame frame = from_hex(golden::kDiscover);
  // The message type moves into the file field; the option field says so.
  const Frame overload = from_hex("340101ff");
  std::copy(overload.begin(), overload.end(), frame.begin() + 42 + 240);
  const Frame type = from_hex("350101ff");
  std::copy(type.begin(), type.end(), frame.begin() + 42 + 108);
  expect_reply(vm_config(), to_hex(frame), golden::kOffer);
}

TEST(Dhcp4, RefusesWhatItDoesNotServe) {
  expect_drop(vm_config(), golden::kServerOffer, GuestDrop::kDhcp4MessageType);
  expect_drop(vm_config(), golden::kRelayed, GuestDrop::kDhcp4Relayed);
  expect_drop(vm_config(), golden::kNoType, GuestDrop::kDhcp4Malformed);
  GuestConfig config = vm_config();
  config.has_ipv4 = false;
  expect_drop(config, golden::kDiscover, GuestDrop::kDhcp4NoAddress);
}

TEST(Dhcp4, RefusesMalformed) {
  const auto broken = [](size_t at, uint8_t value) {
    Frame frame = from_hex(golden::kDiscover);
    frame[at] = value;
    expect_drop(vm_config(), frame, GuestDrop::kDhcp4Malformed);
  };
  broken(42, 2);         // op: reply
  broken(43, 6);         // hardware type
  broken(44, 16);        // hardware address length
  broken(42 + 236, 0);   // magic cookie
  broken(42 + 241, 99);  // option runs over the end
  broken(38, 0xff);      // UDP length beyond the packet
  broken(38, 0);         // UDP length too small
}

TEST(Dhcp4, ReplyNeedsRoom) {
  Frame out(200);
  const GuestReply reply = handle(vm_config(), from_hex(golden::kDiscover), out);
  EXPECT_EQ(reply.drop, GuestDrop::kNoRoom);
  EXPECT_FALSE(reply.learned_vm_mac);
}

}  // namespace
}  // namespace ironcore::guest
