#include "metalbond/table.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "metalbond/wire.h"

namespace metalbond {

void Free::operator()(Record* record) const {
  record->~Record();
  ::operator delete(record);
}

const SourceEntry* find_source(const Record& record, Source source) {
  const SourceEntry* entries = record.sources();
  for (uint32_t n = 0; n < record.count; ++n)
    if (entries[n].source == source) return entries + n;
  return nullptr;
}

Slot VniTable::find(std::string_view key) const {
  return by_key_.find(hash_(key), [&](Slot slot) { return at(slot).key() == key; });
}

Slot VniTable::find_destination(std::string_view destination) const {
  return by_destination_.find(hash_(destination), [&](Slot slot) { return at(slot).destination() == destination; });
}

Slot VniTable::make(std::string_view key) {
  if (const Slot known = find(key); known != SlotIndex::kNone) return known;
  void* memory = ::operator new(sizeof(Record) + key.size());
  auto* record = new (memory) Record{};
  std::memcpy(static_cast<char*>(memory) + sizeof(Record), key.data(), key.size());
  record->key_size = static_cast<uint8_t>(key.size());
  record->destination_size = static_cast<uint8_t>(destination_bytes(key));
  record->hash = hash_(key);
  record->destination_hash = hash_(record->destination());
  Slot slot;
  if (free_.empty()) {
    slot = static_cast<Slot>(records_.size());
    records_.emplace_back(record);
  } else {
    slot = free_.back();
    free_.pop_back();
    records_[slot].reset(record);
  }
  by_key_.insert(record->hash, slot, [&](Slot other) { return at(other).hash; });
  return slot;
}

void VniTable::release(Slot slot) {
  const Record& record = at(slot);
  if (record.count != 0 || record.users != 0) return;
  by_key_.erase(record.hash, slot, [&](Slot other) { return at(other).hash; });
  records_[slot].reset();
  free_.push_back(slot);
}

void VniTable::link(Slot slot) {
  Record& record = at(slot);
  const Slot head = find_destination(record.destination());
  if (head == SlotIndex::kNone) {
    by_destination_.insert(record.destination_hash, slot, [&](Slot other) { return at(other).destination_hash; });
    return;
  }
  // Behind the head, so that the index stays as it is.
  record.previous = head;
  record.next = at(head).next;
  if (record.next != SlotIndex::kNone) at(record.next).previous = slot;
  at(head).next = slot;
}

void VniTable::unlink(Slot slot) {
  Record& record = at(slot);
  if (record.previous != SlotIndex::kNone) {
    at(record.previous).next = record.next;
  } else if (record.next != SlotIndex::kNone) {
    by_destination_.replace(record.destination_hash, slot, record.next);
  } else {
    by_destination_.erase(record.destination_hash, slot, [&](Slot other) { return at(other).destination_hash; });
  }
  if (record.next != SlotIndex::kNone) at(record.next).previous = record.previous;
  record.next = record.previous = SlotIndex::kNone;
}

VniTable* Table::find(uint32_t vni) {
  const auto found = vnis_.find(vni);
  return found == vnis_.end() ? nullptr : &found->second;
}

VniTable& Table::make(uint32_t vni) { return vnis_.try_emplace(vni, hash_).first->second; }

void Table::prune(uint32_t vni) {
  const auto found = vnis_.find(vni);
  if (found != vnis_.end() && found->second.by_key_.size() == 0) vnis_.erase(found);
}

std::pair<Slot, bool> Table::add(Source source, uint32_t vni, std::string_view key) {
  VniTable& table = make(vni);
  const Slot slot = table.make(key);
  Record& record = table.at(slot);
  if (find_source(record, source) != nullptr) return {slot, false};
  auto& places = of_source_[source];
  const SourceEntry entry{source, static_cast<uint32_t>(places.size())};
  places.push_back({vni, slot});
  if (record.count == 0) {
    ++size_;
    ++table.routes;
    table.link(slot);
    record.one = entry;
  } else {
    if (!record.many) record.many = std::make_unique<std::vector<SourceEntry>>(1, record.one);
    record.many->push_back(entry);
  }
  ++record.count;
  return {slot, true};
}

Slot Table::remove(Source source, uint32_t vni, std::string_view key) {
  VniTable* table = find(vni);
  const Slot slot = table ? table->find(key) : SlotIndex::kNone;
  if (slot == SlotIndex::kNone) return slot;
  Record& record = table->at(slot);
  const SourceEntry* entry = find_source(record, source);
  if (entry == nullptr) return SlotIndex::kNone;
  const auto mine = of_source_.find(source);
  auto& places = mine->second;
  const uint32_t place = entry->place;
  if (place + 1 != places.size()) {
    places[place] = places.back();
    Record& moved = find(places[place].vni)->at(places[place].slot);
    const_cast<SourceEntry*>(find_source(moved, source))->place = place;
  }
  places.pop_back();
  if (places.empty()) of_source_.erase(mine);
  if (record.many) {
    record.many->erase(record.many->begin() + (entry - record.many->data()));
    if (record.many->size() == 1) {
      record.one = record.many->front();
      record.many.reset();
    }
  }
  if (--record.count == 0) {
    --size_;
    --table->routes;
    table->unlink(slot);
  }
  return slot;
}

size_t Table::count_of(Source source) const { return of_source(source).size(); }

const std::vector<Table::Place>& Table::of_source(Source source) const {
  static const std::vector<Place> none;
  const auto found = of_source_.find(source);
  return found == of_source_.end() ? none : found->second;
}

}  // namespace metalbond
