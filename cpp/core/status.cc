#include "ironcore/status.h"

namespace ironcore {

std::string_view status_name(Status status) {
  switch (status) {
    case Status::OK:
      return "Success";
#define IRONCORE_STATUS_CASE(name, code) \
  case Status::name:                     \
    return #name;
      IRONCORE_STATUS_LIST(IRONCORE_STATUS_CASE)
#undef IRONCORE_STATUS_CASE
  }
  return "UNKNOWN";
}

}  // namespace ironcore
