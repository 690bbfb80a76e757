// Shared by the guest tests: frames from hex text, the VM the golden frames are about, and a comparison that prints
// hex.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "golden_frames.h"
#include "guest/guest.h"

namespace ironcore::guest {

using Frame = std::vector<uint8_t>;

inline Frame from_hex(std::string_view text) {
  Frame frame;
  for (size_t i = 0; i + 1 < text.size(); i += 2)
    frame.push_back(static_cast<uint8_t>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  return frame;
}

inline std::string to_hex(std::span<const uint8_t> frame) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : frame) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

inline constexpr Mac kVmMac = {0x52, 0x54, 0, 0, 0, 1};
inline constexpr Ipv6 kVmIpv6 = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
inline constexpr std::array<uint32_t, 2> kDns4 = {0x08080808, 0x08080404};
inline constexpr std::array<Ipv6, 1> kDns6 = {
    {{0x20, 0x01, 0x48, 0x60, 0x48, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0x88}}};
inline constexpr uint32_t kPxeServer4 = 0xc0000207;  // 192.0.2.7
inline constexpr Ipv6 kPxeServer6 = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5};

inline GuestConfig vm_config() {
  GuestConfig config;
  config.port_mac = {2, 0, 0, 0, 0, 0xfe};
  config.vm_mac = kVmMac;
  config.vm_mac_known = true;
  config.ipv4 = 0x0a000001;
  config.has_ipv4 = true;
  config.ipv6 = kVmIpv6;
  config.has_ipv6 = true;
  config.ipv6_overlay = true;
  config.dhcp_mtu = 1450;
  config.dns4 = kDns4;
  config.dns6 = kDns6;
  config.hostname = "vm-one";
  return config;
}

struct Answer {
  GuestReply reply;
  Frame frame;
};

inline Answer ask(const GuestConfig& config, std::span<const uint8_t> request) {
  Frame out(kReplyRoom);
  Answer answer{handle(config, request, out), {}};
  answer.frame.assign(out.begin(), out.begin() + static_cast<ptrdiff_t>(answer.reply.length));
  return answer;
}

inline Answer ask(const GuestConfig& config, std::string_view request_hex) {
  return ask(config, from_hex(request_hex));
}

inline void expect_reply(const GuestConfig& config, std::string_view request, std::string_view reply) {
  const Answer answer = ask(config, request);
  EXPECT_EQ(answer.reply.verdict, Verdict::kReply) << to_string(answer.reply.drop);
  EXPECT_EQ(to_hex(answer.frame), reply);
}

inline void expect_drop(const GuestConfig& config, std::span<const uint8_t> request, GuestDrop drop) {
  const Answer answer = ask(config, request);
  EXPECT_EQ(answer.reply.verdict, Verdict::kDrop);
  EXPECT_EQ(to_string(answer.reply.drop), to_string(drop));
  EXPECT_EQ(answer.reply.length, 0u);
}

inline void expect_drop(const GuestConfig& config, std::string_view request, GuestDrop drop) {
  expect_drop(config, from_hex(request), drop);
}

inline void expect_verdict(const GuestConfig& config, std::string_view request, Verdict verdict) {
  EXPECT_EQ(ask(config, request).reply.verdict, verdict);
}

}  // namespace ironcore::guest
