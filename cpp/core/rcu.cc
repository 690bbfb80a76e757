#include "core/rcu.h"

#include <rte_rcu_qsbr.h>

#include <cstdlib>
#include <new>
#include <vector>

namespace ironcore {

Rcu::Rcu(unsigned max_readers) {
  const size_t size = rte_rcu_qsbr_get_memsize(max_readers);
  qsbr_ = static_cast<rte_rcu_qsbr*>(std::aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_CACHE_LINE_ROUNDUP(size)));
  if (!qsbr_) throw std::bad_alloc();
  rte_rcu_qsbr_init(qsbr_, max_readers);
}

Rcu::~Rcu() { std::free(qsbr_); }

void Rcu::enter(unsigned id) {
  rte_rcu_qsbr_thread_register(qsbr_, id);
  rte_rcu_qsbr_thread_online(qsbr_, id);
}

void Rcu::leave(unsigned id) {
  rte_rcu_qsbr_thread_offline(qsbr_, id);
  rte_rcu_qsbr_thread_unregister(qsbr_, id);
}

void Rcu::online(unsigned id) { rte_rcu_qsbr_thread_online(qsbr_, id); }
void Rcu::offline(unsigned id) { rte_rcu_qsbr_thread_offline(qsbr_, id); }
void Rcu::quiescent(unsigned id) { rte_rcu_qsbr_quiescent(qsbr_, id); }

uint64_t Rcu::start_grace_period() { return rte_rcu_qsbr_start(qsbr_); }
bool Rcu::grace_period_over(uint64_t token) const { return rte_rcu_qsbr_check(qsbr_, token, false) == 1; }

void Reclaimer::defer(std::function<void()> action) {
  std::lock_guard lock(mutex_);
  items_.push_back({rcu_.start_grace_period(), std::move(action)});
}

size_t Reclaimer::run_due(size_t limit) {
  std::vector<std::function<void()>> due;
  size_t left;
  {
    std::lock_guard lock(mutex_);
    // Tokens grow: the last one that is over covers all before it.
    while (!items_.empty() && due.size() < limit && rcu_.grace_period_over(items_.front().token)) {
      due.push_back(std::move(items_.front().action));
      items_.pop_front();
    }
    left = items_.size();
  }
  for (auto& action : due) action();
  return left;
}

void Reclaimer::run_all() {
  for (;;) {
    std::deque<Item> items;
    {
      std::lock_guard lock(mutex_);
      items.swap(items_);
    }
    if (items.empty()) return;
    for (auto& item : items) item.action();
  }
}

size_t Reclaimer::pending() const {
  std::lock_guard lock(mutex_);
  return items_.size();
}

}  // namespace ironcore
