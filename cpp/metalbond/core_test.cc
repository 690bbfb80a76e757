// Wire format, index and queues by example; their whole behaviour is tested by properties from Python.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "metalbond/distributor.h"
#include "metalbond/index.h"
#include "metalbond/wire.h"

namespace metalbond {
namespace {

std::string hex(std::string_view text) {
  std::string bytes;
  for (size_t at = 0; at + 1 < text.size(); at += 3)
    bytes.push_back(static_cast<char>(std::stoi(std::string(text.substr(at, 2)), nullptr, 16)));
  return bytes;
}

// ADD of 10.0.0.0/24 via fd00::2 in VNI 100.
const std::string kAdd =
    hex("01 00 20 05 10 64 1a 08 12 04 0a 00 00 00 18 18 22 12 0a 10 fd 00 00 00 00 00 00 00 00 00 00 00 00 00 00 02 ");
const std::string kRemove = hex(
    "01 00 22 05 08 01 10 64 1a 08 12 04 0a 00 00 00 18 18 22 12 0a 10 fd 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
    "02 ");

std::string written(Distributor& server, Source peer) { return server.take(peer, SIZE_MAX, false).frames; }

Limits no_limits() { return {}; }

TEST(Wire, UpdatesAreTheKnownBytes) {
  const Update update = decode_update(std::string_view(kRemove).substr(kHeaderBytes));
  ASSERT_EQ(update.verdict, Verdict::kGood);
  EXPECT_FALSE(update.add);
  EXPECT_EQ(update.route.vni, 100U);
  EXPECT_EQ(update.route.length, 24);
  std::string frames;
  append_update(frames, true, encode_key(update.route));
  append_update(frames, false, encode_key(update.route));
  EXPECT_EQ(frames, kAdd + kRemove);
  EXPECT_EQ(destination_bytes(encode_key(update.route)), 12U);
}

TEST(Wire, AHeadIsJudgedAsSoonAsItIsThere) {
  using Kind = FrameHead::Kind;
  EXPECT_EQ(read_frame("").kind, Kind::kIncomplete);
  EXPECT_EQ(read_frame("\x02").kind, Kind::kBadVersion);
  EXPECT_EQ(read_frame(std::string_view("\x01\x04\xa5\x05", 4)).kind, Kind::kTooLong);
  EXPECT_EQ(read_frame(std::string_view("\x01\x00\x00\x06", 4)).kind, Kind::kUnknownType);
  EXPECT_EQ(read_frame(std::string_view(kAdd).substr(0, 35)).kind, Kind::kIncomplete);
  EXPECT_EQ(read_frame(kAdd + kAdd).size, kAdd.size());
}

TEST(Wire, NoPrefixOfAnUpdateIsReadBeyondItsEnd) {
  for (size_t size = 0; size + kHeaderBytes < kAdd.size(); ++size) {
    const std::string cut = kAdd.substr(kHeaderBytes, size);  // a buffer of its own, for the sanitizer
    EXPECT_EQ(decode_update(cut).verdict, Verdict::kBroken) << size;
  }
}

TEST(SlotIndex, BehavesLikeAMap) {
  std::mt19937 random(7);
  SlotIndex index;
  std::map<uint32_t, uint32_t> model;  // hash by slot; few hashes, so that they collide
  const auto hash_of = [&](uint32_t slot) { return model.at(slot); };
  for (uint32_t step = 0; step < 20'000; ++step) {
    const uint32_t slot = random() % 200;
    if (model.contains(slot)) {
      index.erase(model.at(slot), slot, hash_of);
      model.erase(slot);
    } else {
      model[slot] = random() % 40;
      index.insert(model.at(slot), slot, hash_of);
    }
    const uint32_t probe = random() % 200;
    const uint32_t hash = model.contains(probe) ? model.at(probe) : 0;
    ASSERT_EQ(index.find(hash, [&](uint32_t other) { return other == probe; }) != SlotIndex::kNone,
              model.contains(probe));
  }
  EXPECT_EQ(index.size(), model.size());
}

TEST(Distributor, WhatIsUndoneBeforeItIsWrittenIsNotWritten) {
  Distributor server("s");
  server.connect(1, "", false);
  server.connect(2, "", false);
  server.subscribe(2, 100);
  server.receive(1, kAdd + kRemove, no_limits());
  EXPECT_EQ(written(server, 2), "");
  server.receive(1, kAdd, no_limits());
  EXPECT_EQ(written(server, 2), kAdd);
  server.receive(1, kRemove + kAdd + kRemove, no_limits());
  EXPECT_EQ(written(server, 2), kRemove);
  EXPECT_EQ(server.table.size(), 0U);
  EXPECT_TRUE(server.table.vnis().empty()) << "nothing is kept of what nobody knows";
}

TEST(Distributor, AMirrorGetsOneStepOnly) {
  Distributor server("s");
  server.connect(1, "node", false);
  server.mirror(2);
  server.adopt(3, "far");
  server.receive(3, kAdd, no_limits());
  EXPECT_EQ(written(server, 2), "");
  server.receive(1, kAdd, no_limits());
  const std::string frames = written(server, 2);
  EXPECT_EQ(decode_update(std::string_view(frames).substr(kHeaderBytes)).origin, "node");
  server.disconnect(1);
  server.release(1);
  EXPECT_FALSE(decode_update(std::string_view(written(server, 2)).substr(kHeaderBytes)).add);
  server.disconnect(2);
  server.release(2);
  server.release(3);
  EXPECT_TRUE(server.table.vnis().empty());
}

TEST(Distributor, LimitsRefuseNewRoutesOnly) {
  Distributor server("s");
  server.connect(1, "", false);
  EXPECT_TRUE(server.receive(1, kAdd, {1, 1}).refusals.empty());
  EXPECT_TRUE(server.receive(1, kAdd, {1, 1}).refusals.empty());
  server.connect(2, "", false);
  const Received refused = server.receive(2, kAdd, {1, 1});
  ASSERT_EQ(refused.refusals.size(), 1U);
  EXPECT_EQ(refused.refusals[0].reason, "max_routes");
}

}  // namespace
}  // namespace metalbond
