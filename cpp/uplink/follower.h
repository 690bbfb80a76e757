// Follows the router behind each uplink: a thread that listens to the kernel and reports each change of the router's
// MAC.
#pragma once

#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "uplink/choose.h"
#include "uplink/netlink.h"

namespace ironcore::uplink {

struct FollowerTimes {
  std::chrono::milliseconds settle{100};        // between a notification and the dumps it causes
  std::chrono::milliseconds first_probe{1000};  // doubles up to `confirm` while a gateway stays unresolved
  std::chrono::milliseconds confirm{30000};     // dump and probe this often even if nothing happens
};

class NeighbourFollower {
 public:
  // `pf` is the index into the constructor's vector. Called from the follower's thread, once per change; nothing is
  // called for an uplink whose router was never seen.
  using Callback = std::function<void(unsigned pf, const std::optional<Mac>& mac)>;

  // Throws std::system_error if netlink is not available. Later errors are retried for as long as the object lives.
  NeighbourFollower(std::vector<Uplink> uplinks, Callback callback, FollowerTimes times = {});
  ~NeighbourFollower();
  NeighbourFollower(const NeighbourFollower&) = delete;
  NeighbourFollower& operator=(const NeighbourFollower&) = delete;

 private:
  void run(std::stop_token stop);
  bool refresh();  // dumps, reports changes; true if every uplink's router is confirmed

  std::vector<Uplink> uplinks_;
  std::vector<std::optional<Mac>> current_;
  Callback callback_;
  FollowerTimes times_;
  Netlink netlink_;
  int wake_ = -1;  // eventfd that ends the wait
  std::jthread thread_;
};

}  // namespace ironcore::uplink
