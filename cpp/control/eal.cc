#include "control/eal.h"

#include <rte_eal.h>
#include <rte_errno.h>

#include <mutex>

#include "ironcore/engine.h"

namespace ironcore {

bool start_eal(const std::vector<std::string>& arguments) {
  static std::mutex mutex;
  static bool running = false;
  static std::vector<std::string> kept;  // the EAL keeps pointers into its arguments
  static std::vector<char*> pointers;
  std::lock_guard lock(mutex);
  if (running) return false;
  kept = arguments;
  kept.insert(kept.begin(), "dpservice");
  for (auto& argument : kept) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  if (rte_eal_init(static_cast<int>(kept.size()), pointers.data()) < 0) {
    if (rte_errno == EALREADY) {
      running = true;
      return false;
    }
    throw EngineError(std::string("EAL start failed: ") + rte_strerror(rte_errno));
  }
  running = true;
  return true;
}

}  // namespace ironcore
