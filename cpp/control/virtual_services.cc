// Virtual services: configured at start, counted here.
#include "control/impl.h"

namespace ironcore {

std::unique_ptr<virtsvc::Registry> Engine::Impl::create_virtual_services(uint64_t secret) const {
  if (options_.virtual_services.empty()) return nullptr;
  try {
    return std::make_unique<virtsvc::Registry>(options_.virtual_services, options_.underlay,
                                               virtsvc::SlotTimeouts::of(kTicksPerSecond), secret);
  } catch (const std::invalid_argument& error) {
    throw EngineError(std::string("option out of range: ") + error.what());
  }
}

std::vector<VirtualServiceInfo> Engine::Impl::virtual_services() const {
  std::vector<VirtualServiceInfo> list;
  if (!virtual_services_) return list;
  for (const auto& service : virtual_services_->services())
    list.push_back({service->config, service->underlay, static_cast<uint32_t>(service->slots.used()),
                    virtsvc::ServiceSlots::kCount});
  return list;
}

// Once more when no worker can still hand out a slot to the interface, unless the device has a new one by then.
void Engine::Impl::release_virtual_services(Port& port) {
  if (!virtual_services_) return;
  virtual_services_->release_interface(port.id);
  reclaimer_.defer([this, &port] {
    if (!port.interface.load(std::memory_order_relaxed)) virtual_services_->release_interface(port.id);
  });
}

}  // namespace ironcore
