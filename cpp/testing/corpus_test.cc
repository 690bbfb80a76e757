// What fuzzing has found worth keeping, once more, with any compiler and any sanitizer.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "testing/engine_input.h"

namespace ironcore::testing {
namespace {

TEST(Corpus, EngineTakesEveryInput) {
  size_t inputs = 0;
  for (const auto& file : std::filesystem::directory_iterator(IRONCORE_CORPUS "/engine")) {
    SCOPED_TRACE(file.path().filename().string());
    std::ifstream stream(file.path(), std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), {}};
    run_engine_input({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    ++inputs;
  }
  EXPECT_GT(inputs, 20u);
}

}  // namespace
}  // namespace ironcore::testing
