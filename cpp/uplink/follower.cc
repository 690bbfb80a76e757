#include "uplink/follower.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace ironcore::uplink {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kProbesPerUplink = 8;

std::vector<int> ifindexes_of(const std::vector<Uplink>& uplinks) {
  std::vector<int> indexes;
  for (const Uplink& uplink : uplinks) indexes.push_back(uplink.ifindex);
  return indexes;
}

}  // namespace

NeighbourFollower::NeighbourFollower(std::vector<Uplink> uplinks, Callback callback, FollowerTimes times)
    : uplinks_(std::move(uplinks)),
      current_(uplinks_.size()),
      callback_(std::move(callback)),
      times_(times),
      netlink_(ifindexes_of(uplinks_)),
      wake_(eventfd(0, EFD_CLOEXEC)) {
  if (wake_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  thread_ = std::jthread([this](std::stop_token stop) { run(std::move(stop)); });
}

NeighbourFollower::~NeighbourFollower() {
  thread_.request_stop();
  eventfd_write(wake_, 1);
  thread_.join();
  close(wake_);
}

bool NeighbourFollower::refresh() {
  const std::vector<Gateway> gateways = netlink_.gateways();
  const std::vector<Neighbour> neighbours = netlink_.neighbours();
  bool confirmed = true;
  for (unsigned pf = 0; pf < uplinks_.size(); ++pf) {
    const auto chosen = choose(uplinks_[pf], gateways, neighbours, current_[pf]);
    if (chosen != current_[pf]) {
      current_[pf] = chosen;
      callback_(pf, chosen);
    }
    std::array<Ipv6, kProbesPerUplink> targets;
    const size_t count = to_probe(uplinks_[pf], gateways, neighbours, targets);
    for (size_t i = 0; i < count; ++i) netlink_.probe(uplinks_[pf].ifindex, targets[i]);
    confirmed = confirmed && chosen && count == 0;
  }
  return confirmed;
}

void NeighbourFollower::run(std::stop_token stop) {
  auto retry = times_.first_probe;
  auto due = Clock::now();
  while (!stop.stop_requested()) {
    const auto now = Clock::now();
    if (now >= due) {
      bool confirmed = false;
      try {
        confirmed = refresh();
      } catch (const std::system_error&) {
        // Dumps fail for want of memory only; the next round tries again.
      }
      retry = confirmed ? times_.first_probe : std::min(retry * 2, times_.confirm);
      due = Clock::now() + (confirmed ? times_.confirm : retry);
      continue;
    }
    pollfd waits[] = {{netlink_.notifications(), POLLIN, 0}, {wake_, POLLIN, 0}};
    const auto timeout = std::chrono::ceil<std::chrono::milliseconds>(due - now).count();
    if (poll(waits, 2, static_cast<int>(timeout)) > 0 && waits[0].revents != 0 && netlink_.drain() != Change::kNone)
      due = std::min(due, Clock::now() + times_.settle);
  }
}

}  // namespace ironcore::uplink
