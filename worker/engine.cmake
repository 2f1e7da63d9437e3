# What needs LibTorch and MPI.

find_package(MPI REQUIRED COMPONENTS C)
find_package(LibTorch REQUIRED)

file(GLOB FR_ENGINE_SOURCES CONFIGURE_DEPENDS comm/*.cpp gpu/*.cpp backbones/run/*.cpp heads/*.cpp optim/*.cpp
     eval/*.cpp checkpoint/*.cpp train/*.cpp)
# Of all that computes on GPUs these sources alone need CUDA's headers and NCCL's.
if(FR_CUDA)
  list(APPEND FR_ENGINE_SOURCES gpu/cuda/cuda_gpu.cpp)
else()
  list(FILTER FR_ENGINE_SOURCES EXCLUDE REGEX "comm/nccl_library\\.cpp$")
  list(APPEND FR_ENGINE_SOURCES gpu/no_cuda/open_gpu.cpp)
endif()
fr_library(
  fr_engine
  SOURCES ${FR_ENGINE_SOURCES} align/mtcnn.cpp align/mtcnn_networks.cpp
          dedupe/identity_centres.cpp dedupe/overlaps.cpp model/embed.cpp model/export.cpp model/host_tensors.cpp
          model/import.cpp model/model.cpp
  LINK fr_models fr_telemetry fr_align fr_dedupe fr_head_kernels fr_backbone_kernels fr_data fr_common LibTorch::LibTorch MPI::MPI_C nlohmann_json::nlohmann_json)
# Open MPI's C++ bindings are long gone from the standard, but not from its headers.
target_compile_definitions(fr_engine PUBLIC OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
if(FR_CUDA)
  include(gpu/cuda.cmake)
endif()
# Without it at::parallel_for, a template, compiles to a plain loop. The run time is LibTorch's own:
# its libgomp and the system's have one name, and the first that is loaded serves both.
target_compile_options(fr_engine PUBLIC -fopenmp)
target_link_options(fr_engine PUBLIC -fopenmp)
target_precompile_headers(fr_engine PRIVATE engine_pch.h)
# A square root that might set errno is not computed in vectors.
set_source_files_properties(optim/updates.cpp PROPERTIES COMPILE_OPTIONS "${FR_KERNEL_FLAGS}"
                                                         SKIP_PRECOMPILE_HEADERS ON)

# fr_engine_executable(name SOURCES...): a program on top of the engine. Compiled with -fpie, as
# programs are, it could not share the library's precompiled header.
function(fr_engine_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES" ${ARGN})
  fr_executable(${name} SOURCES ${ARG_SOURCES} LINK fr_engine CLI11::CLI11)
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${name} PRIVATE -fPIC)
  target_precompile_headers(${name} REUSE_FROM fr_engine)
endfunction()

fr_engine_executable(fr-worker SOURCES cli/fr_worker.cpp)
fr_engine_executable(fr-model SOURCES cli/fr_model.cpp cli/model_commands.cpp
                     cli/model_evaluation.cpp)
