// Control calls on interfaces and prefixes: order of checks, and that a refused call leaves no trace.
#include <gtest/gtest.h>

#include <functional>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

class Interfaces : public ::testing::Test {
 protected:
  // Everything a refused call could have changed, as one comparable value.
  std::vector<std::string> state() {
    std::vector<std::string> lines;
    for (const auto& level : net.engine().counters().tables)
      if (level.name != "packet_buffers") lines.push_back(level.name + " " + std::to_string(level.used));
    for (const auto& info : net.engine().list_interfaces()) lines.push_back(info.id + to_string(info.underlay));
    for (const uint32_t vni : {100u, 200u, 300u})
      lines.push_back(std::to_string(net.engine().check_vni_in_use(vni, VniType::kIpv4).value));
    return lines;
  }
  void expect_refused(const CreateInterfaceRequest& request, Status status) {
    const auto before = state();
    EXPECT_EQ(status_name(net.engine().create_interface(request).status), status_name(status));
    EXPECT_EQ(state(), before);
  }

  Harness net;
};

TEST_F(Interfaces, LifeOfOne) {
  auto request = net.interface_request(kVf0, 100, "10.0.0.1", "2001:db8::1");
  request.hostname = "web";
  request.total_meter_rate = 1000;
  const auto reply = net.engine().create_interface(request);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(to_string(reply.value.underlay), "fc00:1::d000:1:0:1");
  EXPECT_EQ(reply.value.netdev_name, device_name(kVf0));
  const auto info = net.engine().get_interface("vm0");
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info.value.vni, 100u);
  EXPECT_EQ(to_string(info.value.ipv4), "10.0.0.1");
  EXPECT_EQ(to_string(info.value.ipv6), "2001:db8::1");
  EXPECT_EQ(info.value.hostname, "web");
  EXPECT_EQ(info.value.total_meter_rate, 1000u);
  EXPECT_EQ(net.engine().list_interfaces().size(), 1u);
  EXPECT_TRUE(net.engine().check_vni_in_use(100, VniType::kIpv6).value);
  EXPECT_EQ(net.engine().delete_interface("vm0"), Status::OK);
  EXPECT_EQ(net.engine().delete_interface("vm0"), Status::NOT_FOUND);
  EXPECT_EQ(net.engine().get_interface("vm0").status, Status::NOT_FOUND);
  EXPECT_FALSE(net.engine().check_vni_in_use(100, VniType::kIpv6).value);
  EXPECT_TRUE(net.engine().create_interface(request).ok());
}

TEST_F(Interfaces, EachRefusalUndoesTheStepsBeforeIt) {
  net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
  const Ipv6Address chosen = ip6("fc00:1::d000:8000:0:7");

  auto request = net.interface_request(kVf1, 100, "10.0.0.2", "2001:db8::2");
  request.device_name = "no_such_device";
  expect_refused(request, Status::NOT_FOUND);
  request.device_name = device_name(kPf0);
  expect_refused(request, Status::ALREADY_EXISTS);
  // Device busy is found before the id in use.
  request.device_name = device_name(kVf0);
  request.id = "vm0";
  expect_refused(request, Status::ALREADY_EXISTS);
  request.device_name = device_name(kVf1);
  expect_refused(request, Status::VM_HANDLE);

  request.id = "vm1";
  request.ipv4 = ip4("10.0.0.1");
  expect_refused(request, Status::ROUTE_EXISTS);
  request.ipv4 = ip4("10.0.0.2");
  request.ipv6 = ip6("2001:db8::1");
  expect_refused(request, Status::ROUTE_EXISTS);  // the IPv4 route is taken back
  request.vni = 300;                              // and so is a VNI created for it
  request.id = "vm0";
  expect_refused(request, Status::VM_HANDLE);

  request = net.interface_request(kVf1, 100, "10.0.0.2", "2001:db8::2");
  request.preferred_underlay = chosen;
  ASSERT_TRUE(net.engine().create_interface(request).ok());
  request = net.interface_request(kVf2, 200, "10.0.0.3");
  request.preferred_underlay = chosen;
  expect_refused(request, Status::VNF_INSERT);
  request.preferred_underlay.reset();
  EXPECT_TRUE(net.engine().create_interface(request).ok());
}

