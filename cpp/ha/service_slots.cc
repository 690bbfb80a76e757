#include "ha/service_slots.h"

namespace ironcore::ha {

ServiceSlot told(const virtsvc::Service& service, uint16_t slot, const virtsvc::Client& client) {
  return {.service = service.config.virtual_address,
          .service_port = service.config.virtual_port,
          .slot = slot,
          .client = client.address,
          .client_port = client.port,
          .vf_port = client.vf_port,
          .protocol = service.config.protocol};
}

bool take(virtsvc::Registry& services, const Ports& ports, const ServiceSlot& message, Tick now) {
  virtsvc::Service* service = services.find_request(message.protocol, message.service, message.service_port);
  const Port* port = ports.by_id(message.vf_port);
  return service && port && !port->is_uplink &&
         service->slots.take(message.slot, {message.vf_port, message.client_port, message.client}, now);
}

}  // namespace ironcore::ha
