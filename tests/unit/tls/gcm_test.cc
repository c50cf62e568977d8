// AES-GCM: both back ends against mbedTLS's self-test, NIST's vectors and each other.

#include <gtest/gtest.h>
#include <mbedtls/gcm.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/text.h"
#include "common/tls/cpu.h"
#include "tests/unit/tls/gcm_nist_vectors.h"

#ifdef MBEDTLS_GCM_ALT

extern "C" int mbedtls_gcm_self_test(int verbose);

namespace culvert::tls {
namespace {

using Octets = std::vector<unsigned char>;

Octets octets(std::string_view hex) {
  const auto bytes = from_hex(hex);
  EXPECT_TRUE(bytes.has_value());
  Octets out(bytes->size());
  std::transform(bytes->begin(), bytes->end(), out.begin(),
                 [](std::byte b) { return std::to_integer<unsigned char>(b); });
  return out;
}

class Key {
 public:
  explicit Key(const Octets& key) {
    mbedtls_gcm_init(&context_);
    EXPECT_EQ(0, mbedtls_gcm_setkey(&context_, MBEDTLS_CIPHER_ID_AES, key.data(),
                                    static_cast<unsigned>(key.size() * 8)));
  }
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;
  ~Key() { mbedtls_gcm_free(&context_); }
  mbedtls_gcm_context* get() { return &context_; }

 private:
  mbedtls_gcm_context context_;
};

struct Sealed {
  Octets text;
  Octets tag;
  bool operator==(const Sealed&) const = default;
};

Sealed seal(Key& key, const Octets& iv, const Octets& add, const Octets& plain, size_t tag_size) {
  Sealed out{Octets(plain.size()), Octets(tag_size)};
  EXPECT_EQ(0, mbedtls_gcm_crypt_and_tag(key.get(), MBEDTLS_GCM_ENCRYPT, plain.size(), iv.data(),
                                         iv.size(), add.data(), add.size(), plain.data(),
                                         out.text.data(), tag_size, out.tag.data()));
  return out;
}

int open(Key& key, const Octets& iv, const Octets& add, const Sealed& sealed, Octets& plain) {
  plain.assign(sealed.text.size(), 0xEE);
  return mbedtls_gcm_auth_decrypt(key.get(), sealed.text.size(), iv.data(), iv.size(), add.data(),
                                  add.size(), sealed.tag.data(), sealed.tag.size(),
                                  sealed.text.data(), plain.data());
}

// The same in pieces of random sizes, empty ones among them.
Sealed seal_in_pieces(Key& key, const Octets& iv, const Octets& add, const Octets& input, int mode,
                      std::mt19937& random) {
  Sealed out{Octets(input.size()), Octets(16)};
  const auto piece = [&random](size_t left) {
    return std::min<size_t>(left, std::uniform_int_distribution<size_t>(0, 80)(random));
  };
  EXPECT_EQ(0, mbedtls_gcm_starts(key.get(), mode, iv.data(), iv.size()));
  for (size_t done = 0, size = 0; done < add.size(); done += size) {
    size = piece(add.size() - done);
    EXPECT_EQ(0, mbedtls_gcm_update_ad(key.get(), add.data() + done, size));
  }
  for (size_t done = 0, size = 0; done < input.size(); done += size) {
    size = piece(input.size() - done);
    size_t written = 0;
    EXPECT_EQ(0, mbedtls_gcm_update(key.get(), input.data() + done, size, out.text.data() + done,
                                    out.text.size() - done, &written));
    EXPECT_EQ(size, written);
  }
  size_t written = 0;
  EXPECT_EQ(0, mbedtls_gcm_finish(key.get(), nullptr, 0, &written, out.tag.data(), 16));
  return out;
}

// Each test runs on each back end.
class Gcm : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const culvert_gcm_ops* ops = std::string_view(GetParam()) == "portable"
                                     ? culvert_gcm_portable()
                                     : culvert_gcm_ipsec_mb();
    if (ops == nullptr) GTEST_SKIP() << "this CPU has no AES instructions";
    culvert_gcm_use(ops);
  }
  void TearDown() override { culvert_gcm_use(nullptr); }
};

