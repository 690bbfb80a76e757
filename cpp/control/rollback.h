// Steps of a control call, taken back in reverse order unless the whole succeeds. Locals made after the Rollback are
// gone when it runs: steps hold copies of what they need.
#pragma once

#include <functional>
#include <utility>
#include <vector>

namespace ironcore {

class Rollback {
 public:
  Rollback() = default;
  ~Rollback() {
    for (auto undo = undo_.rbegin(); undo != undo_.rend(); ++undo) (*undo)();
  }
  Rollback(const Rollback&) = delete;
  Rollback& operator=(const Rollback&) = delete;

  void add(std::function<void()> undo) { undo_.push_back(std::move(undo)); }
  void commit() { undo_.clear(); }

 private:
  std::vector<std::function<void()>> undo_;
};

}  // namespace ironcore
