// NAT mappings and the connections that hold them: the reference tells the former, this engine the latter.
#pragma once

#include "ha/record.h"

namespace ironcore::ha {

NatMapping mapping_of(const Identity& id, const NatBinding& nat);

// The connection that a mapping of the reference's messages belongs to.
Identity identity_of(const NatMapping& mapping, uint16_t port, uint16_t icmp_type);

}  // namespace ironcore::ha
