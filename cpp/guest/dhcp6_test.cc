#include "guest_test_support.h"

namespace ironcore::guest {
namespace {

GuestConfig pxe_config() {
  GuestConfig config = vm_config();
  config.pxe = PxeConfig{.server4 = {}, .server6 = kPxeServer6, .boot_filename = "boot.ipxe"};
  return config;
}

TEST(Dhcp6, SolicitIsAdvertised) { expect_reply(vm_config(), golden::kSolicit, golden::kAdvertise); }

TEST(Dhcp6, RapidCommitAsLastOptionIsCommitted) {
  expect_reply(vm_config(), golden::kSolicitRapid, golden::kReplyRapid);
}

TEST(Dhcp6, RequestGetsTheAddress) { expect_reply(vm_config(), golden::kRequest6, golden::kReply6); }

TEST(Dhcp6, RenewAndRebindTakeForeignAddressesAway) {
  expect_reply(vm_config(), golden::kRenew6, golden::kReplyStale);
  expect_reply(vm_config(), golden::kRebind6, golden::kReplyStale);
}

TEST(Dhcp6, SecondAssociationGetsNoAddress) { expect_reply(vm_config(), golden::kRequestTwoIas, golden::kReplyTwoIas); }

TEST(Dhcp6, Confirm) {
  expect_reply(vm_config(), golden::kConfirm, golden::kReplySuccess);
  expect_reply(vm_config(), golden::kConfirmOther, golden::kReplyNotOnLink);
  expect_verdict(vm_config(), golden::kConfirmNothing, Verdict::kConsumed);
}

TEST(Dhcp6, ReleaseAndDeclineSucceed) {
  expect_reply(vm_config(), golden::kRelease6, golden::kReplySuccess);
  expect_reply(vm_config(), golden::kDecline6, golden::kReplySuccess);
}

TEST(Dhcp6, InformationRequest) { expect_reply(vm_config(), golden::kInformationRequest, golden::kReplyInformation); }

TEST(Dhcp6, NetworkBoot) {
  expect_reply(pxe_config(), golden::kSolicitPxe, golden::kAdvertiseTftp);
  expect_reply(pxe_config(), golden::kSolicitIpxe, golden::kAdvertiseHttp);
  expect_reply(pxe_config(), golden::kSolicit, golden::kAdvertise);
}

TEST(Dhcp6, BootServerOfTheOtherFamilyIsLeftOut) {
  GuestConfig config = vm_config();
  config.pxe = PxeConfig{.server4 = kPxeServer4, .server6 = {}, .boot_filename = "/boot.ipxe"};
  expect_reply(config, golden::kSolicitPxe, golden::kAdvertise);
}

TEST(Dhcp6, BootServerAddressIsWrittenInCanonicalText) {
  const auto url_of = [](const Ipv6& server) {
    GuestConfig config = pxe_config();
    config.pxe->server6 = server;
    const Frame frame = ask(config, golden::kSolicitIpxe).frame;
    const std::string text(frame.begin(), frame.end());
    const size_t start = text.find("http://") + 8;
    return text.substr(start, text.find(']') - start);
  };
  EXPECT_EQ(url_of({}), "::");
  EXPECT_EQ(url_of(kGatewayIpv6), "fe80::1");
  EXPECT_EQ(url_of({0xfc, 0, 0, 1}), "fc00:1::");
  EXPECT_EQ(url_of({0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1}), "2001:db8:0:1:1:1:1:1");
  EXPECT_EQ(url_of({0x20, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xab, 0xcd}), "2001:0:0:1::abcd");
}

TEST(Dhcp6, WithoutAddressSaysSo) {
  GuestConfig config = vm_config();
  config.has_ipv6 = false;
  expect_reply(config, golden::kSolicit, golden::kReplyNoAddrs);
  expect_reply(config, golden::kRequest6, golden::kReplyNoAddrs);
  expect_drop(config, golden::kRenew6, GuestDrop::kDhcp6NoAddress);
}

TEST(Dhcp6, NameServersAreOptional) {
  GuestConfig config = vm_config();
  config.dns6 = {};
  const Frame frame = ask(config, golden::kInformationRequest).frame;
  EXPECT_EQ(frame.size(), from_hex(golden::kReplyInformation).size() - 20);
}

TEST(Dhcp6, RelayMessagesAreRefused) {
  Frame frame = from_hex(golden::kRequest6);
  frame[62] = 12;
  expect_drop(vm_config(), frame, GuestDrop::kDhcp6MessageType);
}

TEST(Dhcp6, RefusesMalformed) {
  const auto broken = [](size_t at, uint8_t value) {
    Frame frame = from_hex(golden::kRequest6);
    frame[at] = value;
    expect_drop(vm_config(), frame, GuestDrop::kDhcp6Malformed);
  };
  broken(22, 0xff);  // multicast source
  broken(58, 0xff);  // UDP length beyond the packet
  broken(59, 4);     // UDP length shorter than its header
  broken(69, 200);   // client identifier runs over the end
}

TEST(Dhcp6, AddressInsideAnAssociationIsBoundsChecked) {
  Frame frame = from_hex(golden::kRequest6);
  const size_t address_length = frame.size() - 25;  // low byte of the length of the IAADDR option that ends the packet
  ASSERT_EQ(frame[address_length], 24);
  frame[address_length] = 25;
  expect_drop(vm_config(), frame, GuestDrop::kDhcp6Malformed);
}

}  // namespace
}  // namespace ironcore::guest
