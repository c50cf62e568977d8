// UniqueFunction<R(Args…)>: a callable that owns move-only things (descriptors, TLS sessions).
// std::function must be copyable, and std::move_only_function is C++23. Takes lambdas, function
// pointers and std::function alike.
#pragma once

#include <cassert>
#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace culvert {

template <typename Signature>
class UniqueFunction;

template <typename R, typename... Args>
class UniqueFunction<R(Args...)> {
 public:
  UniqueFunction() = default;
  UniqueFunction(std::nullptr_t) {}
  template <typename F>
  requires(!std::same_as<F, UniqueFunction> && std::is_invocable_r_v<R, F&, Args...>)
      UniqueFunction(F callable)
      : target_(std::make_unique<Target<F>>(std::move(callable))) {}

  // REQUIRES: not empty. Destroying or assigning this object from inside the call is the caller's
  // bug: move it out first.
  R operator()(Args... args) {
    assert(target_);
    return target_->call(std::forward<Args>(args)...);
  }
  explicit operator bool() const { return target_ != nullptr; }

 private:
  struct Base {
    Base() = default;
    Base(const Base&) = delete;
    Base& operator=(const Base&) = delete;
    virtual ~Base() = default;
    virtual R call(Args... args) = 0;
  };
  template <typename F>
  struct Target final : Base {
    explicit Target(F callable) : function(std::move(callable)) {}
    R call(Args... args) override { return function(std::forward<Args>(args)...); }
    F function;
  };
  std::unique_ptr<Base> target_;
};

}  // namespace culvert
