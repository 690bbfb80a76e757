// What would happen to a packet now: the steps of the worker's packet path on a copy of it, with the very code that
// decides and rewrites there, and without any of its effects.
//
// Not foreseen is what depends on other packets: rates, full queues, which flow makes room for a new one, and the
// identification that a worker counts up for answers of virtual services, which is 0 here.
#pragma once

#include <vector>

#include "explain/fields.h"
#include "worker/worker.h"

namespace ironcore {

// `frame` begins with its Ethernet header and is as long as a packet buffer holds at most. The caller holds off control
// calls and is a registered reader of the flow table.
Explanation explain(const WorkerShared& shared, const FlowContext& flows, Port& port,
                    const std::vector<uint8_t>& frame);

}  // namespace ironcore
