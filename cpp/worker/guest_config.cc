#include "worker/worker.h"

namespace ironcore {

guest::GuestConfig guest_config(const WorkerShared& shared, const Port& port, const InterfaceView& interface) {
  guest::GuestConfig config;
  const uint64_t vm_mac = port.peer.load();
  config.port_mac = AtomicMac::unpack(port.own_mac);
  config.vm_mac = AtomicMac::unpack(vm_mac);
  config.vm_mac_known = (vm_mac & AtomicMac::kKnown) != 0;
  config.has_ipv4 = interface.has_ipv4();
  config.ipv4 = net::swap32(net::load<uint32_t>(interface.ipv4.data()));
  config.has_ipv6 = interface.has_ipv6();
  config.ipv6 = interface.ipv6;
  config.ipv6_overlay = shared.options.enable_ipv6_overlay;
  config.dhcp_mtu = shared.options.dhcp_mtu;
  config.dns4 = shared.dns4;
  config.dns6 = shared.dns6;
  config.virtual_services = shared.virtual_services != nullptr;
  config.hostname = interface.hostname;
  if (interface.pxe) {
    guest::PxeConfig pxe;
    pxe.boot_filename = interface.pxe->boot_filename;
    const IpAddress& server = interface.pxe->next_server;
    if (server.is_v6) {
      pxe.server6 = server.bytes;
    } else {
      pxe.server4 = net::swap32(net::load<uint32_t>(server.bytes.data()));
    }
    config.pxe = pxe;
  }
  return config;
}

}  // namespace ironcore
