// Path-compressed binary trie: one writer, any number of readers without locks.
//
// Why not DPDK's own: rte_lpm and rte_fib take 64 MB and more per table, which is too much for one table per VNI and
// family, and rte_rib must not be read while it is changed. Here a route costs two small nodes at most, a reader sees
// each change as one pointer store, and what was replaced is given to `retire` for a grace period.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

namespace ironcore {

// Key: unsigned integer with the address in host order. Values are owned by the tree.
template <typename Key, typename Value>
class RadixTree {
 public:
  static constexpr unsigned kBits = sizeof(Key) * 8;
  using Retire = std::function<void(std::function<void()>)>;

  explicit RadixTree(Retire retire) : retire_(std::move(retire)) {}
  ~RadixTree() { destroy(root_.load(std::memory_order_relaxed)); }
  RadixTree(const RadixTree&) = delete;
  RadixTree& operator=(const RadixTree&) = delete;

  static Key mask(Key key, unsigned length) { return length == 0 ? 0 : key & (~Key{0} << (kBits - length)); }

  // Longest prefix that covers the key; null if none does. For readers: valid until they are quiescent.
  const Value* lookup(Key key) const {
    const Value* best = nullptr;
    for (const Node* node = root_.load(std::memory_order_acquire); node;
         node = node->child[bit(key, node->length)].load(std::memory_order_acquire)) {
      if (mask(key, node->length) != node->key) break;
      if (const Value* value = node->value.load(std::memory_order_acquire)) best = value;
      if (node->length == kBits) break;
    }
    return best;
  }

  const Value* find(Key key, unsigned length) const {
    for (const Node* node = root_.load(std::memory_order_acquire); node && node->length <= length;
         node = node->child[bit(key, node->length)].load(std::memory_order_acquire)) {
      if (mask(key, node->length) != node->key) return nullptr;
      if (node->length == length) return node->value.load(std::memory_order_acquire);
    }
    return nullptr;
  }

  // `key` is masked. False if the prefix is present already.
  bool insert(Key key, unsigned length, Value value) {
    std::atomic<Node*>* link = &root_;
    for (;;) {
      Node* node = link->load(std::memory_order_relaxed);
      if (!node) {
        link->store(new Node(key, length, new Value(std::move(value))), std::memory_order_release);
        break;
      }
      const unsigned common = common_length(key, length, *node);
      if (common == node->length && common == length) {
        if (node->value.load(std::memory_order_relaxed)) return false;
        node->value.store(new Value(std::move(value)), std::memory_order_release);
        break;
      }
      if (common == node->length) {
        link = &node->child[bit(key, common)];
        continue;
      }
      Node* added = new Node(key, length, new Value(std::move(value)));
      if (common == length) {
        added->child[bit(node->key, common)].store(node, std::memory_order_relaxed);
        link->store(added, std::memory_order_release);
      } else {
        Node* fork = new Node(mask(key, common), common, nullptr);
        fork->child[bit(key, common)].store(added, std::memory_order_relaxed);
        fork->child[bit(node->key, common)].store(node, std::memory_order_relaxed);
        link->store(fork, std::memory_order_release);
      }
      break;
    }
    ++size_;
    return true;
  }

  // Another value for a prefix that is there; false if it is not. Readers see the old or the new one.
  bool replace(Key key, unsigned length, Value value) {
    for (Node* node = root_.load(std::memory_order_relaxed); node && node->length <= length;
         node = node->child[bit(key, node->length)].load(std::memory_order_relaxed)) {
      if (mask(key, node->length) != node->key) return false;
      if (node->length < length) continue;
      const Value* old = node->value.load(std::memory_order_relaxed);
      if (!old) return false;
      node->value.store(new Value(std::move(value)), std::memory_order_release);
      retire_([old] { delete old; });
      return true;
    }
    return false;
  }

  // False if the prefix is not there.
  bool remove(Key key, unsigned length) {
    std::atomic<Node*>* parent_link = nullptr;  // points to the node that holds `link`
    std::atomic<Node*>* link = &root_;
    Node* node;
    for (;;) {
      node = link->load(std::memory_order_relaxed);
      if (!node || node->length > length || mask(key, node->length) != node->key) return false;
      if (node->length == length) break;
      parent_link = link;
      link = &node->child[bit(key, node->length)];
    }
    const Value* value = node->value.load(std::memory_order_relaxed);
    if (!value) return false;
    node->value.store(nullptr, std::memory_order_release);
    retire_([value] { delete value; });
    --size_;
    if (!collapse(*link, *node)) return true;
    // A fork above that lost one of its two ways is not needed any more.
    if (parent_link) {
      Node* parent = parent_link->load(std::memory_order_relaxed);
      if (!parent->value.load(std::memory_order_relaxed)) collapse(*parent_link, *parent);
    }
    return true;
  }

  // Calls visit(key, length, value), lower addresses first and the more specific before what covers it. Writers only.
  template <typename Visit>
  void for_each(Visit visit) const {
    walk(root_.load(std::memory_order_relaxed), visit);
  }

  size_t size() const { return size_; }

 private:
  struct Node {
    Node(Key k, unsigned l, const Value* v) : key(k), value(v), length(l) {}
    const Key key;
    std::atomic<const Value*> value;
    std::atomic<Node*> child[2]{};
    const unsigned length;
  };

  static unsigned bit(Key key, unsigned at) {
    return at < kBits ? static_cast<unsigned>(key >> (kBits - 1 - at)) & 1 : 0;
  }

  static unsigned common_length(Key key, unsigned length, const Node& node) {
    const unsigned limit = length < node.length ? length : node.length;
    const Key differing = key ^ node.key;
    return leading_zeros(differing) < limit ? leading_zeros(differing) : limit;
  }

  static unsigned leading_zeros(Key key) {
    if (key == 0) return kBits;
    if constexpr (sizeof(Key) == 4) return static_cast<unsigned>(__builtin_clz(key));
    if constexpr (sizeof(Key) == 16) {
      const auto high = static_cast<uint64_t>(key >> 64);
      if (high) return static_cast<unsigned>(__builtin_clzll(high));
      return 64 + static_cast<unsigned>(__builtin_clzll(static_cast<uint64_t>(key)));
    }
  }

  // Takes a valueless node with fewer than two children out of the tree.
  bool collapse(std::atomic<Node*>& link, Node& node) {
    Node* left = node.child[0].load(std::memory_order_relaxed);
    Node* right = node.child[1].load(std::memory_order_relaxed);
    if (left && right) return false;
    link.store(left ? left : right, std::memory_order_release);
    retire_([removed = &node] { delete removed; });
    return true;
  }

  template <typename Visit>
  static void walk(const Node* node, Visit& visit) {
    if (!node) return;
    walk(node->child[0].load(std::memory_order_relaxed), visit);
    walk(node->child[1].load(std::memory_order_relaxed), visit);
    if (const Value* value = node->value.load(std::memory_order_relaxed)) visit(node->key, node->length, *value);
  }

  static void destroy(Node* node) {
    if (!node) return;
    destroy(node->child[0].load(std::memory_order_relaxed));
    destroy(node->child[1].load(std::memory_order_relaxed));
    delete node->value.load(std::memory_order_relaxed);
    delete node;
  }

  Retire retire_;
  std::atomic<Node*> root_{nullptr};
  size_t size_ = 0;
};

}  // namespace ironcore
