// libFuzzer entry of a whole engine: engine_input.h says what the bytes mean.
#include "testing/engine_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ironcore::testing::run_engine_input({data, size});
  return 0;
}
