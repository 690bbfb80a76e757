// Where the intervals of a dimension start: a search tree whose nodes are one or two cache lines. A binary search would
// touch a new line at almost every step.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace ironcore::firewall {

template <typename Key>
class Starts {
 public:
  Starts() = default;
  // Ascending, each once, the first 0.
  explicit Starts(std::span<const Key> sorted) : size_(sorted.size()) {
    std::vector<Key> keys(sorted.begin(), sorted.end());
    for (;;) {
      levels_.push_back({.first = nodes_.size(), .size = keys.size()});
      std::vector<Key> above;
      for (size_t at = 0; at < keys.size(); at += kFan) {
        above.push_back(keys[at]);
        Node& node = nodes_.emplace_back();
        node.keys.fill(std::numeric_limits<Key>::max());
        std::copy_n(keys.begin() + static_cast<ptrdiff_t>(at), std::min(kFan, keys.size() - at), node.keys.begin());
      }
      if (above.size() == 1) break;
      keys = std::move(above);
    }
    std::reverse(levels_.begin(), levels_.end());
    nodes_.shrink_to_fit();
  }

  size_t size() const { return size_; }

  // Number of the last interval that does not start above the key. Without branches: the direction of a step cannot be
  // predicted.
  size_t interval(Key key) const {
    size_t at = 0;
    for (const Level& level : levels_) {
      const Node& node = nodes_[level.first + at];
      size_t child = 0;
      for (size_t i = 1; i < kFan; ++i) child += node.keys[i] <= key;
      at = std::min(at * kFan + child, level.size - 1);  // the greatest key equals what fills up the last node
    }
    return at;
  }

  size_t memory() const { return nodes_.capacity() * sizeof(Node); }

 private:
  static constexpr size_t kFan = sizeof(Key) == 4 ? 16 : 8;

  struct alignas(kFan * sizeof(Key)) Node {
    std::array<Key, kFan> keys;
  };
  struct Level {
    size_t first, size;  // node; keys
  };

  size_t size_ = 0;
  std::vector<Node> nodes_;
  std::vector<Level> levels_;  // the root first
};

}  // namespace ironcore::firewall
