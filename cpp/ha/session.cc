#include "ha/session.h"

#include <algorithm>

#include "ha/mapping.h"

namespace ironcore::ha {
namespace {

template <typename... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <typename... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;  // clang before 17 needs it spelt out

MessageType type_of(Bytes frame) { return static_cast<MessageType>(frame[kHeaderLength - 1]); }

}  // namespace

Session::Session(uint64_t id, Role role, Source& source, Sink& sink)
    : id_(id), role_(role), source_(source), sink_(sink), dump_requested_(role == Role::kActive) {}

void Session::become_active() {
  role_ = Role::kActive;
  peer_ = 0;
  greet_now_ = true;
  hello_gap_ms_ = kFirstHelloMs;
  seen_dropped_ = source_.dropped();
}

bool Session::in_sync(uint64_t now_ms) const {
  if (role_ == Role::kStandby) return told_everything_;
  return ours(now_ms) && !dumping_ && !resync_ && sender_.idle();
}

SessionCounters Session::counters() const {
  SessionCounters counters = counters_;
  counters.resent = sender_.resent();
  return counters;
}

void Session::receive(Bytes frame, uint64_t now_ms) {
  const std::optional<Message> message = decode(frame);
  if (!message) return;
  if (const auto* unusable = std::get_if<Unusable>(&*message)) {
    ++(unusable->unknown_type ? counters_.unknown : counters_.malformed);
    return;
  }
  ++counters_.received[index_of(type_of(frame))];
  if (const auto* hello = std::get_if<Hello>(&*message)) {
    accept(*hello, now_ms);
    return;
  }
  const bool for_active = std::holds_alternative<DumpRequest>(*message);
  if (for_active != (role_ == Role::kActive)) {
    ++counters_.wrong_role;
    return;
  }
  std::visit(Overloaded{[&](const NatCreate& m) { sink_.apply(m); }, [&](const NatDelete& m) { sink_.apply(m); },
                        [&](const ServiceSlot& m) { sink_.apply(Record(m)); },
                        [&](const PortMac& m) { sink_.apply(Record(m)); },
                        [&](const DumpRequest&) {
                          if (!ours(now_ms)) {
                            peer_ = 0;
                            dumping_ = true;
                            cursor_ = 0;
                            parts_.clear();
                            ++counters_.resyncs;
                          }
                        },
                        [&](const Data& m) { accept(m, now_ms); }, [](const auto&) {}},
             *message);
}

void Session::heard(uint64_t peer, uint64_t now_ms) {
  peer_ = peer;
  heard_ms_ = now_ms;
}

void Session::accept(const Hello& hello, uint64_t now_ms) {
  // Of another version: like one that is not ours.
  if (hello.version != kVersion || hello.session == id_ || hello.session == 0 || hello.role == role_) return;
  if (role_ == Role::kStandby) {
    if (hello.session != peer_ || !ours(now_ms)) greet_now_ = true;
    heard(hello.session, now_ms);
    return;
  }
  if (hello.session != peer_) {
    if (ours(now_ms)) return;  // a third one; a pair has two
    heard(hello.session, now_ms);
    restart_stream();
    return;
  }
  const bool was_silent = !ours(now_ms);
  heard(hello.session, now_ms);
  if (was_silent) sender_.rewind();
  if (hello.active == id_ && hello.stream == sender_.stream()) {
    stream_acknowledged_ = true;
    sender_.acknowledged(hello.next, now_ms);
  } else if (stream_acknowledged_) {
    restart_stream();  // it follows another one, and the beginning of this is not to be had any more
  }
}

void Session::restart_stream() {
  sender_.restart(id_, peer_);
  stream_acknowledged_ = false;
  dumping_ = false;
  resync_ = true;
  next_resync_ms_ = 0;
}

void Session::accept(const Data& data, uint64_t now_ms) {
  if (data.standby != id_) return;
  heard(data.active, now_ms);
  greet_now_ = true;  // acknowledges
  switch (receiver_.judge(data)) {
    case StreamReceiver::Verdict::kTake:
      break;
    case StreamReceiver::Verdict::kGap:
      ++counters_.gaps;
      return;
    case StreamReceiver::Verdict::kRepeated:
    case StreamReceiver::Verdict::kForeign:
      return;
  }
  for (Reader in(data.records); !in.empty();) {
    const std::optional<Record> record = read_record(in);
    if (!record) {
      ++counters_.malformed;
      return;
    }
    if (std::holds_alternative<DumpEnd>(*record)) told_everything_ = true;
    sink_.apply(*record);
  }
}

bool Session::transmit(Bytes frame, MessageType type, const Send& send) {
  if (!send(frame)) return false;
  ++counters_.sent[index_of(type)];
  return true;
}

void Session::greet(uint64_t now_ms, const Send& send) {
  const bool known = ours(now_ms);
  if (!greet_now_ && now_ms < next_hello_ms_) return;
  const Hello hello{kVersion, role_, id_, receiver_.active(), receiver_.stream(), receiver_.next()};
  if (!transmit(encode(hello), MessageType::kHello, send)) return;
  if (known) {
    hello_gap_ms_ = kFirstHelloMs;
    next_hello_ms_ = now_ms + kHelloMs;
  } else {
    next_hello_ms_ = now_ms + hello_gap_ms_;
    hello_gap_ms_ = std::min(2 * hello_gap_ms_, kLastHelloMs);
  }
  greet_now_ = false;
}

void Session::poll(uint64_t now_ms, const Send& send) {
  greet(now_ms, send);
  if (role_ == Role::kStandby) {
    if (!dump_requested_) dump_requested_ = transmit(encode(DumpRequest{}), MessageType::kDumpRequest, send);
    return;
  }
  if (ours(now_ms)) {
    poll_stream(now_ms, send);
  } else if (peer_ != 0) {
    // Silent: what happens meanwhile is told when it is back.
    Record change;
    for (size_t i = 0; i < kDiscarded && source_.take(change); ++i) resync_ = true;
    note_dropped();
  } else {
    poll_messages(send);
  }
}

void Session::note_dropped() {
  const uint64_t dropped = source_.dropped();
  if (dropped == seen_dropped_) return;
  counters_.lost += dropped - seen_dropped_;
  seen_dropped_ = dropped;
  resync_ = true;
}

void Session::poll_stream(uint64_t now_ms, const Send& send) {
  const auto send_data = [&](Bytes frame) { return transmit(frame, MessageType::kData, send); };
  size_t budget = kFrames - sender_.transmit(now_ms, kFrames, send_data);
  note_dropped();
  if (resync_ && !dumping_ && now_ms >= next_resync_ms_) {
    resync_ = false;
    dumping_ = true;
    cursor_ = 0;
    next_resync_ms_ = now_ms + kResyncMs;
    ++counters_.resyncs;
    sender_.append(DumpBegin{});
  }
  std::vector<Record> part;
  while (budget > 0 && sender_.has_room()) {
    Record change;
    bool any = false;
    while (sender_.has_room() && source_.take(change)) {
      sender_.append(change);
      any = true;
    }
    if (dumping_ && sender_.has_room()) {
      part.clear();
      dumping_ = source_.dump(cursor_, part);
      for (const Record& record : part) sender_.append(record);
      if (!dumping_) sender_.append(DumpEnd{});
      any = true;
    }
    if (!any) sender_.close();
    budget -= sender_.transmit(now_ms, budget, send_data);
    if (!any) break;
  }
}

std::optional<std::pair<Frame, MessageType>> Session::as_message(const Record& record) const {
  std::optional<std::pair<Frame, MessageType>> message;
  const auto ipv4 = [](const std::optional<NatBinding>& nat) { return nat && !nat->address.is_v6; };
  std::visit(Overloaded{[&](const Put& put) {
                          const auto& [id, state] = put.connection;
                          if (put.only_state || !ipv4(state.nat)) return;
                          const uint16_t icmp_type = is_icmp(id.key) ? ironcore::icmp_type(id.key) : uint16_t{0};
                          // No checksum, as flows keep none: there it goes into the packets that errors quote.
                          message = {encode(NatCreate{mapping_of(id, *state.nat), id.port, icmp_type, 0}),
                                     MessageType::kNatCreate};
                        },
                        [&](const Gone& gone) {
                          if (ipv4(gone.nat))
                            message = {encode(NatDelete{mapping_of(gone.id, *gone.nat)}), MessageType::kNatDelete};
                        },
                        [&](const PortMac& mac) { message = {encode(mac), MessageType::kPortMac}; },
                        [&](const ServiceSlot& slot) { message = {encode(slot), MessageType::kServiceSlot}; },
                        [](const auto&) {}},
             record);
  return message;
}

void Session::poll_messages(const Send& send) {
  note_dropped();
  resync_ = false;  // nobody would ask for it
  size_t budget = kFrames;
  // What could not be sent stays in front of the queue.
  const auto send_parts = [&] {
    for (; budget > 0 && !parts_.empty(); parts_.pop_front()) {
      const auto message = as_message(parts_.front());
      if (!message) continue;
      if (!transmit(message->first, message->second, send)) return false;
      --budget;
    }
    return budget > 0;
  };
  while (send_parts()) {
    Record change;
    if (source_.take(change)) {
      parts_.push_back(change);
    } else if (dumping_) {
      std::vector<Record> part;
      dumping_ = source_.dump(cursor_, part);
      parts_.insert(parts_.end(), part.begin(), part.end());
    } else {
      return;
    }
  }
}

}  // namespace ironcore::ha
