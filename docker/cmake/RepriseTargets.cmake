# One library per folder, its sources listed by name, its vendors PRIVATE.
#
#   reprise_library(reprise_kv SOURCES a.cc DEPENDS reprise_base VENDORS RocksDB)
#   reprise_test(prefix_index_test SOURCES prefix_index_test.cc DEPENDS reprise_kv)
function(reprise_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;VENDORS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_DEPENDS} PRIVATE ${ARG_VENDORS})
endfunction()

function(reprise_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;VENDORS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} ${ARG_VENDORS} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 900)
endfunction()

# libtorch_cpu comes first on the link line: it exports std::filesystem and BLAS
# symbols that must be found in it, and not half in it and half elsewhere.
function(reprise_link_torch_first name)
  target_link_options(${name} PRIVATE -Wl,--no-as-needed ${TORCH_INSTALL_PREFIX}/lib/libtorch_cpu.so)
endfunction()
