# The project's own CMake vocabulary: one static library per folder, tests that mirror the folders.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

find_program(DARKROOM_CCACHE ccache)
if(DARKROOM_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${DARKROOM_CCACHE})
endif()

# Flags that every target of the project is built with.
add_library(darkroom_flags INTERFACE)
target_compile_definitions(darkroom_flags INTERFACE DARKROOM_VERSION="${PROJECT_VERSION}")
target_compile_options(darkroom_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror
  # Designated initialisers leave out what has a default; that is what they are for.
  -Wno-missing-field-initializers
  # Sums must not depend on where the compiler chose to fuse them; kernels ask for FMA explicitly.
  -ffp-contract=off)
target_include_directories(darkroom_flags INTERFACE ${PROJECT_SOURCE_DIR}/src)
if(DARKROOM_FUZZ)
  # Coverage of the libraries under test, or a fuzzer is blind.
  target_compile_options(darkroom_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(DARKROOM_SANITIZE)
  target_compile_options(darkroom_flags INTERFACE
    -fsanitize=${DARKROOM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(darkroom_flags INTERFACE -fsanitize=${DARKROOM_SANITIZE})
endif()

# darkroom_library(NAME [DEPENDS libs of this project...] [HEADERS libs...] [LIBRARIES third-party targets...])
# All .cpp files of the calling folder become the static library darkroom_NAME. DEPENDS is the
# dependency rule of ARCHITECTURE.md; cmake/CheckLayers.cmake holds the #include lines against it.
# HEADERS may be included but are not linked: the program chooses the implementation, so that a test can take a fake.
function(darkroom_library NAME)
  cmake_parse_arguments(ARG "" "" "DEPENDS;HEADERS;LIBRARIES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  if(sources)
    add_library(darkroom_${NAME} STATIC ${sources})
    set(scope PUBLIC)
  else()
    add_library(darkroom_${NAME} INTERFACE)
    set(scope INTERFACE)
  endif()
  list(TRANSFORM ARG_DEPENDS PREPEND darkroom_)
  target_link_libraries(darkroom_${NAME} ${scope} darkroom_flags ${ARG_DEPENDS} ${ARG_LIBRARIES})
endfunction()

# darkroom_test(NAME [LABEL label] [DEPENDS libs of this project...] [LIBRARIES ...])
# All .cpp files of the calling folder become one GoogleTest program; each TEST is a CTest test.
function(darkroom_test NAME)
  cmake_parse_arguments(ARG "" "LABEL" "DEPENDS;LIBRARIES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(test_${NAME} ${sources})
  list(TRANSFORM ARG_DEPENDS PREPEND darkroom_)
  target_link_libraries(test_${NAME} PRIVATE darkroom_flags ${ARG_DEPENDS} ${ARG_LIBRARIES}
                        GTest::gtest GTest::gmock GTest::gtest_main)
  target_include_directories(test_${NAME} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(test_${NAME} PRIVATE
    DARKROOM_SOURCE_DIR="${PROJECT_SOURCE_DIR}" DARKROOM_BINARY_DIR="${PROJECT_BINARY_DIR}")
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  include(GoogleTest)
  gtest_discover_tests(test_${NAME} DISCOVERY_TIMEOUT 120
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT 1200
    # Tests run side by side: a thread that waits for another must not spin on its core.
    ENVIRONMENT OMP_WAIT_POLICY=passive)
endfunction()

# darkroom_fuzz(NAME DEPENDS libs...): NAME.cpp becomes a libFuzzer program, in the fuzz preset only.
function(darkroom_fuzz NAME)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LIBRARIES" ${ARGN})
  if(NOT DARKROOM_FUZZ)
    return()
  endif()
  if(NOT TARGET fuzzers)
    add_custom_target(fuzzers)  # all of them, and no more than they need
  endif()
  add_executable(fuzz_${NAME} ${NAME}.cpp)
  add_dependencies(fuzzers fuzz_${NAME})
  list(TRANSFORM ARG_DEPENDS PREPEND darkroom_)
  target_compile_options(fuzz_${NAME} PRIVATE -fsanitize=fuzzer)
  target_link_options(fuzz_${NAME} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(fuzz_${NAME} PRIVATE darkroom_flags ${ARG_DEPENDS} ${ARG_LIBRARIES})
endfunction()
