// Which ports of a NAT address are in use towards one destination. A few stand in the set itself; more are bits in
// pages, with a directory that knows the full ones, so that the search for a free port takes no time that matters.
#pragma once

#include <cstdint>
#include <optional>

#include "nat/pool.h"

namespace ironcore::nat {

// An all-zero one is empty. Belongs to one PortSets.
struct PortSet {
  static constexpr uint32_t kInline = 8;

  uint32_t count : 31;
  uint32_t paged : 1;
  union alignas(8) {
    uint16_t ports[kInline];  // the first `count`, in any order
    uint32_t directory;
  };
};
static_assert(sizeof(PortSet) == 24);

// Operations on sets. Different sets may be changed at the same time.
class PortSets {
 public:
  explicit PortSets(uint32_t max_ports);  // in all sets together

  bool contains(const PortSet& set, uint16_t port) const;
  // First from `start` upwards in [min, max) with wrap-around; `start` lies in it.
  std::optional<uint16_t> first_free(const PortSet& set, uint16_t min, uint16_t max, uint16_t start) const;
  void insert(PortSet& set, uint16_t port);  // not contained
  void erase(PortSet& set, uint16_t port);   // contained

 private:
  static constexpr uint32_t kPagePorts = 512, kPages = 65536 / kPagePorts, kPageWords = kPagePorts / 64;
  // When a set leaves its directory. Far from kInline, so that it does not go back and forth with every flow.
  static constexpr uint32_t kShrink = 4;

  struct alignas(64) Page {
    uint64_t used[kPageWords];
  };
  struct Directory {
    uint64_t full[kPages / 64];
    uint32_t page[kPages];  // 0: no port of it is in use
  };

  std::optional<uint16_t> first_free_paged(const Directory& directory, uint32_t from, uint32_t to) const;
  void set_bit(Directory& directory, uint16_t port);
  void grow(PortSet& set);
  void shrink(PortSet& set);

  Pool<Page> pages_;
  Pool<Directory> directories_;
};

}  // namespace ironcore::nat
