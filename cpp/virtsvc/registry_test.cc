#include "virtsvc/registry.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "net/headers.h"

namespace ironcore::virtsvc {
namespace {

constexpr SlotTimeouts kTimeouts = SlotTimeouts::of(10);
const Ipv6Address kHost = *parse_ipv6("fc00:1::1");

ServiceConfig udp(const std::string& text) { return parse_service(net::kUdp, text); }
ServiceConfig tcp(const std::string& text) { return parse_service(net::kTcp, text); }

std::string refusal(const std::vector<ServiceConfig>& configs) {
  try {
    Registry(configs, kHost, kTimeouts, 1);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(VirtualServices, ParsesAnEndpointPair) {
  const ServiceConfig config = udp("169.254.1.10,53,2001:db8::53,5353");
  EXPECT_EQ(config, (ServiceConfig{net::kUdp, {169, 254, 1, 10}, 53, *parse_ipv6("2001:db8::53"), 5353}));
  EXPECT_EQ(tcp("1.2.3.4,1,::1,65535").server_port, 65535);
}

TEST(VirtualServices, RefusesWhatIsNoEndpointPair) {
  for (const char* text :
       {"", ",,,", "1.2.3.4,53,2001:db8::1", "1.2.3.4,53,2001:db8::1,53,", "1.2.3.4,53,2001:db8::1,53,1",
        "1.2.3,53,2001:db8::1,53", "1.2.3.4,53,1.2.3.4,53", "2001:db8::1,53,2001:db8::1,53", "1.2.3.4,0,2001:db8::1,53",
        "1.2.3.4,53,2001:db8::1,65536", "1.2.3.4,-1,2001:db8::1,53", "1.2.3.4,+1,2001:db8::1,53",
        "1.2.3.4, 53,2001:db8::1,53", "1.2.3.4,53 ,2001:db8::1,53", "1.2.3.4,,2001:db8::1,53", "1.2.3.4,53,[::1],53",
        "1.2.3.4,5x,2001:db8::1,53", "0.0.0.0,53,2001:db8::1,53", "1.2.3.4,53,::,53"})
    EXPECT_THROW(udp(text), std::invalid_argument) << text;
  EXPECT_THROW(parse_service(net::kIcmp, "1.2.3.4,53,2001:db8::1,53"), std::invalid_argument);
}

TEST(VirtualServices, SaysWhichPartIsWrong) {
  const auto message = [](const char* text) {
    try {
      udp(text);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message("1.2.3.4,70000,2001:db8::1,53"), "port '70000' is not in 1..65535");
  EXPECT_EQ(message("1.2.3,53,2001:db8::1,53"), "'1.2.3' is not an IPv4 address");
  EXPECT_EQ(message("1.2.3.4,53,x,53"), "'x' is not an IPv6 address");
  EXPECT_EQ(message("1.2.3.4,53"), "virtual service '1.2.3.4,53' is not IPv4,port,IPv6,port");
}

TEST(VirtualServices, FindsByEitherEnd) {
  const Registry registry({udp("169.254.1.10,53,2001:db8::53,5353"), tcp("169.254.1.10,53,2001:db8::53,5353"),
                           tcp("169.254.1.10,80,2001:db8::80,8080"), udp("10.0.0.1,53,2001:db8::1,53")},
                          kHost, kTimeouts, 1);
  const Ipv4Address virtual_address{169, 254, 1, 10};
  const Ipv6Address server = *parse_ipv6("2001:db8::53");
  for (size_t i = 0; i < registry.services().size(); ++i) {
    Service* service = registry.services()[i].get();
    const ServiceConfig& config = service->config;
    EXPECT_EQ(registry.find_request(config.protocol, config.virtual_address, config.virtual_port), service) << i;
    EXPECT_EQ(registry.find_reply(config.protocol, config.server_address, config.server_port), service) << i;
  }
  EXPECT_EQ(registry.find_request(net::kUdp, virtual_address, 80), nullptr);
  EXPECT_EQ(registry.find_request(net::kUdp, virtual_address, 5353), nullptr);
  EXPECT_EQ(registry.find_request(net::kIcmp, virtual_address, 53), nullptr);
  EXPECT_EQ(registry.find_request(net::kUdp, {169, 254, 1, 11}, 53), nullptr);
  EXPECT_EQ(registry.find_reply(net::kUdp, server, 53), nullptr);
  EXPECT_EQ(registry.find_reply(net::kUdp, *parse_ipv6("2001:db8::54"), 5353), nullptr);
  const Registry none({}, kHost, kTimeouts, 1);
  EXPECT_EQ(none.find_request(net::kUdp, virtual_address, 53), nullptr);
  EXPECT_EQ(none.find_reply(net::kUdp, server, 5353), nullptr);
}

TEST(VirtualServices, RefusesRepeatedEndpointsPerProtocol) {
  EXPECT_EQ(refusal({udp("1.2.3.4,53,2001:db8::1,53"), udp("1.2.3.4,53,2001:db8::2,53")}),
            "virtual services udp 1.2.3.4,53,2001:db8::1,53 and udp 1.2.3.4,53,2001:db8::2,53 have the same virtual "
            "endpoint");
  EXPECT_EQ(
      refusal({tcp("1.2.3.4,53,2001:db8::1,53"), udp("1.2.3.9,9,2001:db8::9,9"), tcp("1.2.3.5,53,2001:db8::1,53")}),
      "virtual services tcp 1.2.3.4,53,2001:db8::1,53 and tcp 1.2.3.5,53,2001:db8::1,53 have the same server "
      "endpoint");
  EXPECT_EQ(refusal({tcp("1.2.3.4,53,2001:db8::1,53"), udp("1.2.3.4,53,2001:db8::1,53"),
                     tcp("1.2.3.4,54,2001:db8::1,54"), tcp("1.2.3.5,53,2001:db8::2,53")}),
            "");
}

TEST(VirtualServices, RefusesIncompleteConfigurations) {
  const ServiceConfig good = udp("1.2.3.4,53,2001:db8::1,53");
  for (const auto spoil :
       {+[](ServiceConfig& c) { c.protocol = net::kIcmp; }, +[](ServiceConfig& c) { c.virtual_port = 0; },
        +[](ServiceConfig& c) { c.server_port = 0; }, +[](ServiceConfig& c) { c.virtual_address = {}; },
        +[](ServiceConfig& c) { c.server_address = {}; }}) {
    ServiceConfig bad = good;
    spoil(bad);
    EXPECT_NE(refusal({bad}), "");
  }
}

TEST(VirtualServices, LimitAndUnderlayAddresses) {
  std::vector<ServiceConfig> configs;
  for (unsigned i = 0; i < 256; ++i) {
    const std::string number = std::to_string(i + 1);
    configs.push_back(udp("10.0.0.1," + number + ",2001:db8::1," + number));
  }
  const Registry registry(configs, kHost, kTimeouts, 1);
  EXPECT_EQ(to_string(registry.services()[0]->underlay), "fc00:1::d0ff:4000:0:0");
  EXPECT_EQ(to_string(registry.services()[1]->underlay), "fc00:1::d0ff:4000:100:0");
  EXPECT_EQ(to_string(registry.services()[255]->underlay), "fc00:1::d0ff:4000:ff00:0");
  configs.push_back(tcp("10.0.0.1,1,2001:db8::1,1"));
  EXPECT_EQ(refusal(configs), "257 virtual services, at most 256 are possible");
}

TEST(VirtualServices, ReleaseOfAnInterfaceReachesAllServices) {
  Registry registry({udp("1.2.3.4,53,2001:db8::1,53"), tcp("1.2.3.4,53,2001:db8::1,53")}, kHost, kTimeouts, 1);
  for (const auto& service : registry.services())
    for (const uint16_t vf_port : {5, 6}) ASSERT_TRUE(service->slots.assign({vf_port, 40000, {10, 0, 0, 1}}, 0));
  EXPECT_EQ(registry.release_interface(5), 2u);
  for (const auto& service : registry.services()) EXPECT_EQ(service->slots.used(), 1u);
}

}  // namespace
}  // namespace ironcore::virtsvc
