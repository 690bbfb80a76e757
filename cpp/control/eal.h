// DPDK's environment exists once per process.
#pragma once

#include <string>
#include <vector>

namespace ironcore {

// Starts the EAL unless that was done before, by whomever. `arguments` are without program name. True if this call
// started it; EngineError if it fails, after which no later attempt can succeed.
bool start_eal(const std::vector<std::string>& arguments);

}  // namespace ironcore
