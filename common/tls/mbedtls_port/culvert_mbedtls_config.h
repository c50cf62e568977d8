/* What Culvert changes in mbedTLS's default configuration (mbedtls/mbedtls_config.h). Read by every
 * file that includes an mbedTLS header; CULVERT_GCM_ALT comes from scripts/cmake/Mbedtls.cmake. */
#ifndef CULVERT_MBEDTLS_CONFIG_H
#define CULVERT_MBEDTLS_CONFIG_H

/* TLS 1.3 keeps its keys in the global PSA key store: without locks, handshakes on two threads
 * break each other. */
#define MBEDTLS_THREADING_C
#define MBEDTLS_THREADING_PTHREAD

#ifdef CULVERT_GCM_ALT
#define MBEDTLS_GCM_ALT
#endif

/* DTLS: shrink the buffers after the handshake; no padding of records with a connection ID. */
#define MBEDTLS_SSL_VARIABLE_BUFFER_LENGTH
#define MBEDTLS_SSL_CID_TLS1_3_PADDING_GRANULARITY 1

/* Its statistics counters race; one test compiles the GCM self-test on its own. */
#undef MBEDTLS_SELF_TEST

/* Not ours to do: sockets, files, timing, logs, a key store on disk. */
#undef MBEDTLS_NET_C
#undef MBEDTLS_TIMING_C
#undef MBEDTLS_DEBUG_C
#undef MBEDTLS_FS_IO
#undef MBEDTLS_PSA_CRYPTO_STORAGE_C
#undef MBEDTLS_PSA_ITS_FILE_C
#undef MBEDTLS_VERSION_FEATURES
#undef MBEDTLS_PADLOCK_C

/* Parts of TLS that we never negotiate. */
#undef MBEDTLS_SSL_RENEGOTIATION
#undef MBEDTLS_SSL_CACHE_C
#undef MBEDTLS_SSL_CONTEXT_SERIALIZATION
#undef MBEDTLS_SSL_ENCRYPT_THEN_MAC
#undef MBEDTLS_SSL_DTLS_CLIENT_PORT_REUSE
#undef MBEDTLS_DHM_C
#undef MBEDTLS_KEY_EXCHANGE_DHE_PSK_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_DHE_RSA_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_RSA_PSK_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_ECDHE_PSK_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_ECDH_ECDSA_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_ECDH_RSA_ENABLED

/* Algorithms without a user here. SHA-1 stays: key identifiers of certificates. CBC and PKCS#5
 * stay: they tell an encrypted private key from a broken one. */
#undef MBEDTLS_ARIA_C
#undef MBEDTLS_CAMELLIA_C
#undef MBEDTLS_DES_C
#undef MBEDTLS_CCM_C
#undef MBEDTLS_CIPHER_MODE_CFB
#undef MBEDTLS_CIPHER_MODE_OFB
#undef MBEDTLS_CIPHER_MODE_XTS
#undef MBEDTLS_ECJPAKE_C
#undef MBEDTLS_HMAC_DRBG_C
#undef MBEDTLS_ECDSA_DETERMINISTIC
#undef MBEDTLS_LMS_C
#undef MBEDTLS_MD5_C
#undef MBEDTLS_NIST_KW_C
#undef MBEDTLS_PKCS7_C
#undef MBEDTLS_PKCS12_C
#undef MBEDTLS_RIPEMD160_C
#undef MBEDTLS_SHA3_C
#undef MBEDTLS_ECP_DP_SECP192R1_ENABLED
#undef MBEDTLS_ECP_DP_SECP224R1_ENABLED
#undef MBEDTLS_ECP_DP_SECP192K1_ENABLED
#undef MBEDTLS_ECP_DP_SECP224K1_ENABLED
#undef MBEDTLS_ECP_DP_SECP256K1_ENABLED
#undef MBEDTLS_ECP_DP_BP256R1_ENABLED
#undef MBEDTLS_ECP_DP_BP384R1_ENABLED
#undef MBEDTLS_ECP_DP_BP512R1_ENABLED
#undef MBEDTLS_ECP_DP_CURVE448_ENABLED

#endif
