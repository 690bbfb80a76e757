// The few rtnetlink messages the follower needs: dumps of IPv6 neighbours and routes, their notifications, and a probe.
#pragma once

#include <functional>
#include <vector>

#include "uplink/choose.h"

struct nlmsghdr;

namespace ironcore::uplink {

// What one notification may change, for the interfaces one follows.
enum class Change : uint8_t { kNone, kNeighbours, kRoutes, kLost };

class Netlink {
 public:
  explicit Netlink(std::vector<int> ifindexes);  // std::system_error
  ~Netlink();
  Netlink(const Netlink&) = delete;
  Netlink& operator=(const Netlink&) = delete;

  int notifications() const { return events_; }  // poll this for reading
  // Reads all pending notifications and tells the gravest; kLost: the kernel dropped some, dump again.
  Change drain();

  std::vector<Neighbour> neighbours();  // std::system_error
  std::vector<Gateway> gateways();      // std::system_error
  // Asks the kernel to (re)confirm a neighbour. Needs CAP_NET_ADMIN; errors are ignored, the next dump tells the
  // result.
  void probe(int ifindex, const Ipv6& address);

 private:
  void dump(uint16_t type, const std::function<void(const nlmsghdr&)>& visit);
  bool follows(int ifindex) const;

  std::vector<int> ifindexes_;
  std::vector<Gateway> known_;  // of the last dump: other routes through the same gateways change nothing
  int events_ = -1;
  int requests_ = -1;
  uint32_t sequence_ = 0;
};

}  // namespace ironcore::uplink
