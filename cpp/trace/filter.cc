#include "trace/filter.h"

#include <regex.h>

#include <stdexcept>

#ifdef IRONCORE_HAVE_PCAP
#include <pcap/pcap.h>
#else
struct bpf_program {};
#endif

namespace ironcore::trace {

#ifdef IRONCORE_HAVE_PCAP

FrameFilter::FrameFilter(const std::string& expression) {
  if (expression.empty()) return;
  constexpr int kSnapLength = 65535, kOptimize = 1;
  const std::unique_ptr<pcap_t, decltype(&pcap_close)> handle(pcap_open_dead(DLT_EN10MB, kSnapLength), pcap_close);
  if (!handle) throw std::bad_alloc();
  auto program = std::make_unique<bpf_program>();
  if (pcap_compile(handle.get(), program.get(), expression.c_str(), kOptimize, PCAP_NETMASK_UNKNOWN) != 0)
    throw std::invalid_argument("filter '" + expression + "': " + pcap_geterr(handle.get()));
  program_ = std::move(program);
}

FrameFilter::~FrameFilter() {
  if (program_) pcap_freecode(program_.get());
}

bool FrameFilter::matches(std::span<const uint8_t> bytes, uint32_t length) const {
  return !program_ || bpf_filter(program_->bf_insns, bytes.data(), length, static_cast<u_int>(bytes.size())) != 0;
}

#else

FrameFilter::FrameFilter(const std::string& expression) {
  if (!expression.empty()) throw std::invalid_argument("filter: this engine was built without libpcap");
}
FrameFilter::~FrameFilter() = default;
bool FrameFilter::matches(std::span<const uint8_t>, uint32_t) const { return true; }

#endif

NodePattern::NodePattern(const std::string& pattern, uint16_t ports) {
  regex_t compiled;
  // An embedded NUL would end the pattern early and so change its meaning.
  if (pattern.find('\0') != pattern.npos) throw std::invalid_argument("node pattern contains a NUL byte");
  if (const int error = regcomp(&compiled, pattern.empty() ? ".*" : pattern.c_str(), REG_NOSUB)) {
    char text[128];
    regerror(error, &compiled, text, sizeof text);
    throw std::invalid_argument("node pattern '" + pattern + "': " + text);
  }
  const auto accepted = [&](Node node, uint16_t port) {
    return regexec(&compiled, node_name(node, port).c_str(), 0, nullptr, 0) == 0;
  };
  for (size_t node = 0; node < kNodeCount; ++node) named_[node] = accepted(static_cast<Node>(node), 0);
  for (uint16_t port = 0; port < ports; ++port) {
    receive_.push_back(accepted(Node::kReceive, port));
    transmit_.push_back(accepted(Node::kTransmit, port));
  }
  regfree(&compiled);
}

}  // namespace ironcore::trace
