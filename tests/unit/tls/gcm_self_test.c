/* mbedTLS's own AES-GCM self-test, which products are built without: with MBEDTLS_GCM_ALT, gcm.c
 * contains nothing else, and what it tests are our functions. */
#include "common.h"
#define MBEDTLS_SELF_TEST
#include "gcm.c"
