// Records of application data, sealed and opened on our own memory with the keys and the sequence
// numbers of an mbedTLS session. mbedTLS's own way copies each record into its buffer and out again
// and wipes what it held, and takes three times as long for the headers of a small one as for its
// encryption. Handshakes, alerts and everything that is not quite ordinary stay with mbedTLS: both
// ways may be taken in turn.
//
// AES-GCM and ChaCha20-Poly1305, the only ciphers that we negotiate.
#pragma once

#include <mbedtls/ssl.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// Once the handshake is over: seals `plaintext` as one record of application data into `out`, which
// it must not overlap, and says how long the record is. What mbedtls_ssl_write() does by way of its
// own buffer. 0 or an mbedTLS error; after one the session cannot go on.
int culvert_seal_record(mbedtls_ssl_context* ssl, const unsigned char* plaintext, size_t size,
                        unsigned char* out, size_t capacity, size_t* record_size);

// The same for DTLS's way in: one whole record of the current epoch, opened where it lies. What
// mbedtls_ssl_read() would do before (is the number new?) is the caller's business; what it would
// do after (remember the number) is done.
struct CulvertOpenedRecord {
  unsigned char* plaintext;
  size_t size;  // 0 for what is authentic, but no application data
};
// Has the session come so far that records can be opened like this? Not before the first record of
// application data, nor while there are bytes in its own buffer.
int culvert_can_open_in_place(const mbedtls_ssl_context* ssl);
// `header`: bytes before the payload. REQUIRES: culvert_can_open_in_place(). 0 or an mbedTLS error:
// then the record was forged or damaged, is overwritten now, and nothing else has changed.
int culvert_open_record(mbedtls_ssl_context* ssl, unsigned char* record, size_t size, size_t header,
                        struct CulvertOpenedRecord* opened);

// The same for TLS: if the first record of `input` is whole, authentic, and application data, its
// plaintext goes straight to `out`, which must not overlap the input. In every other case nothing
// has happened but that `out` was written to, and mbedtls_ssl_read() is to look at it: it knows
// what to do about alerts, tickets, forgeries, and records that are still incomplete.
struct CulvertStreamRecord {
  size_t record_size;     // of the input; 0: not opened
  size_t plaintext_size;  // at least 1 if opened
};
struct CulvertStreamRecord culvert_open_stream_record(mbedtls_ssl_context* ssl,
                                                      const unsigned char* input, size_t size,
                                                      unsigned char* out, size_t capacity);

#ifdef __cplusplus
}
#endif