INSTANTIATE_TEST_SUITE_P(BackEnds, Gcm, testing::Values("portable", "ipsec_mb"),
                         [](const auto& back_end) { return std::string(back_end.param); });

TEST_P(Gcm, PassesTheSelfTestOfMbedtls) {
  EXPECT_EQ(0, mbedtls_gcm_self_test(0));
}

TEST_P(Gcm, ReproducesTheVectorsOfNist) {
  for (const GcmVector& v : kNistVectors) {
    Key key(octets(v.key));
    const Octets tag = octets(v.tag);
    const Sealed expected{octets(v.ciphertext), tag};
    EXPECT_EQ(expected,
              seal(key, octets(v.iv), octets(v.additional), octets(v.plaintext), tag.size()));
    Octets plain;
    EXPECT_EQ(0, open(key, octets(v.iv), octets(v.additional), expected, plain));
    EXPECT_EQ(octets(v.plaintext), plain);
  }
}

TEST_P(Gcm, RefusesTheForgeriesOfNist) {
  for (const GcmForgery& f : kNistForgeries) {
    Key key(octets(f.key));
    Octets plain;
    EXPECT_EQ(MBEDTLS_ERR_GCM_AUTH_FAILED, open(key, octets(f.iv), octets(f.additional),
                                                {octets(f.ciphertext), octets(f.tag)}, plain));
    EXPECT_TRUE(std::all_of(plain.begin(), plain.end(), [](unsigned char c) { return c == 0; }));
  }
}

TEST_P(Gcm, OpensNothingThatWasTamperedWith) {
  const Octets iv(12, 7), add(13, 9), plain(100, 3);
  Key key(Octets(16, 1));
  const Sealed good = seal(key, iv, add, plain, 16);
  Octets out;
  ASSERT_EQ(0, open(key, iv, add, good, out));
  for (size_t bit = 0; bit < 16 * 8; ++bit) {
    Sealed bad = good;
    bad.tag[bit / 8] = static_cast<unsigned char>(bad.tag[bit / 8] ^ 1 << bit % 8);
    EXPECT_EQ(MBEDTLS_ERR_GCM_AUTH_FAILED, open(key, iv, add, bad, out)) << "bit " << bit;
  }
  Sealed bad = good;
  bad.text[57] ^= 0x10;
  EXPECT_EQ(MBEDTLS_ERR_GCM_AUTH_FAILED, open(key, iv, add, bad, out));
  EXPECT_EQ(Octets(100, 0), out) << "what was decrypted must not be seen";
  Octets other_add = add;
  other_add[0] ^= 1;
  EXPECT_EQ(MBEDTLS_ERR_GCM_AUTH_FAILED, open(key, iv, other_add, good, out));
}

TEST_P(Gcm, WorksInPlace) {
  const Octets iv(12, 7), add(13, 9), plain(1400, 3);
  Key key(Octets(32, 1));
  const Sealed expected = seal(key, iv, add, plain, 16);
  Octets buffer = plain, tag(16);
  ASSERT_EQ(0, mbedtls_gcm_crypt_and_tag(key.get(), MBEDTLS_GCM_ENCRYPT, buffer.size(), iv.data(),
                                         12, add.data(), add.size(), buffer.data(), buffer.data(),
                                         16, tag.data()));
  EXPECT_EQ(expected, (Sealed{buffer, tag}));
}

