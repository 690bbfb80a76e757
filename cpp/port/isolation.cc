#include "port/isolation.h"

#include <rte_errno.h>
#include <rte_flow.h>

#include <algorithm>

namespace ironcore {
namespace {

std::string text(const rte_flow_error& error) { return error.message ? error.message : rte_strerror(rte_errno); }

}  // namespace

std::string isolate_uplink(uint16_t port) {
  rte_flow_error error{};
  return rte_flow_isolate(port, 1, &error) == 0 ? "" : text(error);
}

std::string steer_overlay(uint16_t port, const Ipv6Address& host) {
  rte_flow_item_eth eth{}, eth_mask{};
  eth.hdr.ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV6);
  eth_mask.hdr.ether_type = RTE_BE16(0xffff);
  rte_flow_item_ipv6 ip{}, ip_mask{};
  auto* address = reinterpret_cast<uint8_t*>(&ip.hdr.dst_addr);
  auto* mask = reinterpret_cast<uint8_t*>(&ip_mask.hdr.dst_addr);
  std::copy_n(host.begin(), 8, address);
  std::fill_n(mask, 8, uint8_t{0xff});
  address[8] = 0xd0;
  mask[8] = 0xf0;
  const rte_flow_item pattern[] = {
      {RTE_FLOW_ITEM_TYPE_ETH, &eth, nullptr, &eth_mask},
      {RTE_FLOW_ITEM_TYPE_IPV6, &ip, nullptr, &ip_mask},
      {RTE_FLOW_ITEM_TYPE_END, nullptr, nullptr, nullptr},
  };
  const rte_flow_action_queue queue{0};
  const rte_flow_action actions[] = {{RTE_FLOW_ACTION_TYPE_QUEUE, &queue}, {RTE_FLOW_ACTION_TYPE_END, nullptr}};
  rte_flow_attr attributes{};
  attributes.ingress = 1;
  rte_flow_error error{};
  return rte_flow_create(port, &attributes, pattern, actions, &error) ? "" : text(error);
}

}  // namespace ironcore
