#include "core/log.h"

namespace ironcore {

int log_type() {
  static const int type = rte_log_register_type_and_pick_level("ironcore", RTE_LOG_INFO);
  return type;
}

}  // namespace ironcore
