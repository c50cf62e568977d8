// The small parts of common/base: results, bytes, secrets, descriptors, functions, clock.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/result.h"
#include "common/base/scope_exit.h"
#include "common/base/secret.h"
#include "common/base/strong.h"
#include "common/base/unique_fd.h"
#include "common/base/unique_function.h"

namespace culvert {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return fail(ErrorCode::kUsage, "odd", std::to_string(number), "double it");
  return number / 2;
}

TEST(Result, ComposesAndKeepsTheFirstError) {
  EXPECT_EQ(half(12).and_then(half).value(), 3);
  const auto failed = half(6).and_then(half).and_then(half);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message(), "3: odd (double it)");
  EXPECT_EQ(half(4).map([](int n) { return n + 1; }).value(), 3);
}

TEST(Error, MessageLeavesOutWhatIsEmpty) {
  EXPECT_EQ(fail(ErrorCode::kFailure, "what").message(), "what");
  EXPECT_EQ(fail(ErrorCode::kFailure, "what", "where").message(), "where: what");
  EXPECT_EQ(fail(ErrorCode::kFailure, "what", "", "hint").message(), "what (hint)");
  EXPECT_EQ(fail_errno(ErrorCode::kPermission, EACCES, "cannot open", "/x").message(),
            "/x: cannot open: Permission denied");
}

// The numbers and names are part of the programs' interface.
TEST(Error, ExitCodesAndNamesNeverChange) {
  const struct {
    ErrorCode code;
    int exit;
    const char* name;
  } cases[] = {
      {ErrorCode::kFailure, 1, "failure"},
      {ErrorCode::kUsage, 2, "usage"},
      {ErrorCode::kAuthRefused, 3, "auth_refused"},
      {ErrorCode::kNeedsInteraction, 4, "needs_interaction"},
      {ErrorCode::kUntrusted, 5, "untrusted"},
      {ErrorCode::kNetwork, 6, "network"},
      {ErrorCode::kNotRunning, 7, "not_running"},
      {ErrorCode::kAlreadyUp, 8, "already_up"},
      {ErrorCode::kPermission, 9, "permission"},
  };
  for (const auto& test : cases) {
    EXPECT_EQ(exit_code(fail(test.code, "")), test.exit);
    EXPECT_EQ(name_of(test.code), test.name);
  }
}

TEST(Bytes, BigEndianLoadsAndStores) {
  std::array<std::byte, 4> bytes{};
  store_be32(bytes, 0x01020384U);
  EXPECT_EQ(bytes, (std::array{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{0x84}}));
  EXPECT_EQ(load_be32(bytes), 0x01020384U);
  const std::array<std::byte, 8> eight{std::byte{0xfe}, std::byte{2}, std::byte{3}, std::byte{4},
                                       std::byte{5},    std::byte{6}, std::byte{7}, std::byte{8}};
  EXPECT_EQ(load_be64(eight), 0xfe02030405060708U);
  EXPECT_EQ(load_be16(Bytes(bytes).subspan(2)), 0x0384);
  store_be16(bytes, 0xfffe);
  EXPECT_EQ(load_be32(bytes), 0xfffe0384U);
}

TEST(ByteReader, ReadsForwardAndStaysFailed) {
  ByteReader reader(as_bytes("\x01\x02\x03\x04\x05\x06\x07rest"));
  EXPECT_EQ(reader.u8(), 1);
  EXPECT_EQ(reader.be16(), 0x0203);
  EXPECT_EQ(reader.be32(), 0x04050607U);
  EXPECT_FALSE(reader.take(5));
  EXPECT_TRUE(reader.failed());
  EXPECT_FALSE(reader.u8()) << "also what would be there";
  EXPECT_EQ(as_text(reader.rest()), "rest");

  ByteReader whole(as_bytes("abc"));
  EXPECT_EQ(as_text(*whole.take(3)), "abc");
  EXPECT_TRUE(whole.take(0));
  EXPECT_FALSE(whole.failed());
  EXPECT_FALSE(whole.take(SIZE_MAX));
}

