// The extent of a frame in its buffer.
#pragma once

#include <rte_mbuf.h>

#include <cstddef>
#include <cstdint>

namespace ironcore {

// The frame begins at `start`, inside its buffer, and has `length` bytes.
inline void set_extent(rte_mbuf* frame, const uint8_t* start, size_t length) {
  frame->data_off = static_cast<uint16_t>(start - static_cast<const uint8_t*>(frame->buf_addr));
  frame->data_len = static_cast<uint16_t>(length);
  frame->pkt_len = static_cast<uint32_t>(length);
}

}  // namespace ironcore
