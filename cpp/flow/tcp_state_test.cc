#include "flow/tcp_state.h"

#include <gtest/gtest.h>

namespace ironcore {
namespace {

constexpr uint8_t kEce = 0x40, kCwr = 0x80, kPsh = 0x08;

TcpState run(std::initializer_list<std::pair<uint8_t, bool>> segments) {
  TcpTrack track;
  for (const auto& [flags, is_reply] : segments) track = next_tcp_state(track, flags, is_reply);
  return track.state;
}

TEST(TcpTracking, Handshake) {
  EXPECT_EQ(run({{kTcpSyn, false}}), TcpState::kSyn);
  EXPECT_EQ(run({{kTcpSyn, false}, {kTcpSyn | kTcpAck, true}}), TcpState::kSynAck);
  EXPECT_EQ(run({{kTcpSyn, false}, {kTcpSyn | kTcpAck, true}, {kTcpAck, false}}), TcpState::kEstablished);
  EXPECT_EQ(run({{kTcpSyn | kEce | kCwr, true}, {kTcpSyn | kTcpAck | kEce, false}, {kTcpAck | kPsh, true}}),
            TcpState::kEstablished);
}

TEST(TcpTracking, OneSideAloneEstablishesNothing) {
  EXPECT_EQ(run({{kTcpSyn, false}, {kTcpSyn | kTcpAck, false}, {kTcpAck, false}}), TcpState::kSyn);
  EXPECT_EQ(run({{kTcpSyn, false}, {kTcpSyn | kTcpAck, true}, {kTcpAck, true}}), TcpState::kSynAck);
  EXPECT_EQ(run({{kTcpAck, false}, {kTcpAck, false}}), TcpState::kPickUp);
  EXPECT_EQ(run({{kTcpAck, false}, {kTcpAck, true}}), TcpState::kEstablished);
}

TEST(TcpTracking, Closing) {
  EXPECT_EQ(run({{kTcpAck, false}, {kTcpAck, true}, {kTcpFin | kTcpAck, true}}), TcpState::kFinWait);
  EXPECT_EQ(run({{kTcpAck, false}, {kTcpAck, true}, {kTcpRst, true}}), TcpState::kClosed);
  EXPECT_EQ(run({{kTcpSyn, false}, {kTcpFin, false}}), TcpState::kClosed);
  EXPECT_EQ(run({{kTcpRst, false}, {kTcpAck, false}, {kTcpAck, true}}), TcpState::kClosed);
  EXPECT_EQ(run({{kTcpRst, false}, {kTcpSyn, true}}), TcpState::kSyn);
}

TEST(TcpTracking, OneDirectionAlone) {
  const auto one_way = [](std::initializer_list<uint8_t> segments) {
    TcpTrack track;
    for (const uint8_t flags : segments) track = next_one_way_tcp_state(track, flags);
    return track.state;
  };
  EXPECT_EQ(one_way({kTcpSyn}), TcpState::kSyn);
  EXPECT_EQ(one_way({kTcpSyn, kTcpSyn}), TcpState::kSyn);
  EXPECT_EQ(one_way({kTcpSyn, kTcpAck}), TcpState::kEstablished);
  EXPECT_EQ(one_way({kTcpAck}), TcpState::kPickUp);
  EXPECT_EQ(one_way({kTcpAck, kTcpAck}), TcpState::kEstablished);
  EXPECT_EQ(one_way({kTcpSyn, kTcpAck, kTcpFin | kTcpAck, kTcpAck}), TcpState::kFinWait);
  EXPECT_EQ(one_way({kTcpSyn, kTcpAck, kTcpRst, kTcpAck}), TcpState::kClosed);
  EXPECT_EQ(one_way({kTcpRst, kTcpSyn}), TcpState::kSyn);
}

TEST(TcpTracking, PacksLosslessly) {
  for (const auto state : {TcpState::kNone, TcpState::kSyn, TcpState::kSynAck, TcpState::kEstablished,
                           TcpState::kFinWait, TcpState::kClosed, TcpState::kPickUp})
    for (const bool reply : {false, true})
      EXPECT_EQ(TcpTrack::unpack(TcpTrack{state, reply}.pack()), (TcpTrack{state, reply}));
}

}  // namespace
}  // namespace ironcore
