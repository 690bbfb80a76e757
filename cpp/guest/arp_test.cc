#include "guest_test_support.h"

namespace ironcore::guest {
namespace {

TEST(Arp, AnswersForTheGateway) { expect_reply(vm_config(), golden::kArpRequest, golden::kArpReply); }

TEST(Arp, FirstRequestTeachesTheMacAndIsAnswered) {
  GuestConfig config = vm_config();
  config.vm_mac_known = false;
  const Answer answer = ask(config, golden::kArpRequest);
  EXPECT_EQ(answer.reply.verdict, Verdict::kReply);
  EXPECT_EQ(to_hex(answer.frame), golden::kArpReply);
  EXPECT_EQ(answer.reply.learned_vm_mac, kVmMac);
}

TEST(Arp, LearnsOncePerCycle) { EXPECT_FALSE(ask(vm_config(), golden::kArpRequest).reply.learned_vm_mac); }

TEST(Arp, ReplyOfTheVmTeachesAndIsConsumed) {
  GuestConfig config = vm_config();
  config.vm_mac_known = false;
  Frame frame = from_hex(golden::kArpRequest);
  frame[21] = 2;  // operation: reply
  const Answer answer = ask(config, frame);
  EXPECT_EQ(answer.reply.verdict, Verdict::kConsumed);
  EXPECT_EQ(answer.reply.learned_vm_mac, kVmMac);
}

TEST(Arp, ForeignSenderTeachesNothing) {
  GuestConfig config = vm_config();
  config.vm_mac_known = false;
  Frame frame = from_hex(golden::kArpRequest);
  frame[31] = 2;  // sender 10.0.0.2
  const Answer answer = ask(config, frame);
  EXPECT_EQ(answer.reply.verdict, Verdict::kReply);
  EXPECT_FALSE(answer.reply.learned_vm_mac);
}

TEST(Arp, ProbeWithoutSenderAddressIsAnswered) {
  Frame frame = from_hex(golden::kArpRequest);
  std::fill(frame.begin() + 28, frame.begin() + 32, uint8_t{0});
  EXPECT_EQ(ask(vm_config(), frame).reply.verdict, Verdict::kReply);
}

TEST(Arp, ThereIsNoProxyArp) {
  Frame frame = from_hex(golden::kArpRequest);
  frame[41] = 2;  // target 169.254.0.2
  expect_drop(vm_config(), frame, GuestDrop::kArpNotGateway);
}

TEST(Arp, RefusesMalformed) {
  for (const auto& [at, value] : {std::pair{15, 6}, {16, 9}, {18, 8}, {19, 16}, {22, 0xff}}) {
    Frame frame = from_hex(golden::kArpRequest);
    frame[static_cast<size_t>(at)] = static_cast<uint8_t>(value);
    expect_drop(vm_config(), frame, GuestDrop::kArpMalformed);
  }
  Frame short_frame = from_hex(golden::kArpRequest);
  short_frame.pop_back();
  expect_drop(vm_config(), short_frame, GuestDrop::kArpMalformed);
}

TEST(Arp, PeriodicFrameAsksForTheVmUntilItIsKnown) {
  Frame out(64);
  GuestConfig config = vm_config();
  EXPECT_EQ(to_hex(std::span(out).first(periodic_garp(config, out))), golden::kGarp);
  config.vm_mac_known = false;
  EXPECT_EQ(to_hex(std::span(out).first(periodic_garp(config, out))), golden::kArpProbeOfVm);
  config.has_ipv4 = false;
  EXPECT_EQ(periodic_garp(config, out), 0u);
}

}  // namespace
}  // namespace ironcore::guest
