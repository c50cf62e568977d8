#include "common/wire/culvert_features.h"

#include <array>

#include "common/base/text.h"

namespace culvert::wire {
namespace {

struct Word {
  std::string_view word;
  bool CulvertFeatures::*feature;
};
constexpr std::array kWords = {
    Word{"superpacket", &CulvertFeatures::superpacket},
    Word{"packed", &CulvertFeatures::packed},
    Word{"unsummed", &CulvertFeatures::unsummed},
    Word{"cid", &CulvertFeatures::cid},
    Word{"roam", &CulvertFeatures::roam},
    Word{"rekey", &CulvertFeatures::rekey},
};

}  // namespace

CulvertFeatures common_to(const CulvertFeatures& a, const CulvertFeatures& b) {
  CulvertFeatures both;
  for (const Word& word : kWords)
    both.*word.feature = a.*word.feature && b.*word.feature;
  return both;
}

CulvertFeatures parse_features(std::string_view text) {
  CulvertFeatures features;
  for (const std::string_view part : split(text, ' ')) {
    for (const Word& word : kWords)
      if (trim(part) == word.word) features.*word.feature = true;
  }
  return features;
}

std::string write_features(const CulvertFeatures& features) {
  std::string text;
  for (const Word& word : kWords) {
    if (!(features.*word.feature)) continue;
    if (!text.empty()) text += ' ';
    text += word.word;
  }
  return text;
}

AttachMode parse_attach_mode(std::string_view text) {
  for (const AttachMode mode : {AttachMode::kRekey, AttachMode::kRoam})
    if (text == name_of(mode)) return mode;
  return AttachMode::kNone;
}

std::string_view name_of(AttachMode mode) {
  switch (mode) {
    case AttachMode::kNone:
      return {};
    case AttachMode::kRekey:
      return "rekey";
    case AttachMode::kRoam:
      return "roam";
  }
  return {};
}

bool allows(const CulvertFeatures& features, AttachMode mode) {
  switch (mode) {
    case AttachMode::kNone:
      return true;
    case AttachMode::kRekey:
      return features.rekey;
    case AttachMode::kRoam:
      return features.roam;
  }
  return false;
}

}  // namespace culvert::wire
