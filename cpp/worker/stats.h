// Counters of one worker. Written by it alone, read from anywhere.
#pragma once

#include <rte_config.h>

#include <memory>

#include "core/counter.h"
#include "ironcore/drop_reason.h"

namespace ironcore {

struct PortStats {
  Counter rx_packets, rx_bytes, tx_packets, tx_bytes;
  Counter drops[kDropReasonCount];
};

struct WorkerStats {
  Counter packets, slow_path, polls, busy_cycles, sleeps;
  Counter flows_created, flows_redecided, flows_expired, flows_evicted, flow_table_full, firewall_would_drop;
  std::unique_ptr<PortStats[]> ports = std::make_unique<PortStats[]>(RTE_MAX_ETHPORTS);
};

}  // namespace ironcore
