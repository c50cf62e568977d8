// What a program and its privileged helper say to each other over their socket: frames of a length,
// a kind and text. Both sides take from the other only what they would write themselves. Pure.
//
//   program                                       helper
//   begin journal=… role=server device=…  ──────►  opens the journal, undoes what it holds
//                                         ◄──────  one answer
//   requests, one a line                  ──────►  carries them out, see net/system_request.h
//                                         ◄──────  as many answers, see net/system_answer.h
//   socket family=… type=… mark=…         ──────►  opens it
//                                         ◄──────  one answer, and the descriptor with it
//   undo everything                       ──────►
//                                         ◄──────  one answer
//   leave                                 ──────►  the same, and removes the program's files
//                                         ◄──────  one answer
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/address.h"
#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/net/system_answer.h"
#include "common/net/system_request.h"
#include "common/net/system_scope.h"

namespace culvert::helper {

enum class FrameKind : uint8_t { kBegin = 1, kRequests, kSocket, kUndoAll, kLeave, kAnswers };

struct Frame {
  FrameKind kind = FrameKind::kAnswers;
  std::string text;

  friend bool operator==(const Frame&, const Frame&) = default;
};

// Larger ones are refused on both sides.
constexpr size_t kMaxFrame = size_t{32} << 20;

// REQUIRES: at most kMaxFrame characters.
[[nodiscard]] std::string write_frame(const Frame& frame);

// Frames out of a byte stream.
class FrameBuffer {
 public:
  void feed(Bytes bytes);
  // The next whole one; nothing if it is not here yet. kUsage: the stream makes no sense (any
  // more).
  Result<std::optional<Frame>> next();

 private:
  std::vector<std::byte> bytes_;
};

struct Begin {
  std::string journal;  // absolute path
  // The program's control socket, to be removed for it; empty: the program does so.
  std::string control_socket{};
  net::SystemScope scope;

  friend bool operator==(const Begin&, const Begin&) = default;
};
[[nodiscard]] std::string to_text(const Begin& begin);
Result<Begin> parse_begin(std::string_view text);

// A socket whose packets carry a mark (SO_MARK, socket(7)).
struct SocketRequest {
  Family family = Family::kV4;
  bool stream = true;  // false: datagrams
  uint32_t mark = 0;

  friend bool operator==(const SocketRequest&, const SocketRequest&) = default;
};
[[nodiscard]] std::string to_text(const SocketRequest& request);
Result<SocketRequest> parse_socket_request(std::string_view text);

// One a line.
[[nodiscard]] std::string to_text(const std::vector<net::SystemRequest>& requests);
Result<std::vector<net::SystemRequest>> parse_requests(std::string_view text);
[[nodiscard]] std::string to_text(const std::vector<net::SystemAnswer>& answers);
Result<std::vector<net::SystemAnswer>> parse_answers(std::string_view text);

}  // namespace culvert::helper
