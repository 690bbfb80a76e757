#include "uplink/netlink.h"

#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace ironcore::uplink {
namespace {

constexpr size_t kBufferSize = 64 * 1024;
constexpr int kReceiveTimeoutSeconds = 5;

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

int open_socket(unsigned groups) {
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) fail("netlink socket");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  const timeval timeout{kReceiveTimeoutSeconds, 0};
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0) {
    const int error = errno;
    close(fd);
    throw std::system_error(error, std::generic_category(), "netlink bind");
  }
  return fd;
}

// Calls visit(type, payload, length) for each attribute of a message whose fixed part is `Header`.
template <typename Header, typename Visit>
void for_each_attribute(const nlmsghdr& message, Visit visit) {
  const size_t fixed = NLMSG_LENGTH(sizeof(Header));
  if (message.nlmsg_len < fixed) return;
  const auto* start = reinterpret_cast<const char*>(&message) + NLMSG_ALIGN(fixed);
  size_t left = message.nlmsg_len - std::min<size_t>(message.nlmsg_len, NLMSG_ALIGN(fixed));
  for (const auto* a = reinterpret_cast<const rtattr*>(start); RTA_OK(a, left); a = RTA_NEXT(a, left))
    visit(a->rta_type, static_cast<const char*>(RTA_DATA(a)), static_cast<size_t>(RTA_PAYLOAD(a)));
}

template <typename T>
bool read_value(T& value, const char* data, size_t length) {
  if (length < sizeof value) return false;
  std::memcpy(&value, data, sizeof value);
  return true;
}

template <typename Header>
const Header* header_of(const nlmsghdr& message) {
  return message.nlmsg_len >= NLMSG_LENGTH(sizeof(Header)) ? static_cast<const Header*>(NLMSG_DATA(&message)) : nullptr;
}

std::optional<Neighbour> read_neighbour(const nlmsghdr& message) {
  const auto* header = header_of<ndmsg>(message);
  if (header == nullptr || header->ndm_family != AF_INET6) return std::nullopt;
  Neighbour neighbour;
  neighbour.ifindex = header->ndm_ifindex;
  neighbour.state = header->ndm_state;
  neighbour.is_router = (header->ndm_flags & NTF_ROUTER) != 0;
  bool has_address = false;
  for_each_attribute<ndmsg>(message, [&](unsigned short type, const char* data, size_t length) {
    Mac mac;
    if (type == NDA_DST) has_address = read_value(neighbour.address, data, length);
    if (type == NDA_LLADDR && length == sizeof mac && read_value(mac, data, length)) neighbour.mac = mac;
  });
  return has_address ? std::optional(neighbour) : std::nullopt;
}

// All next hops of an IPv6 unicast route, of whatever table.
std::vector<Gateway> read_gateways(const nlmsghdr& message) {
  const auto* header = header_of<rtmsg>(message);
  if (header == nullptr || header->rtm_family != AF_INET6 || header->rtm_type != RTN_UNICAST ||
      (header->rtm_flags & RTM_F_CLONED) != 0)
    return {};
  std::vector<Gateway> gateways;
  Gateway single;
  bool has_gateway = false;
  uint32_t metric = 0;
  for_each_attribute<rtmsg>(message, [&](unsigned short type, const char* data, size_t length) {
    if (type == RTA_GATEWAY) has_gateway = read_value(single.address, data, length);
    if (type == RTA_OIF) read_value(single.ifindex, data, length);
    if (type == RTA_PRIORITY) read_value(metric, data, length);
    if (type != RTA_MULTIPATH) return;
    while (length >= sizeof(rtnexthop)) {
      rtnexthop hop;
      std::memcpy(&hop, data, sizeof hop);
      if (hop.rtnh_len < sizeof hop || hop.rtnh_len > length) return;
      Gateway gateway;
      gateway.ifindex = hop.rtnh_ifindex;
      size_t left = hop.rtnh_len - sizeof hop;
      for (const auto* a = reinterpret_cast<const rtattr*>(data + sizeof hop); RTA_OK(a, left); a = RTA_NEXT(a, left))
        if (a->rta_type == RTA_GATEWAY &&
            read_value(gateway.address, static_cast<const char*>(RTA_DATA(a)), RTA_PAYLOAD(a)))
          gateways.push_back(gateway);
      const size_t step = std::min<size_t>(RTNH_ALIGN(hop.rtnh_len), length);
      data += step;
      length -= step;
    }
  });
  if (has_gateway) gateways.push_back(single);
  for (Gateway& gateway : gateways) {
    gateway.is_default = header->rtm_dst_len == 0;
    gateway.metric = metric;
  }
  return gateways;
}

}  // namespace

