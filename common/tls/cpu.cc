#include "common/tls/cpu.h"

#include <mbedtls/gcm.h>

namespace culvert::tls {

std::string_view gcm_backend() {
#ifdef MBEDTLS_GCM_ALT
  return culvert_gcm_current()->name;
#else
  return "portable";
#endif
}

}  // namespace culvert::tls
