// A script for a whole engine as bytes, as a fuzzer makes them: options, then control calls and frames.
#pragma once

#include <span>

#include "testing/traffic.h"

namespace ironcore::testing {

// Runs any bytes through a new engine. Aborts if a frame that leaves is not what its port may send, or if a packet
// buffer got lost.
//
//   byte 0   Scenario::options
//   byte 1   bit 0: Scenario::populate() first
//   then     tag (bits 0-2 what follows, bit 3 the second uplink, bit 7 polls only later, with what comes next)
//              0-3  frame from that VM     4  frame from the uplink
//              5    overlay packet: underlay address (1 byte, Scenario::underlay), then the inner packet like a frame
//              6-7  control call: 4 bytes
//            frames: length (2 bytes, little endian, at most 1500 count), bytes
void run_engine_input(std::span<const uint8_t> input);

std::vector<uint8_t> engine_input(uint8_t options, const std::vector<Step>& steps);

}  // namespace ironcore::testing
