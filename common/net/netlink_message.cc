#include "common/net/netlink_message.h"

#include <netlink/errno.h>
#include <netlink/handlers.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <cassert>
#include <cerrno>
#include <new>

namespace culvert::net {
namespace {

struct FreeCallbacks {
  void operator()(nl_cb* callbacks) const noexcept { nl_cb_put(callbacks); }
};

struct Exchange {
  const std::function<void(nlmsghdr*)>& on_message;
  Reply reply;
  bool done = false;
};

// The explanation stands in an attribute behind the copy of our request, which the kernel may have
// left out (NLM_F_CAPPED). Linux: Documentation/userspace-api/netlink/intro.rst.
std::string explanation_in(nlmsgerr* error) {
  auto* base = reinterpret_cast<std::byte*>(error);
  const auto* header = reinterpret_cast<const nlmsghdr*>(base - NLMSG_HDRLEN);
  if ((header->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
  size_t offset = sizeof(nlmsgerr);
  if ((header->nlmsg_flags & NLM_F_CAPPED) == 0) {
    if (error->msg.nlmsg_len < NLMSG_HDRLEN) return {};
    offset += NLMSG_ALIGN(error->msg.nlmsg_len - NLMSG_HDRLEN);
  }
  const size_t size = header->nlmsg_len - NLMSG_HDRLEN;
  if (offset >= size) return {};
  const nlattr* text = nla_find(reinterpret_cast<nlattr*>(base + offset),
                                static_cast<int>(size - offset), NLMSGERR_ATTR_MSG);
  if (text == nullptr) return {};
  const auto* data = static_cast<const char*>(nla_data(text));
  return {data, strnlen(data, static_cast<size_t>(nla_len(text)))};
}

int on_valid(nl_msg* message, void* argument) noexcept {
  auto* exchange = static_cast<Exchange*>(argument);
  if (exchange->on_message) exchange->on_message(nlmsg_hdr(message));
  return NL_OK;
}

int on_done(nl_msg*, void* argument) noexcept {
  static_cast<Exchange*>(argument)->done = true;
  return NL_STOP;
}

int on_error(sockaddr_nl*, nlmsgerr* error, void* argument) noexcept {
  auto* exchange = static_cast<Exchange*>(argument);
  exchange->reply = {-error->error, explanation_in(error)};
  exchange->done = true;
  return NL_STOP;
}

int to_errno(int nl_error) {
  switch (nl_error) {
    case NLE_DUMP_INTR:
    case NLE_INTR:
      return EINTR;
    case NLE_NOMEM:
      return ENOBUFS;
    case NLE_PERM:
      return EPERM;
    default:
      return EIO;
  }
}

}  // namespace

Message::Message(int type, int flags) : message_(nlmsg_alloc_simple(type, flags)) {
  if (message_ == nullptr) throw std::bad_alloc();
}

void Message::append(Bytes header) {
  // nlmsg_append() only reads.
  auto* data = const_cast<std::byte*>(header.data());
  [[maybe_unused]] const int result =
      nlmsg_append(message_.get(), data, header.size(), NLMSG_ALIGNTO);
  assert(result == 0);
}

// A message has room for a page; our largest has a tenth of that.
void Message::put(int attribute, Bytes value) {
  [[maybe_unused]] const int result =
      nla_put(message_.get(), attribute, static_cast<int>(value.size()), value.data());
  assert(result == 0);
}

void Message::put_text(int attribute, const std::string& text) {
  put(attribute, as_bytes({text.c_str(), text.size() + 1}));
}

void Message::put_nested(int attribute, const std::function<void()>& fill) {
  nlattr* start = nla_nest_start(message_.get(), attribute);
  assert(start != nullptr);
  fill();
  nla_nest_end(message_.get(), start);
}

Attributes::Attributes(const nlmsghdr* message, size_t header_size, int max)
    : table_(static_cast<size_t>(max) + 1) {
  // The kernel's attributes are well-formed; what is not leaves the table empty. The parser takes a
  // pointer to non-const, but only reads.
  nlmsg_parse(const_cast<nlmsghdr*>(message), static_cast<int>(header_size), table_.data(), max,
              nullptr);
}

Attributes::Attributes(const nlattr* parent, int max) : table_(static_cast<size_t>(max) + 1) {
  nla_parse_nested(table_.data(), max, const_cast<nlattr*>(parent), nullptr);
}

const nlattr* Attributes::find(int attribute) const {
  const auto at = static_cast<size_t>(attribute);
  return at < table_.size() ? table_[at] : nullptr;
}

Bytes Attributes::bytes(int attribute) const {
  const nlattr* found = find(attribute);
  if (found == nullptr) return {};
  return {static_cast<const std::byte*>(nla_data(found)), static_cast<size_t>(nla_len(found))};
}

std::optional<uint32_t> Attributes::u32(int attribute) const {
  const Bytes value = bytes(attribute);
  if (value.size() < sizeof(uint32_t)) return std::nullopt;
  uint32_t number = 0;
  std::memcpy(&number, value.data(), sizeof number);
  return number;
}

std::optional<std::string> Attributes::text(int attribute) const {
  const Bytes value = bytes(attribute);
  if (value.empty()) return std::nullopt;
  const auto text = as_text(value);
  return std::string(text.substr(0, text.find('\0')));
}

Reply transact(nl_sock* socket, const Message& request,
               const std::function<void(nlmsghdr*)>& on_message) {
  const std::unique_ptr<nl_cb, FreeCallbacks> callbacks(nl_cb_alloc(NL_CB_DEFAULT));
  if (callbacks == nullptr) throw std::bad_alloc();
  Exchange exchange{.on_message = on_message, .reply = {}, .done = false};
  nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_valid, &exchange);
  nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, on_done, &exchange);
  nl_cb_set(callbacks.get(), NL_CB_FINISH, NL_CB_CUSTOM, on_done, &exchange);
  nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_error, &exchange);

  if (const int sent = nl_send_auto(socket, request.get()); sent < 0) {
    return {to_errno(-sent), nl_geterror(-sent)};
  }
  while (!exchange.done) {
    const int received = nl_recvmsgs(socket, callbacks.get());
    if (received < 0 && !exchange.done) return {to_errno(-received), nl_geterror(-received)};
    // The kernel tells at the end of a dump that it may have missed or doubled entries.
    if (received == -NLE_DUMP_INTR && exchange.reply.error == 0) exchange.reply.error = EINTR;
  }
  return exchange.reply;
}

}  // namespace culvert::net
