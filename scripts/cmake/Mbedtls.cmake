# mbedTLS 3.6 from source, with our configuration and, where ipsec-mb is there, its AES-GCM.
# The source is CULVERT_MBEDTLS_SOURCE, else .deps/mbedtls (where scripts/bootstrap puts it), else
# the upstream release. Gives the target culvert_mbedtls; only common/tls links it.
include(FetchContent)

set(ENABLE_PROGRAMS OFF CACHE INTERNAL "")
set(ENABLE_TESTING OFF CACHE INTERNAL "")
set(GEN_FILES OFF CACHE INTERNAL "")  # the release has them: neither Perl nor Python is needed
set(MBEDTLS_FATAL_WARNINGS OFF CACHE INTERNAL "")
set(USE_SHARED_MBEDTLS_LIBRARY OFF CACHE INTERNAL "")
set(USE_STATIC_MBEDTLS_LIBRARY ON CACHE INTERNAL "")
set(DISABLE_PACKAGE_CONFIG_AND_INSTALL ON CACHE INTERNAL "")
set(culvert_mbedtls_port "${CMAKE_CURRENT_SOURCE_DIR}/common/tls/mbedtls_port")
set(MBEDTLS_CONFIG_FILE "" CACHE INTERNAL "")
set(MBEDTLS_USER_CONFIG_FILE "${culvert_mbedtls_port}/culvert_mbedtls_config.h" CACHE INTERNAL "")

function(culvert_add_mbedtls source)
  message(STATUS "mbedTLS source: ${source}")
  # gcm_alt.h must be found by every file of mbedTLS, and by ours that include its headers.
  include_directories(BEFORE "${culvert_mbedtls_port}")
  add_subdirectory("${source}" "${CMAKE_BINARY_DIR}/mbedtls" EXCLUDE_FROM_ALL SYSTEM)
endfunction()

set(culvert_mbedtls_source "${CULVERT_MBEDTLS_SOURCE}")
if(NOT culvert_mbedtls_source AND EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/.deps/mbedtls/CMakeLists.txt")
  set(culvert_mbedtls_source "${CMAKE_CURRENT_SOURCE_DIR}/.deps/mbedtls")
endif()
if(NOT culvert_mbedtls_source)
  FetchContent_Declare(mbedtls
    URL https://github.com/Mbed-TLS/mbedtls/releases/download/mbedtls-3.6.6/mbedtls-3.6.6.tar.bz2
    URL_HASH SHA256=8fb65fae8dcae5840f793c0a334860a411f884cc537ea290ce1c52bb64ca007a
    SOURCE_SUBDIR do-not-add)  # only unpack: culvert_add_mbedtls() adds it
  FetchContent_MakeAvailable(mbedtls)
  set(culvert_mbedtls_source "${mbedtls_SOURCE_DIR}")
endif()
if(NOT EXISTS "${culvert_mbedtls_source}/include/mbedtls/build_info.h")
  message(FATAL_ERROR "No mbedTLS source in '${culvert_mbedtls_source}'. Run scripts/bootstrap, or "
                      "pass -DCULVERT_MBEDTLS_SOURCE=DIR with an unpacked mbedTLS 3.6 release.")
endif()
file(STRINGS "${culvert_mbedtls_source}/include/mbedtls/build_info.h" culvert_mbedtls_version
     REGEX "define MBEDTLS_VERSION_STRING ")
if(NOT culvert_mbedtls_version MATCHES "\"3\\.6\\.([0-9]+)\"" OR CMAKE_MATCH_1 LESS 4)
  message(FATAL_ERROR "mbedTLS 3.6.4 or a later 3.6 is needed, '${culvert_mbedtls_source}' has "
                      "${culvert_mbedtls_version}")
endif()

culvert_add_mbedtls("${culvert_mbedtls_source}")

# Optimised even in debug and sanitizer builds: their tests make hundreds of handshakes.
foreach(target mbedcrypto mbedx509 mbedtls)
  target_compile_options(${target} PRIVATE -O2)
endforeach()
target_link_libraries(mbedcrypto PUBLIC Threads::Threads)

if(CULVERT_HAVE_IPSEC_MB)
  # In the same library as their callers, because they call each other both ways.
  target_sources(mbedcrypto PRIVATE
    "${culvert_mbedtls_port}/gcm_alt.c"
    "${culvert_mbedtls_port}/gcm_ipsec_mb.c"
    "${culvert_mbedtls_port}/gcm_portable.c")
  target_compile_definitions(mbedcrypto PUBLIC CULVERT_GCM_ALT)
  target_include_directories(mbedcrypto SYSTEM PRIVATE "${IPSEC_MB_INCLUDE}")
  target_link_libraries(mbedcrypto PUBLIC "${IPSEC_MB_LIBRARY}")
endif()
foreach(target mbedx509 mbedtls)
  # The layout of mbedTLS's structures depends on CULVERT_GCM_ALT: it travels with mbedcrypto.
  target_link_libraries(${target} PUBLIC mbedcrypto)
endforeach()

add_library(culvert_mbedtls INTERFACE)
target_link_libraries(culvert_mbedtls INTERFACE mbedtls mbedx509 mbedcrypto)
target_include_directories(culvert_mbedtls SYSTEM INTERFACE "${culvert_mbedtls_port}")
# For the two files that look inside (see common/tls/CMakeLists.txt).
set(CULVERT_MBEDTLS_PRIVATE_INCLUDE "${culvert_mbedtls_source}/library")
