# Libraries from the distribution. Names of Debian 12 packages are in scripts/bootstrap.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(LIBUV REQUIRED IMPORTED_TARGET libuv)
pkg_check_modules(LIBNL REQUIRED IMPORTED_TARGET libnl-3.0 libnl-route-3.0)
pkg_check_modules(PUGIXML REQUIRED IMPORTED_TARGET pugixml)
pkg_check_modules(TOMLPLUSPLUS REQUIRED IMPORTED_TARGET tomlplusplus)
pkg_check_modules(LIBCAPNG REQUIRED IMPORTED_TARGET libcap-ng)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(Boost REQUIRED)  # Beast's HTTP parser; headers only
find_package(tl-expected REQUIRED)
find_package(SQLite3 3.35 REQUIRED)

# Intel's multi-buffer library has no pkg-config file; without it AES-GCM is the portable code.
find_path(IPSEC_MB_INCLUDE intel-ipsec-mb.h)
find_library(IPSEC_MB_LIBRARY IPSec_MB)
if(IPSEC_MB_INCLUDE AND IPSEC_MB_LIBRARY)
  set(CULVERT_HAVE_IPSEC_MB ON)
else()
  set(CULVERT_HAVE_IPSEC_MB OFF)
  message(STATUS "ipsec-mb not found: AES-GCM uses mbedTLS's portable code")
endif()
