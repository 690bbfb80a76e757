// Packet capture: which ports have their received frames copied.
#include <algorithm>
#include <set>

#include "control/impl.h"

namespace ironcore {

Port* Engine::Impl::captured_port(const CaptureInterface& wanted) const {
  if (wanted.is_uplink) return ports_.uplink(wanted.pf_index);
  const Interface* interface = find(wanted.interface_id);
  return interface ? interface->port : nullptr;
}

Status Engine::Impl::capture_start(const CaptureConfig& config) {
  Call call(*this);
  if (config.interfaces.size() > kMaxCaptureInterfaces) return Status::BAD_REQUEST;
  if (!options_.capture_in_software) return Status::NOT_ACTIVE;
  if (capture_.sink) return Status::ALREADY_ACTIVE;
  std::set<Port*> chosen;
  for (const CaptureInterface& interface : config.interfaces) {
    Port* port = captured_port(interface);
    if (!port) return Status::NOT_FOUND;
    if (!port->started) return Status::NO_VM;
    if (!chosen.insert(port).second) return Status::ALREADY_ACTIVE;
  }
  capture_.config = config;
  capture_.sink = std::make_unique<CaptureSink>(options_.underlay, config);
  for (Port* port : chosen) port->capture.store(capture_.sink.get(), std::memory_order_release);
  return Status::OK;
}

Result<uint32_t> Engine::Impl::capture_stop() {
  Call call(*this);
  if (!capture_.sink) return Status::NOT_ACTIVE;
  for (Port* port : ports_.all()) port->capture.store(nullptr, std::memory_order_release);
  reclaimer_.retire(capture_.sink.release());
  return static_cast<uint32_t>(std::exchange(capture_.config, {}).interfaces.size());
}

CaptureInfo Engine::Impl::capture_status() const {
  Call call(*this);
  CaptureInfo info;
  if (!capture_.sink) return info;
  info.active = true;
  info.config = capture_.config;
  info.copied = capture_.sink->copied.load(std::memory_order_relaxed);
  info.truncated = capture_.sink->truncated.load(std::memory_order_relaxed);
  info.dropped = capture_.sink->dropped.load(std::memory_order_relaxed);
  return info;
}

// The next interface of the device is somebody else's.
void Engine::Impl::stop_capturing(const Interface& interface) {
  interface.port->capture.store(nullptr, std::memory_order_release);
  std::erase_if(capture_.config.interfaces, [&](const CaptureInterface& captured) {
    return !captured.is_uplink && captured.interface_id == interface.request.id;
  });
}

}  // namespace ironcore