Netlink::Netlink(std::vector<int> ifindexes)
    : ifindexes_(std::move(ifindexes)), events_(open_socket(RTMGRP_NEIGH | RTMGRP_IPV6_ROUTE)) {
  try {
    requests_ = open_socket(0);
  } catch (...) {
    close(events_);
    throw;
  }
}

Netlink::~Netlink() {
  close(events_);
  close(requests_);
}

bool Netlink::follows(int ifindex) const {
  return std::find(ifindexes_.begin(), ifindexes_.end(), ifindex) != ifindexes_.end();
}

Change Netlink::drain() {
  Change worst = Change::kNone;
  alignas(nlmsghdr) char buffer[kBufferSize];
  for (;;) {
    const ssize_t received = recv(events_, buffer, sizeof buffer, MSG_DONTWAIT);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? worst : Change::kLost;
    size_t left = static_cast<size_t>(received);
    for (const auto* m = reinterpret_cast<const nlmsghdr*>(buffer); NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
      Change change = Change::kNone;
      if (m->nlmsg_type == RTM_NEWNEIGH || m->nlmsg_type == RTM_DELNEIGH) {
        const auto neighbour = read_neighbour(*m);
        if (neighbour && follows(neighbour->ifindex)) change = Change::kNeighbours;
      } else if (m->nlmsg_type == RTM_NEWROUTE || m->nlmsg_type == RTM_DELROUTE) {
        // A fabric router may churn through thousands of routes by the gateway we know already.
        for (const Gateway& gateway : read_gateways(*m))
          if (follows(gateway.ifindex) &&
              (gateway.is_default || std::find(known_.begin(), known_.end(), gateway) == known_.end()))
            change = Change::kRoutes;
      }
      worst = std::max(worst, change);
    }
  }
}

void Netlink::dump(uint16_t type, const std::function<void(const nlmsghdr&)>& visit) {
  struct {
    nlmsghdr header;
    rtmsg body;  // at least as long as ndmsg, and both start with the family
  } request{};
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.body);
  request.header.nlmsg_type = type;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.header.nlmsg_seq = ++sequence_;
  request.body.rtm_family = AF_INET6;
  if (send(requests_, &request, request.header.nlmsg_len, 0) < 0) fail("netlink dump");

  alignas(nlmsghdr) char buffer[kBufferSize];
  for (;;) {
    const ssize_t received = recv(requests_, buffer, sizeof buffer, 0);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0) fail("netlink dump");
    size_t left = static_cast<size_t>(received);
    for (const auto* m = reinterpret_cast<const nlmsghdr*>(buffer); NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
      if (m->nlmsg_seq != sequence_) continue;  // acknowledgement of a probe
      if (m->nlmsg_type == NLMSG_DONE) return;
      if (m->nlmsg_type == NLMSG_ERROR) {
        const auto* error = header_of<nlmsgerr>(*m);
        errno = error != nullptr ? -error->error : EPROTO;
        fail("netlink dump");
      }
      visit(*m);
    }
  }
}

std::vector<Neighbour> Netlink::neighbours() {
  std::vector<Neighbour> all;
  dump(RTM_GETNEIGH, [&](const nlmsghdr& message) {
    const auto neighbour = read_neighbour(message);
    if (neighbour && follows(neighbour->ifindex)) all.push_back(*neighbour);
  });
  return all;
}

std::vector<Gateway> Netlink::gateways() {
  std::vector<Gateway> all;
  dump(RTM_GETROUTE, [&](const nlmsghdr& message) {
    for (const Gateway& gateway : read_gateways(message))
      if (follows(gateway.ifindex)) all.push_back(gateway);
  });
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  known_ = all;
  return all;
}

void Netlink::probe(int ifindex, const Ipv6& address) {
  struct {
    nlmsghdr header;
    ndmsg body;
    rtattr attribute;
    Ipv6 destination;
  } request{};
  static_assert(sizeof request == NLMSG_LENGTH(sizeof(ndmsg)) + RTA_LENGTH(sizeof(Ipv6)));
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_NEWNEIGH;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE;
  request.header.nlmsg_seq = ++sequence_;
  request.body.ndm_family = AF_INET6;
  request.body.ndm_ifindex = ifindex;
  request.body.ndm_flags = NTF_USE;  // as if the kernel had a packet to send there
  request.attribute.rta_type = NDA_DST;
  request.attribute.rta_len = RTA_LENGTH(sizeof(Ipv6));
  request.destination = address;
  [[maybe_unused]] const ssize_t sent = send(requests_, &request, sizeof request, MSG_DONTWAIT);
}

}  // namespace ironcore::uplink
