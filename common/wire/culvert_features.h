// What only two Culvert peers can do, and the words for it in X-Culvert-Features and
// X-Culvert-Attach. Pure. Specified in packaging/man/culvert-protocol.7.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace culvert::wire {

// The version of the extension that is spoken here.
inline constexpr uint16_t kCulvertVersion = 1;

// As offered, as granted, or as in use: each of them is false towards a stock peer.
struct CulvertFeatures {
  bool superpacket = false;  // frames of type 0x20
  bool packed = false;       // several frames in a record
  bool unsummed = false;     // type 0x22 on DTLS: packets without checksum
  bool cid = false;          // connection IDs on DTLS
  bool roam = false;         // X-Culvert-Attach: roam
  bool rekey = false;        // X-Culvert-Attach: rekey, and frames of type 0x21

  [[nodiscard]] bool any() const {
    return superpacket || packed || unsummed || cid || roam || rekey;
  }
  friend bool operator==(const CulvertFeatures&, const CulvertFeatures&) = default;
};

// What both have.
[[nodiscard]] CulvertFeatures common_to(const CulvertFeatures& a, const CulvertFeatures& b);

// Words separated by blanks, in any order; unknown ones are left out. Takes any text.
[[nodiscard]] CulvertFeatures parse_features(std::string_view text);
// "superpacket packed"; empty if there is nothing.
[[nodiscard]] std::string write_features(const CulvertFeatures& features);

// How a CONNECT with a known cookie takes its session over.
enum class AttachMode : uint8_t {
  kNone,   // the old connection is dropped, all channels begin anew
  kRekey,  // both connections live until the old one is drained
  kRoam,   // the old TLS connection is dropped, DTLS and its keys stay
};

// kNone for every other word.
[[nodiscard]] AttachMode parse_attach_mode(std::string_view text);
// Empty for kNone.
[[nodiscard]] std::string_view name_of(AttachMode mode);
// Is it among the features? kNone always is.
[[nodiscard]] bool allows(const CulvertFeatures& features, AttachMode mode);

}  // namespace culvert::wire
