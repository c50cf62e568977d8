# The GCM tests go below common/tls: they need mbedTLS's headers, and its sources for the self-test.
target_link_libraries(unit_tls PRIVATE culvert_mbedtls Threads::Threads)
if(CULVERT_HAVE_IPSEC_MB)
  add_library(unit_tls_gcm_self_test STATIC ${CMAKE_CURRENT_LIST_DIR}/gcm_self_test.c)
  target_include_directories(unit_tls_gcm_self_test SYSTEM PRIVATE ${CULVERT_MBEDTLS_PRIVATE_INCLUDE})
  target_link_libraries(unit_tls_gcm_self_test PRIVATE culvert_mbedtls)
  target_link_libraries(unit_tls PRIVATE unit_tls_gcm_self_test)
endif()
