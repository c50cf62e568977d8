# Warnings and the one way to declare a library of ours.
add_library(culvert_options INTERFACE)
target_compile_options(culvert_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-align
  -Woverloaded-virtual -Wconversion -Wno-sign-conversion -Wformat=2 -Wimplicit-fallthrough
  $<$<BOOL:${CULVERT_WERROR}>:-Werror>)
target_include_directories(culvert_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(culvert_options INTERFACE CULVERT_VERSION="${PROJECT_VERSION}")

# culvert_library(NAME [PACKET_PATH] SOURCES… PUBLIC libs… PRIVATE libs…)
# PACKET_PATH: every packet passes through it; see Sanitizers.cmake.
function(culvert_library name)
  cmake_parse_arguments(ARG "PACKET_PATH" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC culvert_options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  if(ARG_PACKET_PATH)
    target_compile_options(${name} PRIVATE ${CULVERT_PACKET_PATH_OPTIONS})
  endif()
endfunction()