TEST_P(Gcm, RefusesWhatGcmHasNot) {
  mbedtls_gcm_context context;
  mbedtls_gcm_init(&context);
  const Octets key(32, 1);
  unsigned char out[16], tag[16];
  EXPECT_NE(0, mbedtls_gcm_setkey(&context, MBEDTLS_CIPHER_ID_ARIA, key.data(), 128));
  EXPECT_NE(0, mbedtls_gcm_setkey(&context, MBEDTLS_CIPHER_ID_AES, key.data(), 64));
  EXPECT_NE(0, mbedtls_gcm_starts(&context, MBEDTLS_GCM_ENCRYPT, key.data(), 12)) << "no key";
  ASSERT_EQ(0, mbedtls_gcm_setkey(&context, MBEDTLS_CIPHER_ID_AES, key.data(), 128));
  const auto crypt = [&](size_t iv_size, size_t tag_size) {
    return mbedtls_gcm_crypt_and_tag(&context, MBEDTLS_GCM_ENCRYPT, 16, key.data(), iv_size,
                                     key.data(), 5, key.data(), out, tag_size, tag);
  };
  EXPECT_NE(0, crypt(0, 16));
  EXPECT_NE(0, crypt(12, 3));
  EXPECT_NE(0, crypt(12, 17));
  EXPECT_EQ(0, crypt(12, 16));
  size_t written = 0;
  ASSERT_EQ(0, mbedtls_gcm_starts(&context, MBEDTLS_GCM_ENCRYPT, key.data(), 12));
  EXPECT_EQ(MBEDTLS_ERR_GCM_BUFFER_TOO_SMALL,
            mbedtls_gcm_update(&context, key.data(), 16, out, 15, &written));
  mbedtls_gcm_free(&context);
  mbedtls_gcm_free(&context);  // harmless
}

TEST(GcmBackEnds, AgreeOnRandomMessages) {
  const culvert_gcm_ops* fast = culvert_gcm_ipsec_mb();
  if (fast == nullptr) GTEST_SKIP() << "this CPU has no AES instructions";
  std::mt19937 random(4711);  // the same messages every time
  const auto bytes = [&random](size_t size) {
    Octets out(size);
    std::generate(out.begin(), out.end(),
                  [&random] { return static_cast<unsigned char>(random()); });
    return out;
  };
  const auto up_to = [&random](size_t most) {
    return std::uniform_int_distribution<size_t>(0, most)(random);
  };
  for (int round = 0; round < 2000; ++round) {
    const Octets secret = bytes(16 + 8 * up_to(2));
    const Octets iv = bytes(round % 3 == 0 ? 1 + up_to(99) : 12);
    const Octets add = bytes(up_to(round % 2 == 0 ? 20 : 300));
    const Octets plain = bytes(up_to(round % 50 == 0 ? 20000 : 1500));
    culvert_gcm_use(culvert_gcm_portable());
    Key slow_key(secret);
    culvert_gcm_use(fast);
    Key fast_key(secret);
    const Sealed sealed = seal(slow_key, iv, add, plain, 16);
    ASSERT_EQ(sealed, seal(fast_key, iv, add, plain, 16)) << "round " << round;
    for (Key* key : {&slow_key, &fast_key}) {
      ASSERT_EQ(sealed, seal_in_pieces(*key, iv, add, plain, MBEDTLS_GCM_ENCRYPT, random));
      const Sealed opened = seal_in_pieces(*key, iv, add, sealed.text, MBEDTLS_GCM_DECRYPT, random);
      ASSERT_EQ((Sealed{plain, sealed.tag}), opened) << "round " << round;
      Octets out;
      ASSERT_EQ(0, open(*key, iv, add, sealed, out));
      ASSERT_EQ(plain, out);
      Sealed bad = sealed;
      bad.tag[up_to(15)] ^= 0x40;
      ASSERT_EQ(MBEDTLS_ERR_GCM_AUTH_FAILED, open(*key, iv, add, bad, out));
    }
  }
  culvert_gcm_use(nullptr);
}

TEST(GcmBackEnds, TheFastOneIsChosenWhereItRuns) {
  culvert_gcm_use(nullptr);
  if (culvert_gcm_ipsec_mb() == nullptr) {
    EXPECT_EQ("portable", gcm_backend());
  } else {
    EXPECT_TRUE(gcm_backend().starts_with("ipsec-mb ")) << gcm_backend();
  }
}

}  // namespace
}  // namespace culvert::tls

#endif  // MBEDTLS_GCM_ALT
