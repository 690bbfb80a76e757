// One engine of a pair: its role, and the thread that asks for the lock, keeps the peer informed or listens to it, and
// takes over.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "flow/connections.h"
#include "ha/changes.h"
#include "ha/lock.h"
#include "ha/replica.h"
#include "ha/session.h"
#include "ha/sync_port.h"
#include "ironcore/engine.h"

namespace ironcore::ha {

struct PairParts {
  const EngineOptions& options;
  const TableView& tables;
  Ports& ports;
  FlowTable& flows;
  FlowLimits& limits;
  NatPorts& nat_ports;
  virtsvc::Registry* virtual_services;  // null: none are configured
  Rcu& rcu;
  unsigned rcu_reader;  // this one's number
  const Clock& clock;
  bool close_devices;
  // Everything known is restored: begins to receive packets.
  std::function<void()> take_over;
};

class Pair final : private Sink {
 public:
  explicit Pair(PairParts parts);  // EngineError: no such sync port
  ~Pair() { stop(); }

  FlowObserver* observer() { return changes_.get(); }  // null without sync port

  void start();  // the thread
  void stop();   // and lets go of the lock; idempotent
  void poll();   // a round of the thread's work, for tests that have no thread
  void become_active();

  HaState state() const { return state_.load(std::memory_order_acquire); }
  HaCounters counters() const;

 private:
  void apply(const Record& record) override;
  void apply(const NatCreate& message) override { replica_.put(message); }
  void apply(const NatDelete& message) override { replica_.remove(message); }
  void run();
  void ask_for_lock();
  void exchange();
  void restore_connections();
  void restore_rest();
  void publish_counters();
  uint64_t now_ms() const;

  const PairParts parts_;
  std::atomic<HaState> state_{HaState::kStandby};
  std::unique_ptr<LockFile> lock_;
  std::unique_ptr<Changes> changes_;
  std::unique_ptr<SyncPort> port_;
  Replica replica_;
  std::unique_ptr<Session> session_;

  Counter expired_, evicted_;
  Connections connections_;       // those that were restored
  std::vector<Connection> rest_;  // could not be restored yet
  uint64_t retry_ms_ = 0, give_up_ms_ = 0;
  uint64_t restored_ = 0, abandoned_ = 0;

  mutable std::mutex counters_mutex_;
  HaCounters counters_;  // but for what the session counts
  SessionCounters session_counters_;

  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace ironcore::ha
