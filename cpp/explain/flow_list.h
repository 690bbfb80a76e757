// Lists flows a page at a time, outside of workers.
#pragma once

#include "explain/fields.h"

namespace ironcore {

inline constexpr size_t kMaxFlowsPerPage = 1000;

// From slot `from` of the table on: at most `limit` flows (1..kMaxFlowsPerPage), and a bounded number of slots looked
// at, so a page may be empty though more follow. Flows that exist while all pages are read are listed once; those that
// come or go meanwhile maybe, and perhaps by one direction only. The caller is a registered reader.
FlowPage list_flows(const FlowContext& context, const FlowFilter& filter, uint64_t from, size_t limit);

bool matches(const FlowFilter& filter, const FlowInfo& flow);

}  // namespace ironcore
