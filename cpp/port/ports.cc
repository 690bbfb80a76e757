#include <net/if.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "core/log.h"
#include "port/isolation.h"
#include "port/port.h"

namespace ironcore {
namespace {

constexpr uint16_t kRxDescriptors = 512, kTxDescriptors = 512;
constexpr uint32_t kPoolCache = 256;
constexpr uint32_t kRoomAroundMtu = RTE_ETHER_HDR_LEN + 4 + 40;  // Ethernet, one VLAN tag, outer header
constexpr uint32_t kMinDataRoom = 2048;

[[noreturn]] void fail(const Port& port, const std::string& what, int error = 0) {
  throw EngineError("port " + port.netdev_name + " (" + port.device_name + "): " + what +
                    (error ? std::string(": ") + rte_strerror(error < 0 ? -error : error) : ""));
}

uint64_t device_mac(uint16_t id) {
  rte_ether_addr mac{};
  rte_eth_macaddr_get(id, &mac);
  // Some virtual devices have none; the gateway needs a unicast one all the same.
  if (rte_is_zero_ether_addr(&mac))
    mac = {{0x02, 0x1c, 0x00, 0x00, static_cast<uint8_t>(id >> 8), static_cast<uint8_t>(id)}};
  MacAddress bytes;
  std::copy_n(mac.addr_bytes, 6, bytes.begin());
  return AtomicMac::pack(bytes);
}

uint32_t device_mtu(uint16_t id) {
  uint16_t mtu = 0;
  return rte_eth_dev_get_mtu(id, &mtu) == 0 && mtu != 0 ? mtu : RTE_ETHER_MTU;
}

// What the operator gave the netdev. Drivers on top of a kernel device answer with a constant instead.
uint32_t kernel_mtu(const std::string& netdev) {
  ifreq request{};
  netdev.copy(request.ifr_name, IF_NAMESIZE - 1);
  const int socket = ::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const bool known = socket >= 0 && ioctl(socket, SIOCGIFMTU, &request) == 0;
  if (socket >= 0) ::close(socket);
  return known && request.ifr_mtu > 0 ? static_cast<uint32_t>(request.ifr_mtu) : RTE_ETHER_MTU;
}

}  // namespace

Ports::Ports(const EngineOptions& options, unsigned workers, bool close_devices)
    : nic_type_(options.nic_type), underlay_(options.underlay), close_devices_(close_devices) {
  find(options);
  create_pool(options, workers);
  try {
    for (Port* port : all()) configure(*port, workers);
  } catch (...) {
    rte_mempool_free(pool_);
    throw;
  }
}

Ports::~Ports() {
  stop_all();
  if (close_devices_)
    for (Port* port : all()) rte_eth_dev_close(port->id);
  rte_mempool_free(pool_);
}

void Ports::find(const EngineOptions& options) {
  uint16_t id;
  RTE_ETH_FOREACH_DEV(id) {
    rte_eth_dev_info info{};
    char device[RTE_ETH_NAME_MAX_LEN];
    if (rte_eth_dev_info_get(id, &info) != 0 || rte_eth_dev_get_name_by_port(id, device) != 0) continue;
    char netdev[IF_NAMESIZE];
    const bool has_netdev = info.if_index != 0 && if_indextoname(info.if_index, netdev);
    auto port = std::make_unique<Port>();
    port->id = id;
    port->device_name = device;
    port->netdev_name = has_netdev ? netdev : device;
    port->if_index = has_netdev ? info.if_index : 0;
    const bool is_pf0 = port->netdev_name == options.pf0, is_pf1 = port->netdev_name == options.pf1;
    const bool is_vm = !is_pf0 && !is_pf1 && !options.vf_pattern.empty() &&
                       port->netdev_name.find(options.vf_pattern) != std::string::npos;
    if ((!is_pf0 && !is_pf1 && !is_vm) || port->netdev_name == options.sync_tap) continue;
    port->is_uplink = !is_vm;
    port->own_mac = device_mac(id);
    // A guess for a VM that uses its device's MAC; uplinks have to learn it.
    if (is_vm) port->peer.store(port->own_mac);
    port->max_frame = (has_netdev ? kernel_mtu(port->netdev_name) : device_mtu(id)) + RTE_ETHER_HDR_LEN;
    if (ports_.size() <= id) ports_.resize(size_t{id} + 1);
    ports_[id] = std::move(port);
  }
  for (const std::string* name : {&options.pf0, &options.pf1}) {
    if (name->empty()) continue;
    const auto found = std::find_if(ports_.begin(), ports_.end(),
                                    [&](const auto& port) { return port && port->netdev_name == *name; });
    if (found == ports_.end()) throw EngineError("no device with the netdev name " + *name);
    (*found)->pf_index = static_cast<uint16_t>(uplinks_.size());
    uplinks_.push_back(found->get());
  }
  if (uplinks_.empty()) throw EngineError("no uplink named (pf0)");
  for (const auto& port : ports_)
    if (port && !port->is_uplink) vm_ports_.push_back(port.get());
  if (vm_ports_.empty()) throw EngineError("no device whose netdev name contains " + options.vf_pattern);
}

void Ports::create_pool(const EngineOptions& options, unsigned workers) {
  uint32_t room = kMinDataRoom;
  for (Port* port : all()) room = std::max(room, port->max_frame + kRoomAroundMtu);
  const uint32_t queues = static_cast<uint32_t>(vm_ports_.size()) + static_cast<uint32_t>(uplinks_.size()) * workers;
  const uint32_t count = options.mbufs ? options.mbufs : queues * (kRxDescriptors + kTxDescriptors) + 4096;
  static std::atomic<unsigned> serial{0};
  const std::string name = "ironcore_" + std::to_string(serial++);
  pool_ = rte_pktmbuf_pool_create(name.c_str(), count, kPoolCache, 0,
                                  static_cast<uint16_t>(std::min(room + RTE_PKTMBUF_HEADROOM, 65535u)),
                                  static_cast<int>(rte_socket_id()));
  if (!pool_)
    throw EngineError("cannot allocate " + std::to_string(count) + " packet buffers of " + std::to_string(room) +
                      " bytes: " + rte_strerror(rte_errno) + " (more memory, or fewer mbufs)");
}

void Ports::configure(Port& port, unsigned workers) {
  rte_eth_dev_info info{};
  if (int error = rte_eth_dev_info_get(port.id, &info)) fail(port, "no device information", error);
  if (port.is_uplink && nic_type_ != NicType::kTap)
    if (const std::string why = isolate_uplink(port.id); !why.empty()) fail(port, "flow isolation: " + why);

  rte_eth_conf config{};
  const uint64_t rss = info.flow_type_rss_offloads & (RTE_ETH_RSS_IPV6 | RTE_ETH_RSS_IPV4);
  const bool spread = port.is_uplink && workers > 1 && rss && nic_type_ == NicType::kTap;
  if (spread) {
    config.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    config.rx_adv_conf.rss_conf.rss_hf = rss;
  }
  const uint64_t tx_capabilities = info.tx_offload_capa;
  // The MTU is the operator's: a NIC driver that is told nothing would set the default. Drivers on kernel devices leave
  // it alone, and refuse more than the default.
  if (nic_type_ != NicType::kTap)
    config.rxmode.mtu = std::min<uint32_t>(port.max_frame - RTE_ETHER_HDR_LEN, info.max_mtu);
  config.txmode.offloads = tx_capabilities & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
  config.intr_conf.lsc = port.is_uplink && (*info.dev_flags & RTE_ETH_DEV_INTR_LSC) ? 1 : 0;

  // One queue per worker where the device has that many; some devices need as many rx queues as tx queues, with which
  // uplinks without RSS are better off with a single one.
  port.rx_queues = spread && info.max_rx_queues >= workers ? static_cast<uint16_t>(workers) : 1;
  port.tx_queues = info.max_tx_queues >= workers ? static_cast<uint16_t>(workers) : 1;
  if (rte_eth_dev_configure(port.id, port.rx_queues, port.tx_queues, &config) != 0) {
    port.rx_queues = port.tx_queues = 1;
    config.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE;
    config.rx_adv_conf.rss_conf.rss_hf = 0;
    if (int error = rte_eth_dev_configure(port.id, 1, 1, &config)) fail(port, "configure", error);
  }
  port.shared_tx_queue = port.tx_queues < workers;
  // A TAP sends no more than the driver's own MTU, which starts at 1500 whatever the netdev has. A driver that has no
  // such limit may refuse.
  const auto mtu = static_cast<uint16_t>(std::min<uint32_t>(port.max_frame - RTE_ETHER_HDR_LEN, UINT16_MAX));
  if (nic_type_ == NicType::kTap && mtu > device_mtu(port.id) && rte_eth_dev_set_mtu(port.id, mtu) != 0)
    IRONCORE_LOG(INFO, "port %s: the driver does not take the netdev's MTU of %u", port.netdev_name.c_str(), mtu);

  uint16_t rx_descriptors = kRxDescriptors, tx_descriptors = kTxDescriptors;
  if (int error = rte_eth_dev_adjust_nb_rx_tx_desc(port.id, &rx_descriptors, &tx_descriptors))
    fail(port, "descriptors", error);
  const int socket = rte_eth_dev_socket_id(port.id);
  const auto numa = static_cast<unsigned>(socket < 0 ? SOCKET_ID_ANY : socket);
  for (uint16_t queue = 0; queue < port.rx_queues; ++queue)
    if (int error = rte_eth_rx_queue_setup(port.id, queue, rx_descriptors, numa, nullptr, pool_))
      fail(port, "rx queue", error);
  for (uint16_t queue = 0; queue < port.tx_queues; ++queue)
    if (int error = rte_eth_tx_queue_setup(port.id, queue, tx_descriptors, numa, nullptr))
      fail(port, "tx queue", error);
  if (!port.is_uplink && rte_eth_promiscuous_enable(port.id) != 0)
    IRONCORE_LOG(WARNING, "port %s has no promiscuous mode", port.netdev_name.c_str());
}

std::vector<Port*> Ports::all() const {
  std::vector<Port*> ports = uplinks_;
  ports.insert(ports.end(), vm_ports_.begin(), vm_ports_.end());
  return ports;
}

Port* Ports::by_device_name(std::string_view name) const {
  for (Port* port : all())
    if (port->device_name == name) return port;
  return nullptr;
}

void Ports::start_uplinks() {
  for (Port* port : uplinks_) {
    if (!start(*port)) fail(*port, "start", rte_errno);
    if (nic_type_ != NicType::kTap)
      if (const std::string why = steer_overlay(port->id, underlay_); !why.empty())
        fail(*port, "steering rule: " + why);
    refresh_link(*port);
  }
}

bool Ports::start(Port& port) {
  if (port.started) return true;
  if (rte_eth_dev_start(port.id) != 0) return false;
  port.started = true;
  return true;
}

bool Ports::stop(Port& port) {
  if (!port.started) return true;
  port.started = false;
  return rte_eth_dev_stop(port.id) == 0;
}

bool Ports::refresh_link(Port& port) const {
  rte_eth_link link{};
  if (rte_eth_link_get_nowait(port.id, &link) != 0) return false;
  const bool up = link.link_status == RTE_ETH_LINK_UP;
  if (port.link_up.exchange(up) == up) return false;
  IRONCORE_LOG(NOTICE, "uplink %s is %s", port.netdev_name.c_str(), up ? "up" : "down");
  return true;
}

void Ports::stop_all() {
  for (auto port = vm_ports_.rbegin(); port != vm_ports_.rend(); ++port) stop(**port);
  for (auto port = uplinks_.rbegin(); port != uplinks_.rend(); ++port) stop(**port);
}

}  // namespace ironcore
