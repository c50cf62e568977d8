// One netlink request and its answer: a thin layer over libnl's message functions that keeps what
// libnl's own error codes lose, the errno and the kernel's explanation (extended acknowledgement).
// Internal to this folder.
#pragma once

#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"

struct nl_sock;

namespace culvert::net {

class Message {
 public:
  // `header` is the fixed part that the type asks for: rtmsg, ifinfomsg …
  template <typename Header>
  Message(int type, int flags, const Header& header) : Message(type, flags) {
    append(std::as_bytes(std::span(&header, 1)));
  }

  void put_u8(int attribute, uint8_t value) { put(attribute, std::as_bytes(std::span(&value, 1))); }
  void put_u32(int attribute, uint32_t value) {
    put(attribute, std::as_bytes(std::span(&value, 1)));
  }
  void put_text(int attribute, const std::string& text);  // with its terminating zero
  void put(int attribute, Bytes value);
  // The attributes that `fill` puts become the content of `attribute`.
  void put_nested(int attribute, const std::function<void()>& fill);

  [[nodiscard]] nl_msg* get() const { return message_.get(); }

 private:
  struct Free {
    void operator()(nl_msg* message) const noexcept { nlmsg_free(message); }
  };

  Message(int type, int flags);
  void append(Bytes header);

  std::unique_ptr<nl_msg, Free> message_;
};

// The attributes of a received message by number; reads check the size.
class Attributes {
 public:
  // `header_size` is the size of the fixed part; `max` the highest attribute of interest.
  Attributes(const nlmsghdr* message, size_t header_size, int max);
  // The attributes nested in `parent`.
  Attributes(const nlattr* parent, int max);

  [[nodiscard]] const nlattr* find(int attribute) const;
  [[nodiscard]] std::optional<uint32_t> u32(int attribute) const;
  [[nodiscard]] std::optional<std::string> text(int attribute) const;
  [[nodiscard]] Bytes bytes(int attribute) const;  // empty if absent; borrowed from the message

 private:
  std::vector<nlattr*> table_;
};

struct Reply {
  int error = 0;     // errno; 0 for success
  std::string text;  // the kernel's explanation, often empty
};

// Sends the request and receives until its acknowledgement or the end of its dump. `on_message`
// gets every message in between and must not use the socket. A dump that the kernel marks as
// interrupted by changes is reported as EINTR.
Reply transact(nl_sock* socket, const Message& request,
               const std::function<void(nlmsghdr*)>& on_message = {});

}  // namespace culvert::net
