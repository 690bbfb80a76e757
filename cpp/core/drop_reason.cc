#include "ironcore/drop_reason.h"

#include <array>

namespace ironcore {
namespace {

struct Text {
  std::string_view name, description;
};

constexpr std::array<Text, kDropReasonCount> kTexts = {{
#define IRONCORE_DROP_TEXT(name, text) {#name, text},
    IRONCORE_DROP_REASON_LIST(IRONCORE_DROP_TEXT)
#undef IRONCORE_DROP_TEXT
}};

}  // namespace

std::string_view drop_reason_name(DropReason reason) { return kTexts[static_cast<size_t>(reason)].name; }

std::string_view drop_reason_description(DropReason reason) { return kTexts[static_cast<size_t>(reason)].description; }

}  // namespace ironcore
