// Zeroed memory that the system provides when it is touched, in huge pages where it allows them. Whoever touches one
// first waits while it is zeroed, up to half a millisecond: `populate` does that beforehand.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <new>

namespace ironcore {

template <typename T>
class MappedArray {
 public:
  explicit MappedArray(size_t count) : bytes_(round_up(count * sizeof(T))) {
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    madvise(memory, bytes_, MADV_HUGEPAGE);  // fewer TLB misses too
    at_ = static_cast<T*>(memory);
  }
  ~MappedArray() { munmap(at_, bytes_); }
  MappedArray(const MappedArray&) = delete;
  MappedArray& operator=(const MappedArray&) = delete;

  T& operator[](size_t i) const { return at_[i]; }
  T* data() const { return at_; }

  // Takes the memory of the first `count` elements from the system. Before Linux 5.14 nothing happens. For one thread.
  void populate(size_t count) {
    const size_t end = std::min(round_up(count * sizeof(T)), bytes_);
    if (end <= populated_) return;
#ifdef MADV_POPULATE_WRITE
    madvise(reinterpret_cast<char*>(at_) + populated_, end - populated_, MADV_POPULATE_WRITE);
#endif
    populated_ = end;
  }

 private:
  static constexpr size_t kHugePage = 2 << 20;
  static size_t round_up(size_t bytes) { return (bytes + kHugePage - 1) & ~(kHugePage - 1); }

  const size_t bytes_;
  T* at_;
  size_t populated_ = 0;
};

}  // namespace ironcore
