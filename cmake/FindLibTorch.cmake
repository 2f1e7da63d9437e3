# LibTorch::LibTorch, from a directory that holds include/ and lib/ (the torch package of a
# PyPI wheel, or an unpacked LibTorch): -DFR_TORCH_DIR=DIR, or any entry of CMAKE_PREFIX_PATH.
#
# Not find_package(Torch): the wheel's own configuration demands a whole CUDA toolkit when the
# wheel was built for CUDA, and puts LibTorch's bundled headers (Protobuf 3.13, fmt) in front of
# the system's. Here they come last (-idirafter), so that one translation unit may include
# LibTorch, Protobuf and spdlog together.

find_path(LIBTORCH_INCLUDE_DIR ATen/ATen.h
          HINTS ${FR_TORCH_DIR} ${CMAKE_SOURCE_DIR}/.venv/lib/python3.11/site-packages/torch
          PATH_SUFFIXES include ../../include NO_SYSTEM_ENVIRONMENT_PATH)
find_library(LIBTORCH_CPU_LIBRARY torch_cpu
             HINTS ${FR_TORCH_DIR} ${CMAKE_SOURCE_DIR}/.venv/lib/python3.11/site-packages/torch
             PATH_SUFFIXES lib ../../lib NO_SYSTEM_ENVIRONMENT_PATH)
find_library(LIBTORCH_C10_LIBRARY c10
             HINTS ${FR_TORCH_DIR} ${CMAKE_SOURCE_DIR}/.venv/lib/python3.11/site-packages/torch
             PATH_SUFFIXES lib ../../lib NO_SYSTEM_ENVIRONMENT_PATH)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  LibTorch REQUIRED_VARS LIBTORCH_CPU_LIBRARY LIBTORCH_C10_LIBRARY LIBTORCH_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "run scripts/setup, which installs it, or pass -DFR_TORCH_DIR=DIR")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  target_compile_options(
    LibTorch::LibTorch
    INTERFACE -idirafter${LIBTORCH_INCLUDE_DIR}
              -idirafter${LIBTORCH_INCLUDE_DIR}/torch/csrc/api/include)
  target_link_libraries(LibTorch::LibTorch INTERFACE ${LIBTORCH_CPU_LIBRARY}
                                                     ${LIBTORCH_C10_LIBRARY})
  # A CUDA wheel's libtorch_cpu needs libraries that its own run path finds, and the linker not.
  target_link_options(LibTorch::LibTorch INTERFACE -Wl,--allow-shlib-undefined)
endif()
