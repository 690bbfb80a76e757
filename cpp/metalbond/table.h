// Routing information base: which sources announce which routes. A route is its key (wire.h).
//
// About 150 bytes per route: the record with the key, two index entries, a place in the table and one per source.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "metalbond/hash.h"
#include "metalbond/index.h"

namespace metalbond {

using Source = uint32_t;
using Slot = uint32_t;

struct SourceEntry {
  Source source;
  uint32_t place;  // in the source's own list
};

struct Record {
  uint32_t hash;
  uint32_t destination_hash;
  Slot next = SlotIndex::kNone;  // of the same destination
  Slot previous = SlotIndex::kNone;
  uint32_t users = 0;  // receivers that have bits for it
  SourceEntry one{0, 0};
  uint32_t count = 0;                              // of sources
  std::unique_ptr<std::vector<SourceEntry>> many;  // all of them, once there was more than one
  uint8_t key_size;
  uint8_t destination_size;

  std::string_view key() const { return {reinterpret_cast<const char*>(this + 1), key_size}; }
  std::string_view destination() const { return key().substr(0, destination_size); }
  const SourceEntry* sources() const { return many ? many->data() : &one; }
};

struct Free {
  void operator()(Record* record) const;
};

// Routes of one VNI. Slots are numbers of routes; one is used again when nobody knows it any more.
class VniTable {
 public:
  explicit VniTable(const KeyedHash& hash) : hash_(hash) {}

  Record& at(Slot slot) { return *records_[slot]; }
  const Record& at(Slot slot) const { return *records_[slot]; }
  size_t slots() const { return records_.size(); }
  bool used(Slot slot) const { return records_[slot] != nullptr; }

  Slot find(std::string_view key) const;
  // First slot of a destination, by the front part of a key; kNone if there is none.
  Slot find_destination(std::string_view destination) const;
  Slot make(std::string_view key);
  // Gives the slot back if it has neither sources nor users.
  void release(Slot slot);

  size_t routes = 0;  // with sources
  size_t destinations() const { return by_destination_.size(); }

 private:
  friend class Table;
  // A route is in the list of its destination while it has sources.
  void link(Slot slot);
  void unlink(Slot slot);

  const KeyedHash& hash_;
  std::vector<std::unique_ptr<Record, Free>> records_;
  std::vector<Slot> free_;
  SlotIndex by_key_;
  SlotIndex by_destination_;
};

class Table {
 public:
  VniTable* find(uint32_t vni);
  VniTable& make(uint32_t vni);
  // Forgets a VNI that has no slots in use.
  void prune(uint32_t vni);

  // Slot, and false if the source had announced it already.
  std::pair<Slot, bool> add(Source source, uint32_t vni, std::string_view key);
  // Slot, or kNone if the source had not announced it. The caller ends with `release`.
  Slot remove(Source source, uint32_t vni, std::string_view key);

  size_t size() const { return size_; }
  size_t count_of(Source source) const;

  struct Place {
    uint32_t vni;
    Slot slot;
  };
  // Announced by the source, in no order; not stable against changes.
  const std::vector<Place>& of_source(Source source) const;
  void forget(Source source) { of_source_.erase(source); }

  const std::unordered_map<uint32_t, VniTable>& vnis() const { return vnis_; }

 private:
  KeyedHash hash_;
  std::unordered_map<uint32_t, VniTable> vnis_;
  std::unordered_map<Source, std::vector<Place>> of_source_;
  size_t size_ = 0;
};

// Whether the source announces the route of the record.
const SourceEntry* find_source(const Record& record, Source source);

}  // namespace metalbond
