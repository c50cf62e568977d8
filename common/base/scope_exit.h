// ScopeExit: runs its function on leaving the scope unless dismiss()ed. The function must not
// throw.
#pragma once

#include <utility>

namespace culvert {

template <typename F>
class [[nodiscard]] ScopeExit {
 public:
  explicit ScopeExit(F action) : action_(std::move(action)) {}
  ScopeExit(const ScopeExit&) = delete;
  ScopeExit& operator=(const ScopeExit&) = delete;
  ~ScopeExit() {
    if (armed_) action_();
  }
  void dismiss() { armed_ = false; }

 private:
  F action_;
  bool armed_ = true;
};

}  // namespace culvert
