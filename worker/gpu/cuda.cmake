# With -DFR_CUDA=ON: the kernels for GPUs, and a LibTorch and an NCCL to go with them.
#
#   CMAKE_CUDA_COMPILER       nvcc 12.4 or newer
#   CMAKE_CUDA_ARCHITECTURES  80 and 90, and code that newer GPUs compile, without it
#   FR_CUDA_INCLUDE_DIR       cuda_runtime.h, cublas_v2.h and so on; beside LibTorch's wheel, or the
#                             toolkit's own
#   FR_NCCL_DIR               include/nccl.h and lib/libnccl.so.2; beside LibTorch's wheel, or the
#                             system's

if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
endif()
# The kernels' headers are C++20; exceptions and LibTorch stay in sources that g++ compiles.
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
enable_language(CUDA)

get_filename_component(FR_SITE_PACKAGES ${LIBTORCH_INCLUDE_DIR}/../.. ABSOLUTE)
find_path(FR_CUDA_INCLUDE_DIR cusparse.h
          HINTS ${FR_SITE_PACKAGES}/nvidia/cu13/include ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES}
          REQUIRED)
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

file(GLOB FR_GPU_KERNELS CONFIGURE_DEPENDS gpu/kernels/*.cu)
add_library(fr_gpu_kernels STATIC ${FR_GPU_KERNELS} gpu/kernels/kernels.cpp)
target_include_directories(fr_gpu_kernels PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/gpu/native
                                                 ${CMAKE_SOURCE_DIR})
target_include_directories(fr_gpu_kernels SYSTEM PUBLIC ${FR_CUDA_INCLUDE_DIR})
target_compile_options(fr_gpu_kernels
                       PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-O3 --expt-relaxed-constexpr -lineinfo
                               -Werror=cross-execution-space-call>)
target_link_libraries(fr_gpu_kernels PUBLIC fr_common ${FR_CUDART_LIBRARY})
set_target_properties(fr_gpu_kernels PROPERTIES CUDA_RUNTIME_LIBRARY None)

target_compile_definitions(fr_engine PUBLIC FR_CUDA)
target_include_directories(fr_engine SYSTEM PRIVATE ${FR_NCCL_INCLUDE_DIR} ${FR_CUDA_INCLUDE_DIR})
# LibTorch's operators for GPUs are found through constructors: nothing refers to their library.
target_link_libraries(
  fr_engine PUBLIC fr_gpu_kernels ${FR_NCCL_LIBRARY} -Wl,--no-as-needed ${LIBTORCH_CUDA_LIBRARY}
                   ${LIBTORCH_C10_CUDA_LIBRARY} -Wl,--as-needed)
