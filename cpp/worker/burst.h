// Frames of one port on their way through the stages of a lookup.
#pragma once

#include "worker/worker.h"

namespace ironcore {

struct Worker::Burst {
  unsigned count = 0;
  rte_mbuf* frame[kBurst];
  FlowKey key[kBurst];
  ParsedPacket packet[kBurst];
  uint64_t hash[kBurst];
  uint32_t candidate[kBurst];
};

}  // namespace ironcore