TEST_F(Interfaces, MalformedRequestsAreRefusedEvenIfTheCallerForgot) {
  auto valid = net.interface_request(kVf0, 100, "10.0.0.1");
  for (const auto& spoil : std::vector<std::function<void(CreateInterfaceRequest&)>>{
           [](auto& r) { r.id = ""; }, [](auto& r) { r.id = "a/b"; }, [](auto& r) { r.id = std::string(64, 'a'); },
           [](auto& r) { r.hostname = std::string(64, 'a'); }, [](auto& r) { r.ipv4 = {}; },
           [](auto& r) { r.preferred_underlay = ip6("fc00:9::d000:8000:0:1"); },
           [](auto& r) { r.preferred_underlay = ip6("fc00:1::d000:0:0:1"); },
           [](auto& r) { r.pxe = PxeOptions{ip("10.0.0.9"), std::string(32, 'a')}; }}) {
    auto request = valid;
    spoil(request);
    expect_refused(request, Status::BAD_REQUEST);
  }
  EXPECT_TRUE(net.engine().create_interface(valid).ok());
}

TEST(InterfacesMeter, RatesNeedADeviceThatHasThem) {
  EngineOptions options = default_options();
  options.nic_type = NicType::kMellanox;
  try {
    Harness net(options);
    FAIL() << "a device without flow isolation was accepted as an uplink";
  } catch (const EngineError& error) {
    EXPECT_NE(std::string(error.what()).find("flow isolation"), std::string::npos) << error.what();
  }
}

TEST_F(Interfaces, StartUpErrorsNameTheOption) {
  const auto error_of = [](auto spoil) -> std::string {
    EngineOptions options = default_options();
    spoil(options);
    try {
      Engine engine(options);
    } catch (const EngineError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_NE(error_of([](auto& o) { o.pf0 = "eth99"; }).find("eth99"), std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.vf_pattern = "nothing"; }).find("nothing"), std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.dhcp_mtu = 67; }).find("dhcp_mtu"), std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.wcmp = 101; }).find("wcmp"), std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.flow_table_size = 1; }).find("flow_table_size"), std::string::npos);
  EXPECT_NE(error_of([](auto& o) { o.workers = 9; }).find("workers"), std::string::npos);
}

TEST_F(Interfaces, AliasPrefixes) {
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.add_interface(kVf1, 100, "10.0.0.2");
  Engine& engine = net.engine();
  EXPECT_EQ(engine.create_prefix("nobody", prefix("10.1.0.0/16"), std::nullopt).status, Status::NO_VM);
  const auto created = engine.create_prefix("vm0", prefix("10.1.2.3/16"), std::nullopt);
  ASSERT_TRUE(created.ok());
  EXPECT_EQ(engine.create_prefix("vm0", prefix("10.1.2.3/16"), std::nullopt).status, Status::ROUTE_EXISTS);
  EXPECT_EQ(engine.create_prefix("vm1", prefix("10.1.0.0/16"), std::nullopt).status, Status::ROUTE_EXISTS);
  EXPECT_EQ(engine.create_prefix("vm1", {ip("10.3.0.0"), 33}, std::nullopt).status, Status::ROUTE_INSERT);
  // A taken underlay address takes the route back.
  EXPECT_EQ(engine.create_prefix("vm1", prefix("10.3.0.0/16"), created.value).status, Status::VNF_INSERT);
  EXPECT_EQ(engine.delete_prefix("vm1", prefix("10.3.0.0/16")), Status::ROUTE_NOT_FOUND);
  const auto list = engine.list_prefixes("vm0");
  ASSERT_EQ(list.value.size(), 1u);
  EXPECT_EQ(list.value[0].prefix, prefix("10.1.2.3/16"));
  EXPECT_EQ(list.value[0].underlay, created.value);
  EXPECT_EQ(engine.list_prefixes("nobody").status, Status::NO_VM);

  EXPECT_EQ(engine.delete_prefix("vm1", prefix("10.1.2.3/16")), Status::ROUTE_BAD_PORT);
  // Other host bits name another prefix; the interface's own address is none.
  EXPECT_EQ(engine.delete_prefix("vm0", prefix("10.1.0.0/16")), Status::NOT_FOUND);
  EXPECT_EQ(engine.delete_prefix("vm0", prefix("10.0.0.1/32")), Status::NOT_FOUND);
  net.forward(kVf1, udp_from_vm("10.0.0.2", "10.0.0.1"), kVf0);
  net.forward(kVf1, udp_from_vm("10.0.0.2", "10.1.9.9"), kVf0);
  EXPECT_EQ(engine.delete_prefix("vm0", prefix("10.1.2.3/16")), Status::OK);
  EXPECT_EQ(engine.delete_prefix("vm0", prefix("10.1.2.3/16")), Status::ROUTE_NOT_FOUND);
}

