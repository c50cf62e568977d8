#include "client/status_view.h"

#include <gtest/gtest.h>

namespace culvert::client {
namespace {

using namespace std::chrono_literals;

TunnelStatus sample() {
  TunnelStatus status;
  status.name = "office";
  status.pid = 42;
  status.state = "up";
  status.since = WallTime(1'700'000'000s);
  status.server = "vpn.example.com";
  status.address = "192.0.2.1:443";
  status.user = "alice";
  status.certificate = "CN=alice";
  status.device = "culvert0";
  status.ipv4 = "10.99.0.2";
  status.mtu = 1390;
  status.channel = "tls";
  status.tls = "TLSv1.3";
  status.cipher = "TLS1-3-AES-128-GCM-SHA256";
  status.routing = "split";
  status.routes = {"10.20.0.0/16"};
  status.dns = {{"10.20.0.53"}, {"~corp.example"}, "none", false, "no resolver"};
  status.rx_packets = 3;
  status.rx_bytes = 2048;
  status.drops["queue_full"] = 5;
  status.reconnects = 1;
  status.last_error = fail(ErrorCode::kNetwork, "lost", "192.0.2.1:443");
  return status;
}

TEST(StatusView, JsonHasEveryMemberOfTheSchema) {
  const control::Json json = to_json(TunnelStatus{});
  for (const char* key : {"schema",      "name",
                          "pid",         "state",
                          "since",       "server",
                          "address",     "user",
                          "certificate", "server_certificate",
                          "device",      "ipv4",
                          "ipv6",        "mtu",
                          "channel",     "tls",
                          "cipher",      "routing",
                          "routes",      "dns",
                          "rx",          "tx",
                          "drops",       "reconnects",
                          "last_error",  "next_attempt_seconds"})
    EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_EQ(json["schema"], kStatusSchema);
  EXPECT_TRUE(json["last_error"].is_null());
  EXPECT_TRUE(json["ipv6"].is_null());
}

TEST(StatusView, JsonRoundTrips) {
  const control::Json json = to_json(sample());
  EXPECT_EQ(json["since"], "2023-11-14T22:13:20Z");
  EXPECT_EQ(json["last_error"]["code"], "network");
  EXPECT_EQ(to_text(status_from_json(json), WallTime(1'700'000'060s)),
            to_text(sample(), WallTime(1'700'000'060s)));
}

TEST(StatusView, StrangeJsonGivesAnEmptyStatus) {
  for (const char* text : {"[]", "null", "{\"name\":5,\"rx\":[],\"routes\":\"x\",\"dns\":1}"})
    EXPECT_EQ(status_from_json(control::Json::parse(text)).name, "");
}

TEST(StatusView, TextTellsWhatAPersonWantsToKnow) {
  const std::string text = to_text(sample(), WallTime(1'700'000'000s + 3h + 20min));
  for (const char* part : {"office: up for 3h 20m", "vpn.example.com at 192.0.2.1:443", "10.99.0.2",
                           "MTU 1390", "TLSv1.3", "10.20.0.0/16", "not applied: no resolver",
                           "2.0 KiB in 3 packets", "dropped 5", "lost"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

TEST(StatusView, TheServersWordsCannotDriveTheTerminal) {
  TunnelStatus status = sample();
  status.banner = "hi\x1b[2J\nforged: line";
  const std::string text = to_text(status, WallTime{});
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find("\nforged"), std::string::npos);
}

TEST(StatusView, SizesAndTimesAreReadable) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(uint64_t{3} << 30), "3.0 GiB");
  EXPECT_EQ(human_time(42s), "42s");
  EXPECT_EQ(human_time(5min), "5m");
  EXPECT_EQ(human_time(-5s), "0s");
  EXPECT_EQ(human_time(52h), "2d 4h");
}

}  // namespace
}  // namespace culvert::client
