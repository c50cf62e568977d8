// Which AES-GCM serves this process; for `check`, status and the log. Decided once, at first use.
#pragma once

#include <string_view>

namespace culvert::tls {

// "ipsec-mb avx512", "ipsec-mb sse", "portable".
[[nodiscard]] std::string_view gcm_backend();

}  // namespace culvert::tls