TEST(Secret, ComparesByContent) {
  EXPECT_TRUE(equal_constant_time(as_bytes("abc"), as_bytes("abc")));
  EXPECT_FALSE(equal_constant_time(as_bytes("abc"), as_bytes("abd")));
  EXPECT_FALSE(equal_constant_time(as_bytes("\x80"), as_bytes("\x81")));
  EXPECT_FALSE(equal_constant_time(as_bytes("abc"), as_bytes("ab")));
  EXPECT_TRUE(equal_constant_time({}, {}));
}

TEST(Secret, WipesAndMoves) {
  std::array<std::byte, 3> bytes{std::byte{1}, std::byte{2}, std::byte{3}};
  wipe(bytes);
  EXPECT_EQ(bytes, (std::array<std::byte, 3>{}));
  wipe({});

  Secret first(as_bytes("key"));
  const Secret copy = first.clone();
  Secret second(std::move(first));
  EXPECT_EQ(as_text(std::as_const(second).bytes()), "key");
  Secret third(as_bytes("other"));
  third = std::move(second);
  EXPECT_EQ(as_text(std::as_const(third).bytes()), "key");
  EXPECT_EQ(as_text(copy.bytes()), "key");
}

TEST(UniqueFd, ClosesOnceAndOnlyWhatItOwns) {
  const int number = open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(number, 0);
  {
    UniqueFd first(number);
    UniqueFd second(std::move(first));
    EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): that is the question
    EXPECT_EQ(second.get(), number);
    UniqueFd& alias = second;
    second = std::move(alias);
    EXPECT_EQ(fcntl(number, F_GETFD), FD_CLOEXEC) << "still open";
    const int released = second.release();
    EXPECT_EQ(released, number);
    second.reset(released);
  }
  EXPECT_EQ(fcntl(number, F_GETFD), -1);
}

TEST(ScopeExit, RunsUnlessDismissed) {
  int runs = 0;
  {
    const ScopeExit count([&] { ++runs; });
    ScopeExit dismissed([&] { runs += 10; });
    dismissed.dismiss();
  }
  EXPECT_EQ(runs, 1);
}

TEST(UniqueFunction, OwnsMoveOnlyThingsAndForwards) {
  UniqueFunction<std::unique_ptr<int>(std::unique_ptr<int>, int&)> add =
      [base = std::make_unique<int>(1)](std::unique_ptr<int> value, int& calls) {
        ++calls;
        *value += *base;
        return value;
      };
  int calls = 0;
  EXPECT_EQ(*add(std::make_unique<int>(2), calls), 3);
  auto moved = std::move(add);
  EXPECT_FALSE(add);  // NOLINT(bugprone-use-after-move): that is the question
  EXPECT_EQ(*moved(std::make_unique<int>(4), calls), 5);
  EXPECT_EQ(calls, 2);
}

TEST(UniqueFunction, TakesOtherCallables) {
  UniqueFunction<int(int)> function = std::function<int(int)>([](int n) { return n + 1; });
  EXPECT_EQ(function(1), 2);
  function = [](int n) { return n * 2; };
  EXPECT_EQ(function(4), 8);
  function = nullptr;
  EXPECT_FALSE(function);
}

TEST(Strong, IsOrderedAndHashable) {
  EXPECT_LT(SessionId(1), SessionId(2));
  EXPECT_EQ(std::hash<Mtu>{}(Mtu(1400)), std::hash<Mtu>{}(Mtu(1400)));
  static_assert(!std::is_convertible_v<uint16_t, Mtu> && !std::is_convertible_v<Mtu, uint16_t>);
}

TEST(Clock, PrintsIso8601InUtc) {
  EXPECT_EQ(to_iso8601(WallTime{}), "1970-01-01T00:00:00Z");
  EXPECT_EQ(to_iso8601(WallTime(std::chrono::seconds(1'772'366'400))), "2026-03-01T12:00:00Z");
  const TimePoint earlier = BootClock::now();  // arguments are evaluated in any order
  EXPECT_LE(earlier, BootClock::now());
}

}  // namespace
}  // namespace culvert
