// The follower against a real kernel: an uplink and a router in two network namespaces made for this process.
#include "uplink/follower.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <string>

namespace ironcore::uplink {
namespace {

using namespace std::chrono_literals;

constexpr Mac kRouter = {2, 0, 0, 0, 0, 1};
constexpr Mac kSuccessor = {2, 0, 0, 0, 0, 2};
constexpr FollowerTimes kFast{.settle = 10ms, .first_probe = 50ms, .confirm = 200ms};

void run(const std::string& command) { ASSERT_EQ(std::system(command.c_str()), 0) << command; }

class Follower : public testing::Test {
 protected:
  // This thread (and the follower it starts) moves to a fresh namespace; a child process holds the router's one.
  void SetUp() override {
    home_ = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    ASSERT_GE(home_, 0);
    ASSERT_EQ(unshare(CLONE_NEWNET), 0) << "needs root";
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    router_ = fork();
    ASSERT_GE(router_, 0);
    if (router_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const char ok = unshare(CLONE_NEWNET) == 0 ? 1 : 0;
      if (write(ready[1], &ok, 1) != 1) _exit(1);
      pause();
      _exit(0);
    }
    char ok = 0;
    ASSERT_EQ(read(ready[0], &ok, 1), 1);
    ASSERT_EQ(ok, 1);
    close(ready[0]);
    close(ready[1]);
    in_router_ = "nsenter -t " + std::to_string(router_) + " -n ";
    run("ip link add pf0 type veth peer name router");
    run("sysctl -qw net.ipv6.conf.pf0.accept_dad=0 net.ipv6.conf.router.accept_dad=0 "
        "net.ipv6.conf.pf0.router_solicitations=0");
    run("ip link set router netns " + std::to_string(router_));
    run(in_router_ + "sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.router.accept_dad=0");
    run(in_router_ + "ip link set router address 02:00:00:00:00:01 up");
    run(in_router_ + "ip addr add fe80::1/64 dev router nodad");
    run("ip link set pf0 address 02:00:00:00:00:aa up");
    ifindex_ = static_cast<int>(if_nametoindex("pf0"));
    ASSERT_GT(ifindex_, 0);
  }

  void TearDown() override {
    if (router_ > 0) {
      kill(router_, SIGKILL);
      waitpid(router_, nullptr, 0);
    }
    if (home_ >= 0) {
      setns(home_, CLONE_NEWNET);
      close(home_);
    }
  }

  NeighbourFollower::Callback record() {
    return [this](unsigned pf, const std::optional<Mac>& mac) {
      const std::lock_guard lock(mutex_);
      EXPECT_EQ(pf, 0u);
      seen_.push_back(mac);
      changed_.notify_all();
    };
  }

  bool wait_for(const Mac& mac) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 10s, [&] { return !seen_.empty() && seen_.back() == mac; });
  }

  std::vector<std::optional<Mac>> seen() {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

  int home_ = -1;
  pid_t router_ = -1;
  int ifindex_ = 0;
  std::string in_router_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::optional<Mac>> seen_;
};

TEST_F(Follower, ResolvesTheDefaultGatewayByProbing) {
  run("ip -6 route add default via fe80::1 dev pf0");
  const NeighbourFollower follower({{.ifindex = ifindex_, .own_mac = {}}}, record(), kFast);
  EXPECT_TRUE(wait_for(kRouter));
}

TEST_F(Follower, FollowsARouteThatAppearsLater) {
  const NeighbourFollower follower({{.ifindex = ifindex_, .own_mac = {}}}, record(), kFast);
  run("ip -6 route add default via fe80::1 dev pf0");
  EXPECT_TRUE(wait_for(kRouter));
}

TEST_F(Follower, FollowsAChangedRouterMac) {
  run("ip -6 route add default via fe80::1 dev pf0");
  const NeighbourFollower follower({{.ifindex = ifindex_, .own_mac = {}}}, record(), kFast);
  ASSERT_TRUE(wait_for(kRouter));
  run(in_router_ + "ip link set router address 02:00:00:00:00:02");
  run("ip -6 neigh replace fe80::1 lladdr 02:00:00:00:00:02 nud stale dev pf0");
  EXPECT_TRUE(wait_for(kSuccessor));
  EXPECT_EQ(seen().size(), 2u);
}

TEST_F(Follower, UsesANeighbourThatCallsItselfRouter) {
  run("ip -6 neigh replace fe80::9 lladdr 02:00:00:00:00:02 nud stale router dev pf0");
  const NeighbourFollower follower({{.ifindex = ifindex_, .own_mac = {}}}, record(), kFast);
  EXPECT_TRUE(wait_for(kSuccessor));
}

TEST_F(Follower, UnderstandsMultipathRoutes) {
  run("ip -6 neigh replace fe80::2 lladdr 02:00:00:00:00:02 nud permanent dev pf0");
  run("ip -6 route add default nexthop via fe80::2 dev pf0 nexthop via fe80::3 dev pf0");
  const NeighbourFollower follower({{.ifindex = ifindex_, .own_mac = {}}}, record(), kFast);
  EXPECT_TRUE(wait_for(kSuccessor));
}

TEST_F(Follower, KeepsTheMacOfASilentRouter) {
  run("ip -6 route add default via fe80::1 dev pf0");
  const NeighbourFollower follower({{.ifindex = ifindex_, .own_mac = {}}}, record(), kFast);
  ASSERT_TRUE(wait_for(kRouter));
  run(in_router_ + "ip link set router down");
  run("ip -6 neigh flush dev pf0");
  // A second router proves that the follower has looked again since.
  run("ip -6 neigh replace fe80::9 lladdr 02:00:00:00:00:02 nud permanent router dev pf0");
  EXPECT_TRUE(wait_for(kSuccessor));
  for (const auto& mac : seen()) EXPECT_TRUE(mac.has_value());
}

TEST_F(Follower, SurvivesAFloodOfNotifications) {
  run("ip -6 route add default via fe80::1 dev pf0");
  const NeighbourFollower follower({{.ifindex = ifindex_, .own_mac = {}}}, record(), kFast);
  ASSERT_TRUE(wait_for(kRouter));
  // More notifications at once than a socket buffer holds.
  run("for i in $(seq 1 4000); do echo route add 2001:db8:$(printf %x $i)::/64 via fe80::1 dev pf0; done | ip -6 "
      "-batch -");
  run("ip -6 neigh replace fe80::1 lladdr 02:00:00:00:00:02 nud permanent dev pf0");
  EXPECT_TRUE(wait_for(kSuccessor));
}

}  // namespace
}  // namespace ironcore::uplink