TEST_F(Interfaces, PrefixesStayWithTheDevice) {
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.add_interface(kVf1, 100, "10.0.0.2");
  Engine& engine = net.engine();
  ASSERT_TRUE(engine.create_prefix("vm0", prefix("10.1.0.0/16"), std::nullopt).ok());
  ASSERT_TRUE(engine.create_lb_prefix("vm0", prefix("10.2.0.0/16"), std::nullopt).ok());
  engine.delete_interface("vm0");
  net.add_interface(kVf0, 300, "10.0.0.1");
  EXPECT_EQ(engine.list_prefixes("vm0").value.size(), 1u);
  EXPECT_EQ(engine.list_lb_prefixes("vm0").value.size(), 1u);
  EXPECT_EQ(engine.create_prefix("vm1", prefix("10.1.0.0/16"), std::nullopt).status, Status::ROUTE_EXISTS);
  EXPECT_EQ(engine.delete_prefix("vm1", prefix("10.1.0.0/16")), Status::ROUTE_BAD_PORT);
}

TEST_F(Interfaces, LoadBalancerPrefixes) {
  net.add_interface(kVf0, 100, "10.0.0.1");
  Engine& engine = net.engine();
  EXPECT_EQ(engine.create_lb_prefix("nobody", prefix("10.1.0.0/16"), std::nullopt).status, Status::NO_VM);
  const auto created = engine.create_lb_prefix("vm0", prefix("10.1.0.0/32"), std::nullopt);
  ASSERT_TRUE(created.ok());
  EXPECT_EQ(engine.create_lb_prefix("vm0", prefix("10.1.0.0/32"), std::nullopt).status, Status::ALREADY_EXISTS);
  EXPECT_EQ(engine.create_lb_prefix("vm0", prefix("10.2.0.0/32"), created.value).status, Status::VNF_INSERT);
  EXPECT_TRUE(engine.create_lb_prefix("vm0", {ip("10.3.0.0"), 200}, std::nullopt).ok());
  EXPECT_EQ(engine.list_lb_prefixes("vm0").value.size(), 2u);
  net.forward(kPf0, overlay(kRemote, created.value, udp_from_vm("10.9.9.9", "10.1.0.0")), kVf0);
  EXPECT_EQ(engine.delete_lb_prefix("vm0", prefix("10.1.0.0/31")), Status::NOT_FOUND);
  EXPECT_EQ(engine.delete_lb_prefix("vm0", prefix("10.1.0.0/32")), Status::OK);
  net.expect_drop(kPf0, overlay(kRemote, created.value, udp_from_vm("10.9.9.9", "10.1.0.0")),
                  DropReason::underlay_unknown);
}

}  // namespace
}  // namespace ironcore::testing
