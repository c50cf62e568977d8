#include "client/marked_sockets.h"

#include <algorithm>
#include <utility>

namespace culvert::client {
namespace {

// Of each kind: as many as are needed at once when everything is made anew.
constexpr size_t kKept = 4;

}  // namespace

MarkedSockets::MarkedSockets(helper::RemoteSystemOps& helper, uint32_t mark) : helper_(helper) {
  for (const Kind kind : {Kind::kStream, Kind::kDatagram}) {
    for (const Family family : {Family::kV4, Family::kV6}) {
      Shelf& one = shelf(kind, family);
      one.request = {family, kind == Kind::kStream, mark};
      fill(one);
    }
  }
}

MarkedSockets::Shelf& MarkedSockets::shelf(Kind kind, Family family) {
  return shelves_.at((kind == Kind::kStream ? 0U : 2U) + (family == Family::kV4 ? 0U : 1U));
}

void MarkedSockets::when_filled(std::function<void()> done) {
  const bool filled = std::all_of(shelves_.begin(), shelves_.end(),
                                  [](const Shelf& one) { return one.asked == 0; });
  if (filled) return done();
  when_filled_ = std::move(done);
}

void MarkedSockets::fill(Shelf& shelf) {
  while (shelf.sockets.size() + shelf.asked < kKept) {
    ++shelf.asked;
    helper_.open_socket(shelf.request, [this, &shelf](Result<UniqueFd> opened) {
      --shelf.asked;
      if (opened)
        shelf.sockets.push_back(std::move(*opened));
      else
        shelf.error = std::move(opened.error());
      if (when_filled_) when_filled(std::exchange(when_filled_, nullptr));
    });
  }
}

Result<UniqueFd> MarkedSockets::take(Kind kind, Family family) {
  Shelf& from = shelf(kind, family);
  if (from.sockets.empty()) {
    if (from.asked == 0) fill(from);  // something may have changed since
    return from.error.value_or(fail(ErrorCode::kNetwork, "the helper has not opened a socket yet"));
  }
  UniqueFd taken = std::move(from.sockets.front());
  from.sockets.pop_front();
  from.error.reset();
  fill(from);
  return taken;
}

}  // namespace culvert::client
