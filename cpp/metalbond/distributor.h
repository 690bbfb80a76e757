// Who must be told what: the server's decisions without sockets and clocks.
//
// The rule is one sentence: a subscriber has a route if anyone but itself announces it. ADD and REMOVE follow from
// comparing that with what was written to its connection: a REMOVE goes exactly to those who got the ADD, what is
// undone before it was written is never written. A queue never holds more than the tables that it describes.
//
// Servers of a mesh have another rule: a mirror has a route, once per announcing client, if a client of this server
// announces it. What came from a server goes to clients only. So every route takes one step between servers, whatever
// their links look like, and none can go round in circles.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "metalbond/filter.h"
#include "metalbond/outbox.h"
#include "metalbond/table.h"
#include "metalbond/wire.h"

namespace metalbond {

// Who announces: a name that survives reconnects and is the same at all servers, or one that a server made up.
struct Origin {
  std::string name;
  bool made_up = false;
  uint32_t users = 0;
};

struct RouteRef {
  uint32_t vni;
  Slot slot;
};

// Bits of one subscriber: one byte per route of the VNIs that it has subscribed.
class SubscriberStore {
 public:
  explicit SubscriberStore(Table& table) : table_(&table) {}

  uint8_t* find(const RouteRef& key);
  uint8_t& make(const RouteRef& key);
  void settle(const RouteRef& key);
  // Calls `each(bits)` for what is dropped.
  template <typename Each>
  void drop(uint32_t vni, Each&& each);

 private:
  Table* table_;
  std::unordered_map<uint32_t, std::vector<uint8_t>> bits_;
};

struct MirrorRef {
  uint32_t vni;
  Slot slot;
  Origin* origin;
  bool operator==(const MirrorRef&) const = default;
};

struct MirrorHash {
  size_t operator()(const MirrorRef& ref) const {
    return (uint64_t{ref.vni} << 32 | ref.slot) * 0x9e3779b97f4a7c15 ^ reinterpret_cast<uintptr_t>(ref.origin);
  }
};

class Distributor;

class MirrorStore {
 public:
  explicit MirrorStore(Distributor& owner) : owner_(&owner) {}

  uint8_t* find(const MirrorRef& key);
  uint8_t& make(const MirrorRef& key);
  void settle(const MirrorRef& key);
  void drop_all();

 private:
  Distributor* owner_;
  std::unordered_map<MirrorRef, uint8_t, MirrorHash> bits_;
};

struct Limits {
  size_t of_peer = SIZE_MAX;
  size_t of_all = SIZE_MAX;
  const Filter* filter = nullptr;  // null: everything is allowed
};

struct Refusal {
  std::string reason;  // "invalid", what the filter says, or the limit that was reached
  std::string what;    // of the first one
  size_t count = 0;
};

struct Received {
  size_t updates = 0;
  std::vector<Refusal> refusals;
  std::optional<std::string> broken;  // what ends the session; what came before it has been executed
};

// Frames to write.
struct Taken {
  std::string frames;
  std::vector<size_t> ends;  // of each frame, if that was asked for
  size_t updates = 0;
};

// Peers and sources are numbers that are never used twice.
class Distributor {
 public:
  // `name`: of this server, part of the names that it makes up.
  explicit Distributor(std::string name) : name_(std::move(name)) {}

  Table table;

  // A client. `original`: speaks the original protocol.
  void connect(Source peer, std::string_view identity, bool original);
  // A server of the mesh, which wants what the clients of this one announce, in all VNIs.
  void mirror(Source peer);
  // `source` stands for a client of another server of the mesh; `release` ends it.
  void adopt(Source source, std::string_view origin);
  // The connection is gone. Its routes stay until `release`.
  void disconnect(Source peer);
  // Withdraws at most `limit` routes of a source, so that a caller can let others have their turn. Returns how many are
  // left; with 0 the source is forgotten.
  size_t release(Source source, size_t limit = SIZE_MAX);

  // Queues the table of the VNI; false if subscribed already. Peers of the original protocol also get their own routes
  // back, except NAT: some learn the local targets of their load balancers in this way.
  bool subscribe(Source peer, uint32_t vni);
  // False if not subscribed. A peer of the original protocol takes its own routes of the VNI away with it.
  bool unsubscribe(Source peer, uint32_t vni);

  // False if the source had said so before.
  bool update(Source source, bool add, uint32_t vni, std::string_view key);
  // Whole frames of type UPDATE, from strangers.
  Received receive(Source source, std::string_view frames, const Limits& limits);

  // About `limit` bytes of frames for a peer.
  Taken take(Source peer, size_t limit, bool want_ends);
  // Queue a KEEPALIVE behind everything that waits.
  void mark(Source peer);
  size_t marks(Source peer) const;
  size_t waiting(Source peer) const;

  // Peers that have got work since the last call.
  std::vector<Source> take_touched();

  size_t connections(std::string_view identity) const;
  size_t subscriptions() const;

  // Keys of routes whose sources change, while somebody wants to know.
  void record(bool on);
  bool recording() const { return changes_.has_value(); }
  std::unordered_set<std::string> take_changes();

  Origin* take_origin(std::string_view name, bool made_up);
  void drop_origin(Origin* origin);

 private:
  struct SourceInfo {
    Origin* origin;
    bool remote = false;
  };
  struct Subscriber {
    Subscriber(Source number, Origin* origin, bool original, Table& table)
        : number(number), origin(origin), original(original), outbox(SubscriberStore(table)) {}
    Source number;
    Origin* origin;
    bool original;
    bool touched = false;
    std::unordered_set<uint32_t> vnis;
    Outbox<RouteRef, SubscriberStore> outbox;
  };
  struct Mirror {
    explicit Mirror(Distributor& owner) : outbox(MirrorStore(owner)) {}
    bool touched = false;
    Outbox<MirrorRef, MirrorStore> outbox;
  };

  std::string made_up_name(Source source) const;
  void withdraw(Source source, uint32_t vni);
  void drop_subscription(Subscriber& subscriber, uint32_t vni);
  void distribute(Source source, uint32_t vni, Slot slot);
  void reflect(Source source, uint32_t vni, Slot slot);
  bool is_foreign(const Subscriber& subscriber, const Record& record) const;
  template <typename Receiver>
  void touch(Source peer, Receiver& receiver) {
    if (!receiver.touched) touched_.push_back(peer);
    receiver.touched = true;
  }

  std::string name_;
  std::unordered_map<std::string, std::unique_ptr<Origin>> origins_;
  std::unordered_map<Source, SourceInfo> sources_;
  std::unordered_map<Source, std::unique_ptr<Subscriber>> subscribers_;
  std::unordered_map<Source, std::unique_ptr<Mirror>> mirrors_;
  std::unordered_map<uint32_t, std::vector<Subscriber*>> of_vni_;
  std::vector<Source> touched_;
  std::optional<std::unordered_set<std::string>> changes_;
};

}  // namespace metalbond
