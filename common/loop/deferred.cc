#include "common/loop/deferred.h"

#include <utility>

#include "common/loop/loop_state.h"

namespace culvert::loop {

Deferred::Deferred(Loop& loop, Task work)
    : node_(std::make_unique<Node>(Node{&loop.state(), std::move(work), false})) {}

Deferred::Deferred(Deferred&&) noexcept = default;

Deferred& Deferred::operator=(Deferred&& other) noexcept {
  if (this != &other) {
    detach();
    node_ = std::move(other.node_);
  }
  return *this;
}

Deferred::~Deferred() {
  detach();
}

void Deferred::arm() {
  node_->loop->arm(*node_);
}

void Deferred::disarm() {
  if (!std::exchange(node_->armed, false)) return;
  node_->loop->disarm(*node_);
}

bool Deferred::armed() const {
  return node_->armed;
}

void Deferred::detach() noexcept {
  if (node_) node_->loop->forget(*node_);
}

}  // namespace culvert::loop
