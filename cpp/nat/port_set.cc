#include "nat/port_set.h"

#include <emmintrin.h>

#include <algorithm>
#include <bit>

namespace ironcore::nat {
namespace {

bool any_equals(const PortSet& set, uint16_t port) {
  const __m128i ports = _mm_loadu_si128(reinterpret_cast<const __m128i*>(set.ports));
  const __m128i equal = _mm_cmpeq_epi16(ports, _mm_set1_epi16(static_cast<int16_t>(port)));
  const auto valid = (1u << 2 * set.count) - 1;
  return (static_cast<uint32_t>(_mm_movemask_epi8(equal)) & valid) != 0;
}

bool bit(const uint64_t* words, uint32_t i) { return words[i / 64] >> (i % 64) & 1; }

// First 0 bit from `i` on, or `count`, a multiple of 64.
uint32_t first_zero(const uint64_t* words, uint32_t i, uint32_t count) {
  if (i >= count) return count;
  uint64_t zeros = ~words[i / 64] >> (i % 64);
  if (zeros) return i + static_cast<uint32_t>(std::countr_zero(zeros));
  for (i = (i / 64 + 1) * 64; i < count; i += 64)
    if ((zeros = ~words[i / 64])) return i + static_cast<uint32_t>(std::countr_zero(zeros));
  return count;
}

}  // namespace

// A page has a port in use, a directory at least kShrink + 1.
PortSets::PortSets(uint32_t max_ports) : pages_(max_ports), directories_(std::max(max_ports / (kShrink + 1), 1u)) {}

bool PortSets::contains(const PortSet& set, uint16_t port) const {
  if (!set.paged) return any_equals(set, port);
  const uint32_t page = directories_[set.directory].page[port / kPagePorts];
  return page && bit(pages_[page].used, port % kPagePorts);
}

std::optional<uint16_t> PortSets::first_free(const PortSet& set, uint16_t min, uint16_t max, uint16_t start) const {
  if (set.paged) {
    const Directory& directory = directories_[set.directory];
    if (const auto port = first_free_paged(directory, start, max)) return port;
    return first_free_paged(directory, min, start);
  }
  // `count` ports can be in the way.
  const uint32_t tries = std::min<uint32_t>(set.count + 1, static_cast<uint32_t>(max - min));
  uint16_t port = start;
  for (uint32_t i = 0; i < tries; ++i) {
    if (!any_equals(set, port)) return port;
    port = port + 1 < max ? static_cast<uint16_t>(port + 1) : min;
  }
  return std::nullopt;
}

std::optional<uint16_t> PortSets::first_free_paged(const Directory& directory, uint32_t from, uint32_t to) const {
  while (from < to) {
    uint32_t page = first_zero(directory.full, from / kPagePorts, kPages);
    from = std::max(from, page * kPagePorts);
    if (from >= to) break;
    if (directory.page[page])
      from = page * kPagePorts + first_zero(pages_[directory.page[page]].used, from % kPagePorts, kPagePorts);
    if (from < std::min(to, (page + 1) * kPagePorts)) return static_cast<uint16_t>(from);
  }
  return std::nullopt;
}

void PortSets::set_bit(Directory& directory, uint16_t port) {
  const uint32_t number = port / kPagePorts, at = port % kPagePorts;
  if (!directory.page[number]) {
    directory.page[number] = pages_.take();
    pages_[directory.page[number]] = {};
  }
  Page& page = pages_[directory.page[number]];
  page.used[at / 64] |= uint64_t{1} << at % 64;
  if (first_zero(page.used, 0, kPagePorts) == kPagePorts) directory.full[number / 64] |= uint64_t{1} << number % 64;
}

void PortSets::insert(PortSet& set, uint16_t port) {
  if (!set.paged && set.count == PortSet::kInline) grow(set);
  if (set.paged) {
    set_bit(directories_[set.directory], port);
  } else {
    set.ports[set.count] = port;
  }
  ++set.count;
}

void PortSets::erase(PortSet& set, uint16_t port) {
  --set.count;
  if (!set.paged) {
    *std::find(set.ports, set.ports + set.count, port) = set.ports[set.count];
    return;
  }
  Directory& directory = directories_[set.directory];
  const uint32_t number = port / kPagePorts, at = port % kPagePorts;
  Page& page = pages_[directory.page[number]];
  page.used[at / 64] &= ~(uint64_t{1} << at % 64);
  directory.full[number / 64] &= ~(uint64_t{1} << number % 64);
  if (std::all_of(page.used, page.used + kPageWords, [](uint64_t word) { return word == 0; })) {
    pages_.give(directory.page[number]);
    directory.page[number] = 0;
  }
  if (set.count == kShrink) shrink(set);
}

void PortSets::grow(PortSet& set) {
  const uint32_t index = directories_.take();
  Directory& directory = directories_[index];
  directory = {};
  for (const uint16_t port : set.ports) set_bit(directory, port);
  set.directory = index;
  set.paged = 1;
}

void PortSets::shrink(PortSet& set) {
  const uint32_t index = set.directory;
  uint32_t found = 0;
  for (uint32_t number = 0; number < kPages && found < kShrink; ++number) {
    const uint32_t page = directories_[index].page[number];
    if (!page) continue;
    for (uint32_t word = 0; word < kPageWords; ++word)
      for (uint64_t bits = pages_[page].used[word]; bits; bits &= bits - 1)
        set.ports[found++] =
            static_cast<uint16_t>(number * kPagePorts + word * 64 + static_cast<uint32_t>(std::countr_zero(bits)));
    pages_.give(page);
  }
  directories_.give(index);
  set.paged = 0;
}

}  // namespace ironcore::nat
