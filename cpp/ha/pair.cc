#include "ha/pair.h"

#include <sys/random.h>

#include <chrono>
#include <system_error>

#include "core/log.h"
#include "ha/restore.h"
#include "ha/service_slots.h"

namespace ironcore::ha {
namespace {

constexpr std::chrono::milliseconds kRound{1};
constexpr unsigned kAgingBudget = 256;
constexpr unsigned kExchanges = 64;                     // of a round, while frames come
constexpr uint64_t kRetryMs = 500, kGiveUpMs = 30'000;  // the control plane may be behind; idle flows end then anyway
constexpr size_t kQuiescentEvery = 1024;                // connections

uint64_t random_session() {
  uint64_t id = 0;
  if (getrandom(&id, sizeof id, 0) != sizeof id) throw EngineError("getrandom failed");
  return id | 1;
}

// The thread reads tables that workers change.
class Reading {
 public:
  Reading(Rcu& rcu, unsigned reader) : rcu_(rcu), reader_(reader) { rcu_.enter(reader_); }
  ~Reading() { rcu_.leave(reader_); }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

 private:
  Rcu& rcu_;
  const unsigned reader_;
};

}  // namespace

Pair::Pair(PairParts parts)
    : parts_(std::move(parts)),
      changes_(parts_.options.sync_tap.empty()
                   ? nullptr
                   : std::make_unique<Changes>(parts_.flows, parts_.ports, parts_.virtual_services)),
      replica_(parts_.nat_ports, parts_.options.flow_table_size / 2,
               [this](const FlowKey& key) { return parts_.flows.hash(key); }),
      connections_(parts_.flows, parts_.nat_ports, parts_.limits, expired_, evicted_, changes_.get()) {
  const bool locked = !parts_.options.active_lockfile.empty();
  if (!locked) state_.store(HaState::kActive);
  if (!parts_.options.sync_tap.empty()) {
    port_ = std::make_unique<SyncPort>(parts_.options.sync_tap, parts_.close_devices);
    session_ = std::make_unique<Session>(random_session(), locked ? Role::kStandby : Role::kActive, *changes_,
                                         static_cast<Sink&>(*this));
  }
}

void Pair::start() {
  thread_ = std::thread([this] { run(); });
}

void Pair::stop() {
  stop_.store(true);
  if (thread_.joinable()) thread_.join();
  if (!lock_) return;
  lock_->release();
  HaState active = HaState::kActive;
  state_.compare_exchange_strong(active, HaState::kStandby);
}

uint64_t Pair::now_ms() const {
  const auto since_boot = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(since_boot).count());
}

void Pair::run() {
  while (!stop_.load(std::memory_order_relaxed) && state() != HaState::kFailed) {
    if (state() == HaState::kStandby) ask_for_lock();
    poll();
    std::this_thread::sleep_for(kRound);
  }
  // What was not told yet, before somebody else may begin.
  poll();
}

// Asked for again and again instead of waiting in the kernel: so the thread can listen to its peer, and stop.
void Pair::ask_for_lock() {
  try {
    if (!lock_) lock_ = std::make_unique<LockFile>(parts_.options.active_lockfile);
    if (lock_->try_lock()) become_active();
  } catch (const std::system_error& error) {
    IRONCORE_LOG(ERR, "high availability: %s", error.what());
    state_.store(HaState::kFailed, std::memory_order_release);
  }
}

void Pair::poll() {
  Reading reading(parts_.rcu, parts_.rcu_reader);
  const Tick tick = parts_.clock.tick_of(parts_.clock.now());
  connections_.recycle();
  connections_.age(tick, kAgingBudget);
  if (!rest_.empty() && now_ms() >= retry_ms_) restore_rest();
  if (session_) exchange();
  publish_counters();
}

void Pair::exchange() {
  const uint64_t now = now_ms();
  for (unsigned round = 0; round < kExchanges; ++round) {
    const size_t received = port_->receive([&](Bytes frame) { session_->receive(frame, now); });
    session_->poll(now, [&](Bytes frame) { return port_->send(frame); });
    parts_.rcu.quiescent(parts_.rcu_reader);
    if (received == 0) return;
  }
}

void Pair::apply(const Record& record) {
  if (const auto* put = std::get_if<Put>(&record)) {
    replica_.put(put->connection);
  } else if (const auto* gone = std::get_if<Gone>(&record)) {
    replica_.remove(gone->id);
  } else if (const auto* mac = std::get_if<PortMac>(&record)) {
    Port* port = parts_.ports.by_id(mac->port);
    if (port && !port->is_uplink) port->peer.store(AtomicMac::pack(mac->mac) | AtomicMac::kKnown);
  } else if (const auto* slot = std::get_if<ServiceSlot>(&record)) {
    if (parts_.virtual_services)
      take(*parts_.virtual_services, parts_.ports, *slot, parts_.clock.tick_of(parts_.clock.now()));
  } else if (std::holds_alternative<DumpBegin>(record)) {
    replica_.begin_dump();
  } else {
    replica_.end_dump();
  }
}

void Pair::become_active() {
  if (session_) session_->become_active();
  restore_connections();
  parts_.take_over();
  state_.store(HaState::kActive, std::memory_order_release);
  IRONCORE_LOG(NOTICE, "high availability: active, %lu connections restored, %zu not yet",
               static_cast<unsigned long>(restored_), rest_.size());
}

void Pair::restore_connections() {
  rest_ = replica_.take_all();
  give_up_ms_ = now_ms() + kGiveUpMs;
  Reading reading(parts_.rcu, parts_.rcu_reader);
  restore_rest();
}

void Pair::restore_rest() {
  const RestoreContext context{parts_.tables, parts_.flows, parts_.nat_ports, connections_};
  const uint64_t now = now_ms();
  const Tick tick = parts_.clock.tick_of(parts_.clock.now());
  const bool last = now >= give_up_ms_;
  std::vector<Connection> rest;
  size_t looked = 0;
  for (const Connection& connection : rest_) {
    if (restore(context, connection, tick) == kNoDrop) {
      ++restored_;
    } else if (!last) {
      rest.push_back(connection);
    } else {
      ++abandoned_;
      if (connection.state.nat) parts_.nat_ports.release(mapping_of(connection.id, *connection.state.nat));
    }
    if (++looked % kQuiescentEvery == 0) parts_.rcu.quiescent(parts_.rcu_reader);
  }
  rest_ = std::move(rest);
  retry_ms_ = now + kRetryMs;
}

void Pair::publish_counters() {
  std::lock_guard lock(counters_mutex_);
  counters_.replicated = replica_.size();
  counters_.refused = replica_.refused();
  counters_.conflicts = replica_.conflicts();
  counters_.restored = restored_;
  counters_.abandoned = abandoned_;
  counters_.pending = rest_.size();
  if (!session_) return;
  const uint64_t now = now_ms();
  counters_.peer = session_->peer_is_ours(now);
  counters_.in_sync = session_->in_sync(now);
  session_counters_ = session_->counters();
}

HaCounters Pair::counters() const {
  std::lock_guard lock(counters_mutex_);
  HaCounters counters = counters_;
  const SessionCounters& session = session_counters_;
  counters.state = state();
  counters.wrong_role = session.wrong_role;
  counters.unknown = session.unknown;
  counters.malformed = session.malformed;
  counters.gaps = session.gaps;
  counters.resent = session.resent;
  counters.resyncs = session.resyncs;
  counters.lost = session.lost;
  for (size_t type = 0; type < kMessageTypes; ++type)
    counters.messages.push_back({name_of(type), session.sent[type], session.received[type]});
  return counters;
}

}  // namespace ironcore::ha
