#include "common/helper/protocol.h"

#include <gtest/gtest.h>

namespace culvert::helper {
namespace {

net::SystemRequest route_to(const char* destination) {
  net::Route route;
  route.destination = *Prefix::parse(destination);
  route.device = "tun9";
  return net::AddRoute{route};
}

TEST(HelperFrames, ComeWholeHoweverTheyAreCut) {
  const std::vector<Frame> sent = {{FrameKind::kBegin, "one"},
                                   {FrameKind::kUndoAll, ""},
                                   {FrameKind::kAnswers, std::string(100'000, 'x')}};
  std::string stream;
  for (const Frame& frame : sent)
    stream += write_frame(frame);
  for (const size_t step : {size_t{1}, size_t{7}, size_t{4096}, stream.size()}) {
    FrameBuffer buffer;
    std::vector<Frame> got;
    for (size_t at = 0; at < stream.size(); at += step) {
      buffer.feed(as_bytes(std::string_view(stream).substr(at, step)));
      while (true) {
        auto frame = buffer.next();
        ASSERT_TRUE(frame);
        if (!*frame) break;
        got.push_back(std::move(**frame));
      }
      if (step == 1 && at == 20) break;  // enough
    }
    if (step != 1) EXPECT_EQ(got, sent) << step;
  }
}

TEST(HelperFrames, RefuseWhatNobodyWrites) {
  for (const std::string_view bytes :
       {std::string_view("\xff\xff\xff\xff\x01", 5), std::string_view("\x00\x00\x00\x01\x00z", 6),
        std::string_view("\x00\x00\x00\x01\x07z", 6)}) {
    FrameBuffer buffer;
    buffer.feed(as_bytes(bytes));
    EXPECT_FALSE(buffer.next());
  }
}

TEST(HelperProtocol, EveryTextIsReadBack) {
  Begin begin{.journal = "/run/culvert/a b.undo",
              .control_socket = "/run/s",
              .scope = {.device = "culvertd0"}};
  EXPECT_EQ(parse_begin(to_text(begin)).value(), begin);
  begin.scope = {net::SystemScope::Role::kClient, "culvert0", 700, 799};
  EXPECT_EQ(parse_begin(to_text(begin)).value(), begin);

  const SocketRequest socket{Family::kV6, false, 0xc0};
  EXPECT_EQ(parse_socket_request(to_text(socket)).value(), socket);

  const std::vector<net::SystemRequest> requests = {route_to("10.0.0.0/8"),
                                                    net::SetSysctl{"net/ipv4/conf/t/x", "a b\n"}};
  EXPECT_FALSE(parse_requests(to_text(requests))) << "a value with a line feed is none of ours";
  const std::vector<net::SystemRequest> good = {requests[0], route_to("fd00::/8")};
  EXPECT_EQ(parse_requests(to_text(good)).value(), good);
  EXPECT_TRUE(parse_requests("").value().empty());

  net::SystemAnswer failed;
  failed.error = fail(ErrorCode::kPermission, "what\nnow", "where=1", "hint %");
  failed.attempted = false;
  net::SystemAnswer done;
  done.output = "1 2\n3";
  const auto answers = parse_answers(to_text(std::vector{failed, done})).value();
  ASSERT_EQ(answers.size(), 2U);
  EXPECT_EQ(answers[0].error->what, "what\nnow");
  EXPECT_EQ(answers[0].error->where, "where=1");
  EXPECT_EQ(answers[0].error->hint, "hint %");
  EXPECT_EQ(answers[0].error->code, ErrorCode::kPermission);
  EXPECT_FALSE(answers[0].attempted);
  EXPECT_EQ(answers[1].output, done.output);
}

TEST(HelperProtocol, RefusesWhatIsNotAsItIsWritten) {
  for (const char* text :
       {"", "begin", "begin journal=a role=server device=t0", "begin journal=/a role=x device=t0",
        "begin journal=/a role=server device=", "begin journal=/a role=server device=t0 x=1",
        "begin role=server journal=/a device=t0", "begin journal=/a role=client device=t0",
        "begin journal=/%61 role=server device=t0"})
    EXPECT_FALSE(parse_begin(text)) << text;
  for (const char* text :
       {"", "socket", "socket family=ipv4 type=raw mark=1",
        "socket family=ipv4 type=stream mark=-1", "socket family=ipv5 type=stream mark=1",
        "socket family=ipv4 type=stream mark=4294967296"})
    EXPECT_FALSE(parse_socket_request(text)) << text;
  for (const char* text : {"done", "done\nfailed\n", "failed code=0 what=x\n",
                           "failed code=77 what=x\n", "perhaps\n", "done output=a b\n"})
    EXPECT_FALSE(parse_answers(text)) << text;
  EXPECT_FALSE(parse_requests("add_route\n"));
  EXPECT_FALSE(parse_requests(net::to_text(route_to("10.0.0.0/8")))) << "no line feed";
}

}  // namespace
}  // namespace culvert::helper
