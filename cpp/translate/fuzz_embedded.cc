// libFuzzer entry: the first byte chooses the family, the rest is an ICMP message.
#include <cstdlib>

#include "translate/embedded.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ironcore::translate;
  if (size == 0) return 0;
  const auto embedded = parse_embedded({data + 1, size - 1}, (data[0] & 1) != 0);
  if (!embedded) return 0;
  if (embedded->ip > embedded->l4 || embedded->l4 > embedded->end || embedded->end > size - 1) std::abort();
  if (embedded->has_ports && embedded->end < embedded->l4 + 8) std::abort();
  return 0;
}
