// Engine messages go to the EAL's log under the type "ironcore" (--log-level=ironcore:debug).
#pragma once

#include <rte_log.h>

namespace ironcore {

int log_type();

}  // namespace ironcore

#define IRONCORE_LOG(level, format, ...) \
  rte_log(RTE_LOG_##level, ::ironcore::log_type(), "IRONCORE: " format "\n" __VA_OPT__(, ) __VA_ARGS__)
