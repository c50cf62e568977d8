// LoginLimits: how many logins may be under way at once, in all and from one source. Pure.
// A login costs a descriptor, some memory and milliseconds of public-key work, and anybody can
// begin one: these bounds are what a flood runs into.
#pragma once

#include <cstddef>
#include <unordered_map>

#include "common/base/address.h"

namespace culvert::server {

class LoginLimits {
 public:
  struct Options {
    size_t total = 1024;
    // Many people can sit behind one address; IPv6 networks count as one source each (/64).
    size_t per_source = 64;
  };
  enum class Verdict {
    kAdmit,
    kSourceFull,  // turn this one away
    kTotalFull,   // somebody else has to go first
  };

  explicit LoginLimits(Options options) : options_(options) {}

  [[nodiscard]] Verdict judge(const IpAddress& source) const {
    const auto found = sources_.find(key_of(source));
    if (found != sources_.end() && found->second >= options_.per_source) {
      return Verdict::kSourceFull;
    }
    return total_ >= options_.total ? Verdict::kTotalFull : Verdict::kAdmit;
  }
  void enter(const IpAddress& source) {
    ++sources_[key_of(source)];
    ++total_;
  }
  // REQUIRES: entered before.
  void leave(const IpAddress& source) {
    const auto found = sources_.find(key_of(source));
    if (--found->second == 0) sources_.erase(found);
    --total_;
  }
  [[nodiscard]] size_t total() const { return total_; }

 private:
  static IpAddress key_of(const IpAddress& source) {
    return source.is_v4() ? source : Prefix{source, 64}.network().address;
  }

  Options options_;
  size_t total_ = 0;
  std::unordered_map<IpAddress, size_t> sources_;
};

}  // namespace culvert::server
