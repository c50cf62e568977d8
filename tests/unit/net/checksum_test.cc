#include "common/net/checksum.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/net/packets.h"

namespace culvert::net {
namespace {

using testing::plain_checksum;

TEST(Checksum, MatchesTheExampleOfRfc1071) {
  const auto data = testing::bytes_of({0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7});
  ChecksumSum sum;
  sum.add(data);
  EXPECT_EQ(sum.folded(), 0xddf2);
  EXPECT_EQ(internet_checksum(data), 0x220d);
}

TEST(Checksum, AgreesWithThePlainOneAtEveryLengthAndAlignment) {
  std::mt19937 random(1);
  testing::Packet data(1600);
  for (auto& byte : data)
    byte = static_cast<std::byte>(random());
  for (size_t length = 0; length < 70; ++length) {
    for (size_t start = 0; start < 4; ++start) {
      const Bytes block = Bytes(data).subspan(start, length);
      ASSERT_EQ(internet_checksum(block), plain_checksum(block)) << length << " at " << start;
    }
  }
  EXPECT_EQ(internet_checksum(data), plain_checksum(data));
}

TEST(Checksum, TheWideSumIsThePortableOne) {
  if (!detail::has_wide_sum()) GTEST_SKIP() << "this processor has none";
  std::mt19937 random(2);
  testing::Packet data(70000);
  for (auto& byte : data)
    byte = static_cast<std::byte>(random());
  for (size_t length = 0; length < 700; ++length) {
    const Bytes block = Bytes(data).subspan(length % 61, length);
    const auto wanted = static_cast<uint16_t>(~plain_checksum(block));
    ASSERT_EQ(detail::folded_sum_portable(block), wanted) << length;
    ASSERT_EQ(detail::folded_sum_wide(block), wanted) << length;
  }
  EXPECT_EQ(detail::folded_sum_wide(data), detail::folded_sum_portable(data));
  const testing::Packet ones(3u << 20, std::byte{0xff});  // longer than one stretch
  EXPECT_EQ(detail::folded_sum_wide(ones), 0xffff);
  EXPECT_EQ(detail::folded_sum_portable(ones), 0xffff);
}

TEST(Checksum, ZeroCanBeWrittenAsOnes) {
  ChecksumSum sum;
  sum.add_word(0xfffe);
  EXPECT_EQ(sum.checksum_or_ones(), 1);
  sum.add_word(1);
  EXPECT_EQ(sum.checksum(), 0);
  EXPECT_EQ(sum.checksum_or_ones(), 0xffff);
}

TEST(Checksum, DoesNotOverflowOnALargeBlockOfOnes) {
  const testing::Packet data(65536, std::byte{0xff});
  EXPECT_EQ(internet_checksum(data), 0);
}

TEST(Checksum, OfAHeaderThatCarriesItsOwnIsZero) {
  const auto packet = testing::ipv4("10.0.0.1", "10.0.0.2", 17, testing::udp(1, 2));
  EXPECT_EQ(internet_checksum(Bytes(packet).first(20)), 0);
}

TEST(Checksum, PseudoHeaderHasTheSumOfItsTextbookLayout) {
  struct Row {
    const char* source;
    const char* destination;
  };
  for (const Row row : {Row{"192.0.2.1", "198.51.100.7"}, Row{"2001:db8::1", "fd99::2"}}) {
    const auto source = testing::address(row.source);
    const auto destination = testing::address(row.destination);
    testing::Packet layout;
    testing::append(layout, source.bytes());
    testing::append(layout, destination.bytes());
    // IPv4 has 16 bits of length, IPv6 32: the same sum.
    testing::append(layout, testing::bytes_of({0, 1, 0x38, 0x80, 0, 0, 0, 17}));
    const auto sum = pseudo_header_sum(source, destination, 17, 0x13880);
    EXPECT_EQ(sum.checksum(), plain_checksum(layout)) << row.source;
    const Bytes in_place = Bytes(layout).first(source.bytes().size() * 2);
    EXPECT_EQ(pseudo_header_sum(in_place, 17, 0x13880).checksum(), plain_checksum(layout));
  }
}

}  // namespace
}  // namespace culvert::net
