# What every target of ours shares: warnings, sanitizers, the include root.

# Flags for a target whose sources we wrote. Generated code (protobuf) does not get them.
function(fr_target_defaults target)
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor
                                           -Woverloaded-virtual)
  if(FR_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${FR_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${FR_SANITIZE})
  endif()
  get_target_property(type ${target} TYPE)
  if(FR_SANITIZE MATCHES thread AND type STREQUAL EXECUTABLE)
    target_sources(${target} PRIVATE ${CMAKE_SOURCE_DIR}/cmake/tsan_suppressions.cpp)
  endif()
endfunction()

# fr_library(name SOURCES... [LINK libs...])
function(fr_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_LINK})
  fr_target_defaults(${name})
endfunction()

# fr_executable(name SOURCES... [LINK libs...])
function(fr_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  fr_target_defaults(${name})
endfunction()

# fr_test(name SOURCES... [LINK libs...] [NO_DISCOVERY]): a GoogleTest program; every TEST is
# one ctest entry. NO_DISCOVERY: for programs that ctest must start under mpirun (fr_mpi_test).
function(fr_test name)
  cmake_parse_arguments(ARG "NO_DISCOVERY" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gmock)
  if(ARG_NO_DISCOVERY)
    target_link_libraries(${name} PRIVATE GTest::gtest)
  else()
    target_link_libraries(${name} PRIVATE GTest::gtest_main)
  endif()
  fr_target_defaults(${name})
  if(NOT ARG_NO_DISCOVERY)
    gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300)
  endif()
endfunction()
