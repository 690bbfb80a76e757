#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "core/mapped_array.h"
#include "core/rcu.h"
#include "ironcore/drop_reason.h"
#include "ironcore/status.h"
#include "ironcore/types.h"

namespace ironcore {
namespace {

TEST(StatusText, IsTheWireContract) {
  EXPECT_EQ(status_name(Status::OK), "Success");
  EXPECT_EQ(status_name(Status::VM_HANDLE), "VM_HANDLE");
  EXPECT_EQ(static_cast<unsigned>(Status::VM_HANDLE), 402u);
  EXPECT_EQ(static_cast<unsigned>(Status::NO_DROP_SUPPORT), 441u);
}

TEST(DropReasons, HaveDistinctNamesAndTexts) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    names.insert(drop_reason_name(static_cast<DropReason>(i)));
    EXPECT_FALSE(drop_reason_description(static_cast<DropReason>(i)).empty());
  }
  EXPECT_EQ(names.size(), kDropReasonCount);
  EXPECT_EQ(drop_reason_name(DropReason::spoofed_source), "spoofed_source");
}

TEST(AddressText, IsStrict) {
  EXPECT_EQ(parse_ipv4("10.0.0.1"), (Ipv4Address{10, 0, 0, 1}));
  for (const char* bad : {"", "10.0.1", "010.0.0.1", "10.0.0.1 ", "10.0.0.256", "10.0.0.1/8", "::1"})
    EXPECT_FALSE(parse_ipv4(bad)) << bad;
  EXPECT_EQ(to_string(*parse_ipv6("2001:DB8:0::0001")), "2001:db8::1");
  EXPECT_TRUE(parse_ipv6("::ffff:10.0.0.1"));
  for (const char* bad : {"", "fe80::1%eth0", "[::1]", "::1/128", "1::2::3", "10.0.0.1"})
    EXPECT_FALSE(parse_ipv6(bad)) << bad;
  EXPECT_FALSE(parse_ipv4(std::string_view("10.0.0.1\0x", 10)));
}

TEST(ReclaimerGrace, WaitsForEveryOnlineReaderOnly) {
  Rcu rcu(2);
  Reclaimer reclaimer(rcu);
  rcu.enter(0);
  rcu.enter(1);
  rcu.offline(1);
  int done = 0;
  reclaimer.defer([&] { ++done; });
  EXPECT_EQ(reclaimer.run_due(), 1u);
  EXPECT_EQ(done, 0);
  rcu.quiescent(0);
  EXPECT_EQ(reclaimer.run_due(), 0u);
  EXPECT_EQ(done, 1);
  rcu.leave(0);
  reclaimer.defer([&] { ++done; });
  EXPECT_EQ(reclaimer.run_due(), 0u);
  EXPECT_EQ(done, 2);
}

// Whether the memory around an element is there.
template <typename T>
bool is_resident(const MappedArray<T>& array, size_t at) {
  unsigned char state = 0;
  auto* page = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(&array[at]) & ~uintptr_t{4095});
  EXPECT_EQ(mincore(page, 1, &state), 0);
  return state & 1;
}

TEST(MappedArray, TakesItsMemoryWhenToldTo) {
  constexpr size_t kCount = 4 << 20, kSome = 1 << 20;  // 32 MiB
  MappedArray<uint64_t> array(kCount);
  EXPECT_FALSE(is_resident(array, 0));
  array.populate(kSome);
  EXPECT_TRUE(is_resident(array, 0));
  EXPECT_TRUE(is_resident(array, kSome - 1));
  EXPECT_FALSE(is_resident(array, kCount - 1));
  array[7] = 7;
  array.populate(2 * kCount);
  EXPECT_TRUE(is_resident(array, kCount - 1));
  EXPECT_EQ(array[7], 7u);
  EXPECT_EQ(array[kCount - 1], 0u);
}

}  // namespace
}  // namespace ironcore
