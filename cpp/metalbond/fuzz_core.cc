// libFuzzer entry of wire format, table and distribution: the input is a story of a server with a few peers.
//
//   clang++ -std=c++20 -O1 -g -I cpp -fsanitize=fuzzer,address,undefined
//   cpp/metalbond/{fuzz_core,distributor,table,wire}.cc -o fuzz
//   ./fuzz -runs=10000000 -max_len=2048 -rss_limit_mb=1024 -timeout=5 CORPUS cpp/metalbond/corpus
#include <cstdlib>

#include "metalbond/distributor.h"
#include "metalbond/wire.h"

namespace {

using metalbond::Distributor;
using metalbond::FrameHead;
using metalbond::Source;

constexpr Source kPeers = 6;
constexpr size_t kMaxRoutes = 64;

void expect(bool condition) {
  if (!condition) std::abort();
}

// Whole frames of type UPDATE that the bytes begin with.
std::string_view updates(std::string_view stream) {
  size_t size = 0;
  while (true) {
    const FrameHead head = metalbond::read_frame(stream.substr(size));
    if (head.kind != FrameHead::Kind::kFrame || head.type != metalbond::kUpdate) return stream.substr(0, size);
    size += head.size;
  }
}

void check_codec(std::string_view payload) {
  const metalbond::Update update = metalbond::decode_update(payload);
  if (update.verdict != metalbond::Verdict::kGood) {
    expect(!update.fault.empty());
    return;
  }
  // What was understood has one canonical form, which means the same.
  const std::string key = metalbond::encode_key(update.route);
  expect(metalbond::encode_key(metalbond::decode_key(key)) == key);
  std::string frame;
  const std::string_view origin = update.origin.substr(0, metalbond::kMaxOrigin);
  metalbond::append_update(frame, update.add, key, origin);
  const FrameHead head = metalbond::read_frame(frame);
  expect(head.kind == FrameHead::Kind::kFrame && head.size == frame.size());
  const metalbond::Update again = metalbond::decode_update(std::string_view(frame).substr(metalbond::kHeaderBytes));
  expect(again.verdict == metalbond::Verdict::kGood && again.add == update.add && again.origin == origin);
  expect(metalbond::encode_key(again.route) == key);
}

// What is written is what a strict reader accepts.
void check_written(Distributor& server, Source peer, size_t limit) {
  const metalbond::Taken taken = server.take(peer, limit, true);
  size_t start = 0;
  for (const size_t end : taken.ends) {
    const FrameHead head = metalbond::read_frame(std::string_view(taken.frames).substr(start));
    expect(head.kind == FrameHead::Kind::kFrame && start + head.size == end);
    start = end;
  }
  expect(start == taken.frames.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  check_codec(input);
  Distributor server("fuzz");
  enum class State { kNone, kClient, kMirror } states[kPeers] = {};
  Source numbers[kPeers] = {};
  Source next = 0;
  while (input.size() >= 2) {
    const auto what = static_cast<uint8_t>(input[0]);
    const auto number = static_cast<uint8_t>(input[1]) % kPeers;
    input.remove_prefix(2);
    State& state = states[number];
    Source& peer = numbers[number];
    const std::string name(1, static_cast<char>('a' + number / 2));
    if (state == State::kNone) {
      peer = ++next;
      state = what % 4 == 3 ? State::kMirror : State::kClient;
      if (state == State::kMirror) server.mirror(peer);
      if (state == State::kClient) server.connect(peer, what % 4 == 0 ? name : "", what % 4 == 1);
      continue;
    }
    switch (what % 8) {
      case 0:
        server.disconnect(peer);
        if ((what & 8) != 0) server.release(peer, what >> 4);
        state = State::kNone;
        break;
      case 1:
        if (state == State::kClient) server.subscribe(peer, what >> 5);
        break;
      case 2:
        if (state == State::kClient) server.unsubscribe(peer, what >> 5);
        break;
      case 3:
        server.mark(peer);
        break;
      case 4:
        check_written(server, peer, what * 4U);
        break;
      case 5:
        server.adopt(++next, (what & 8) != 0 ? name : std::string("\0x", 2));
        server.receive(next, updates(input), {kMaxRoutes, kMaxRoutes});
        if ((what & 16) != 0) server.release(next, what >> 5);
        break;
      default: {
        const std::string_view frames = updates(input);
        input.remove_prefix(frames.size());
        if (state == State::kClient) server.receive(peer, frames, {kMaxRoutes, kMaxRoutes});
      }
    }
  }
  expect(server.table.size() <= kMaxRoutes);
  for (Source number = 0; number < kPeers; ++number)
    if (states[number] != State::kNone) check_written(server, numbers[number], SIZE_MAX);
  for (Source number = 0; number < kPeers; ++number)
    if (states[number] != State::kNone) server.disconnect(numbers[number]);
  for (Source source = 1; source <= next; ++source) expect(server.release(source) == 0);
  expect(server.table.size() == 0 && server.table.vnis().empty());
  return 0;
}
