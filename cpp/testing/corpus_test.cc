// What fuzzing has found worth keeping, once more, with any compiler and any sanitizer.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "testing/engine_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);  // of guest/fuzz_guest.cc

namespace ironcore::testing {
namespace {

// Runs all inputs of a directory; returns how many.
template <typename Target>
size_t replay(const std::string& directory, Target target) {
  size_t inputs = 0;
  for (const auto& file : std::filesystem::directory_iterator(IRONCORE_CORPUS "/" + directory)) {
    SCOPED_TRACE(file.path().filename().string());
    std::ifstream stream(file.path(), std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), {}};
    target(std::span(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
    ++inputs;
  }
  return inputs;
}

TEST(Corpus, EngineTakesEveryInput) { EXPECT_GT(replay("engine", run_engine_input), 100u); }

TEST(Corpus, GuestServicesTakeEveryInput) {
  EXPECT_GT(replay("guest", [](std::span<const uint8_t> input) { LLVMFuzzerTestOneInput(input.data(), input.size()); }),
            100u);
}

}  // namespace
}  // namespace ironcore::testing
