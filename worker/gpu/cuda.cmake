# With -DFR_CUDA=ON: the kernels for GPUs, and a LibTorch and an NCCL to go with them.
#
#   FR_NVCC                   nvcc 12.4 or newer
#   FR_CUDA_ARCHITECTURES     80 and 90, and code that newer GPUs compile, without it
#   FR_CUDA_INCLUDE_DIR       cuda_runtime.h, cublas_v2.h and so on; beside LibTorch's wheel, or the
#                             toolkit's own
#   FR_NCCL_DIR               include/nccl.h and lib/libnccl.so.2; beside LibTorch's wheel, or the
#                             system's
#
# nvcc by commands of our own, not as CMake's language CUDA: that tries its compiler by linking with
# a whole toolkit, which neither the wheels nor a machine without a GPU need to have.

find_program(FR_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin REQUIRED)
set(FR_CUDA_ARCHITECTURES "80;90" CACHE STRING "Compute capabilities of the kernels for GPUs")
get_filename_component(FR_SITE_PACKAGES ${LIBTORCH_INCLUDE_DIR}/../.. ABSOLUTE)
find_path(FR_CUDA_INCLUDE_DIR cusparse.h
          HINTS ${FR_SITE_PACKAGES}/nvidia/cu13/include ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES}
          REQUIRED)
# nvcc's own headers are not in every copy of the others.
get_filename_component(nvcc_real ${FR_NVCC} REALPATH)
get_filename_component(nvcc_folder ${nvcc_real} DIRECTORY)
find_path(FR_CUDA_CRT_DIR crt/host_config.h HINTS ${nvcc_folder}/../include
          $ENV{CUDA_HOME}/include /usr/local/cuda/include ${FR_CUDA_INCLUDE_DIR} REQUIRED)
set(FR_CUDA_INCLUDE_DIRS ${FR_CUDA_CRT_DIR} ${FR_CUDA_INCLUDE_DIR})
find_library(FR_CUDART_LIBRARY NAMES cudart libcudart.so.13 libcudart.so.12
             HINTS ${FR_SITE_PACKAGES}/nvidia/cu13/lib ${FR_CUDA_INCLUDE_DIR}/../lib64
                   ${FR_CUDA_INCLUDE_DIR}/../lib REQUIRED)
find_path(FR_NCCL_INCLUDE_DIR nccl.h HINTS ${FR_NCCL_DIR}/include
                                           ${FR_SITE_PACKAGES}/nvidia/nccl/include REQUIRED)
find_library(FR_NCCL_LIBRARY NAMES nccl libnccl.so.2
             HINTS ${FR_NCCL_DIR}/lib ${FR_SITE_PACKAGES}/nvidia/nccl/lib REQUIRED)
get_filename_component(FR_TORCH_LIB_DIR ${LIBTORCH_CPU_LIBRARY} DIRECTORY)
find_library(LIBTORCH_CUDA_LIBRARY torch_cuda HINTS ${FR_TORCH_LIB_DIR} REQUIRED
             NO_DEFAULT_PATH)
find_library(LIBTORCH_C10_CUDA_LIBRARY c10_cuda HINTS ${FR_TORCH_LIB_DIR} REQUIRED
             NO_DEFAULT_PATH)

set(FR_NVCC_FLAGS -std=c++20 -O3 -lineinfo --expt-relaxed-constexpr -Xcompiler=-fPIC
                  -Xcompiler=-Wall -I${CMAKE_SOURCE_DIR} -I${CMAKE_CURRENT_SOURCE_DIR}/gpu/native
                  -isystem ${FR_CUDA_CRT_DIR} -isystem ${FR_CUDA_INCLUDE_DIR})
foreach(architecture ${FR_CUDA_ARCHITECTURES})
  list(APPEND FR_NVCC_FLAGS -gencode=arch=compute_${architecture},code=sm_${architecture})
endforeach()
list(GET FR_CUDA_ARCHITECTURES -1 newest)
list(APPEND FR_NVCC_FLAGS -gencode=arch=compute_${newest},code=compute_${newest})

file(GLOB FR_GPU_KERNELS CONFIGURE_DEPENDS gpu/kernels/*.cu)
set(FR_GPU_OBJECTS)
foreach(source ${FR_GPU_KERNELS})
  get_filename_component(name ${source} NAME_WE)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/gpu_kernels/${name}.o)
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/gpu_kernels
    COMMAND ${FR_NVCC} ${FR_NVCC_FLAGS} -MD -MF ${object}.d -c ${source} -o ${object}
    DEPENDS ${source}
    DEPFILE ${object}.d
    COMMENT "Compiling for GPUs: gpu/kernels/${name}.cu"
    VERBATIM)
  list(APPEND FR_GPU_OBJECTS ${object})
endforeach()
add_library(fr_gpu_kernels STATIC ${FR_GPU_OBJECTS})
set_target_properties(fr_gpu_kernels PROPERTIES LINKER_LANGUAGE CXX)
set_source_files_properties(${FR_GPU_OBJECTS} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
target_link_libraries(fr_gpu_kernels PUBLIC fr_common ${FR_CUDART_LIBRARY})

target_compile_definitions(fr_engine PUBLIC FR_CUDA)
target_include_directories(fr_engine PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/gpu/native)
target_include_directories(fr_engine SYSTEM PRIVATE ${FR_NCCL_INCLUDE_DIR} ${FR_CUDA_INCLUDE_DIRS})
# LibTorch's operators for GPUs are found through constructors: nothing refers to their library.
target_link_libraries(
  fr_engine PUBLIC fr_gpu_kernels ${FR_NCCL_LIBRARY} -Wl,--no-as-needed ${LIBTORCH_CUDA_LIBRARY}
                   ${LIBTORCH_C10_CUDA_LIBRARY} -Wl,--as-needed)
