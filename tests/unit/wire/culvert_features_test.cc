#include "common/wire/culvert_features.h"

#include <gtest/gtest.h>

namespace culvert::wire {
namespace {

TEST(CulvertFeatures, EveryWordIsReadAndWritten) {
  for (const std::string word : {"superpacket", "packed", "cid", "roam", "rekey"}) {
    const CulvertFeatures features = parse_features(word);
    EXPECT_TRUE(features.any()) << word;
    EXPECT_EQ(write_features(features), word);
  }
  const std::string all = "superpacket packed unsummed cid roam rekey";
  EXPECT_EQ(write_features(parse_features(all)), all);
  EXPECT_EQ(write_features(parse_features("rekey roam  packed unsummed cid superpacket packed")),
            all);
}

TEST(CulvertFeatures, AnythingElseIsLeftOut) {
  for (const char* text : {"", " ", "superpackets", "PACKED", "packed,cid", "pack ed", "\xff"})
    EXPECT_FALSE(parse_features(text).any()) << text;
}

TEST(CulvertFeatures, CommonIsWhatBothHave) {
  const auto a = parse_features("superpacket cid roam");
  const auto b = parse_features("packed cid rekey superpacket");
  EXPECT_EQ(write_features(common_to(a, b)), "superpacket cid");
  EXPECT_FALSE(common_to(a, {}).any());
}

TEST(CulvertFeatures, AnAttachModeNeedsItsFeature) {
  const auto rekey = parse_features("rekey");
  EXPECT_TRUE(allows(rekey, AttachMode::kRekey));
  EXPECT_FALSE(allows(rekey, AttachMode::kRoam));
  EXPECT_TRUE(allows(parse_features("roam"), AttachMode::kRoam));
  EXPECT_TRUE(allows({}, AttachMode::kNone));
  for (const AttachMode mode : {AttachMode::kRekey, AttachMode::kRoam})
    EXPECT_EQ(parse_attach_mode(name_of(mode)), mode);
  EXPECT_EQ(parse_attach_mode("both"), AttachMode::kNone);
}

}  // namespace
}  // namespace culvert::wire
