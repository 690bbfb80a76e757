// The device that leads to the other engine of the pair. One thread uses it; workers know nothing of it.
#pragma once

#include <functional>
#include <string>

#include "ha/bytes.h"

struct rte_mempool;

namespace ironcore::ha {

class SyncPort {
 public:
  // The device with that netdev name (or DPDK name, without netdev), started. EngineError. `close`: at the end.
  SyncPort(const std::string& name, bool close);
  ~SyncPort();
  SyncPort(const SyncPort&) = delete;
  SyncPort& operator=(const SyncPort&) = delete;

  // Everything that has arrived, but a bounded number of frames; returns how many.
  size_t receive(const std::function<void(Bytes)>& visit);
  bool send(Bytes frame);  // false: not now

 private:
  uint16_t id_ = 0;
  const bool close_;
  rte_mempool* pool_ = nullptr;
};

}  // namespace ironcore::ha
