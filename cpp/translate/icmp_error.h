// ICMP errors about translated flows (RFC 5508 section 4, RFC 7915 sections 4.2 to 5.3).
#pragma once

#include "translate/rewrite.h"

namespace ironcore::translate {

// Translates the error in `packet` with the rewrite of the flow's direction in which the error travels (towards the VM:
// kDestination, kFourToSix; from the VM: kSource, kSixToFour). The VM's end of the outer header and the opposite end of
// the quoted packet get the rewrite's address and port; a router's source address stays, or gets kNat64Prefix.
//
// The quoted packet must be of the flow: find it with parse_embedded(). Its checksums are adjusted as far as they are
// quoted. NAT64 moves RFC 4884 extensions with it, and cuts what exceeds 1280 bytes off, extensions first.
//
// kNotTranslatable: not an error that parse_embedded() understands, a fragment, sent to somebody else than the source
// of the quoted packet, or no such error in the other family. kBadChecksum: of the message or the quoted IPv4 header
// (RFC 5508 REQ-3). The packet and the view are then unchanged. kFourToSix needs at most 55 bytes of headroom, the
// others none.
Outcome translate_icmp_error(const Rewrite& rewrite, PacketView& packet);

}  // namespace ironcore::translate
