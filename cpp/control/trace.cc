// Packet trace: starts, reads and stops the one session that there may be.
#include <stdexcept>

#include "control/impl.h"
#include "trace/session.h"

namespace ironcore {

Status Engine::Impl::trace_start(const TraceOptions& options, std::string* error) {
  Call call(*this);
  if (trace_) return Status::ALREADY_ACTIVE;
  const auto refuse = [&](Status status, const std::exception& why) {
    if (error) *error = why.what();
    return status;
  };
  try {
    trace_ = std::make_shared<trace::Session>(options, RTE_MAX_ETHPORTS);
  } catch (const std::invalid_argument& why) {
    return refuse(Status::BAD_REQUEST, why);
  } catch (const EngineError& why) {
    return refuse(Status::OUT_OF_MEMORY, why);
  }
  shared_.trace_session.store(trace_.get(), std::memory_order_release);
  return Status::OK;
}

std::vector<TraceRecord> Engine::Impl::trace_read(size_t max) {
  Call call(*this);
  return trace_ ? trace_->read(max) : std::vector<TraceRecord>();
}

Status Engine::Impl::trace_stop() {
  Call call(*this);
  if (!trace_) return Status::NOT_ACTIVE;
  shared_.trace_session.store(nullptr, std::memory_order_release);
  last_trace_ = {false, trace_->recorded(), trace_->lost()};
  reclaimer_.defer([session = std::exchange(trace_, nullptr)] {});  // workers may still write into it
  return Status::OK;
}

TraceInfo Engine::Impl::trace_status() const {
  Call call(*this);
  return trace_ ? TraceInfo{true, trace_->recorded(), trace_->lost()} : last_trace_;
}

}  // namespace ironcore
