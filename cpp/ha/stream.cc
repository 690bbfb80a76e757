#include "ha/stream.h"

#include <algorithm>

namespace ironcore::ha {

void StreamSender::restart(uint64_t active, uint64_t standby) {
  active_ = active;
  standby_ = standby;
  ++stream_;
  open_.clear();
  window_.clear();
  first_ = 0;
  sent_ = ever_sent_ = 0;
}

void StreamSender::append(const Record& record) {
  if (open_.size() + kMaxRecord > kMaxRecords) close();
  Writer out(open_);
  write(out, record);
}

void StreamSender::close() {
  if (open_.empty()) return;
  window_.push_back(encode(Data{standby_, active_, stream_, first_ + window_.size(), open_}));
  open_.clear();
}

void StreamSender::acknowledged(uint64_t next, uint64_t now_ms) {
  if (next <= first_ || next > first_ + ever_sent_) return;
  const size_t count = next - first_;
  window_.erase(window_.begin(), window_.begin() + static_cast<ptrdiff_t>(count));
  first_ = next;
  sent_ -= std::min(sent_, count);
  ever_sent_ -= count;
  progress_ms_ = now_ms;
}

size_t StreamSender::transmit(uint64_t now_ms, size_t budget, const std::function<bool(Bytes)>& send) {
  if (sent_ > 0 && sent_ == window_.size() && now_ms >= progress_ms_ + kResendMs) rewind();
  if (sent_ == 0) progress_ms_ = now_ms;
  size_t count = 0;
  for (; count < budget && sent_ < window_.size(); ++count) {
    if (!send(window_[sent_])) break;
    if (sent_ < ever_sent_) ++resent_;
    ++sent_;
    ever_sent_ = std::max(ever_sent_, sent_);
  }
  return count;
}

StreamReceiver::Verdict StreamReceiver::judge(const Data& data) {
  const bool same = data.active == active_ && data.stream == stream_;
  if (!same) {
    const bool newer = data.active != active_ || data.stream > stream_;
    if (data.sequence != 0 || !newer) return Verdict::kForeign;
    active_ = data.active;
    stream_ = data.stream;
    next_ = 0;
  }
  if (data.sequence != next_) return data.sequence < next_ ? Verdict::kRepeated : Verdict::kGap;
  ++next_;
  return Verdict::kTake;
}

}  // namespace ironcore::ha
