// Read-copy-update between control calls (writers, under the engine's mutex) and workers (readers).
//
// Workers announce once per loop that they hold no pointer into any table; a sleeping worker is offline. Writers
// publish with one atomic store and hand what they replaced to the Reclaimer, which lets go of it once every worker has
// announced itself since. No call here ever waits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

struct rte_rcu_qsbr;

namespace ironcore {

class Rcu {
 public:
  explicit Rcu(unsigned max_readers);
  ~Rcu();
  Rcu(const Rcu&) = delete;
  Rcu& operator=(const Rcu&) = delete;

  // Called by reader `id` (below max_readers) in its own thread.
  void enter(unsigned id);
  void leave(unsigned id);
  void online(unsigned id);
  void offline(unsigned id);
  void quiescent(unsigned id);

  uint64_t start_grace_period();
  bool grace_period_over(uint64_t token) const;

 private:
  rte_rcu_qsbr* qsbr_;
};

// Actions that must wait for a grace period. Thread-safe; actions run in the thread that calls run_due().
class Reclaimer {
 public:
  explicit Reclaimer(Rcu& rcu) : rcu_(rcu) {}
  ~Reclaimer() { run_all(); }

  void defer(std::function<void()> action);
  template <typename T>
  void retire(const T* object) {
    if (object) defer([object] { delete object; });
  }

  size_t run_due(size_t limit = 4096);  // at most `limit` actions; returns how many are still pending
  void run_all();                       // only when no reader is left
  size_t pending() const;

 private:
  struct Item {
    uint64_t token;
    std::function<void()> action;
  };
  Rcu& rcu_;
  mutable std::mutex mutex_;
  std::deque<Item> items_;
};

}  // namespace ironcore
