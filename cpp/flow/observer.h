// Who wants to know what becomes of connections and of what workers learn. Called by workers, in their slow path.
#pragma once

#include "flow/entry.h"

namespace ironcore {
namespace virtsvc {
struct Client;
struct Service;
}  // namespace virtsvc

enum class ConnectionChange : uint8_t { kBegan, kState, kEnded };

class FlowObserver {
 public:
  // A connection's original direction, as it is now in the table, or was until it ended or was replaced.
  virtual void connection(ConnectionChange change, const FlowKey& original, const FlowContent& content) = 0;
  virtual void vm_mac_learned(uint16_t port, const MacAddress& mac) = 0;
  // It may have been another client's.
  virtual void service_slot_taken(const virtsvc::Service& service, uint16_t slot, const virtsvc::Client& client) = 0;

 protected:
  ~FlowObserver() = default;
};

}  // namespace ironcore
