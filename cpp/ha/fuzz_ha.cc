// libFuzzer entry: any bytes as a frame of the sync port, and its records as a stream's.
#include <cstdlib>

#include "ha/record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ironcore::ha;
  const auto message = decode({data, size});
  if (!message) return 0;
  const auto* records = std::get_if<Data>(&*message);
  if (!records) return 0;
  for (Reader in(records->records); !in.empty();) {
    const auto record = read_record(in);
    if (!record) break;
    Frame again;
    Writer out(again);
    write(out, *record);
    Reader reread(again);
    if (again.size() > kMaxRecord || read_record(reread) != record) std::abort();
  }
  return 0;
}
