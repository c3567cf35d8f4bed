# kernels/ for a GPU (ON), on the emulator (EMULATED), or not at all (OFF). AUTO is ON where both a
# CUDA compiler from 12.8 on and a GPU are found, else OFF. The tests build the emulated kernels in
# any case, and SEQVAE_NVCC, where there is one, checks that they compile.
file(GLOB SEQVAE_KERNEL_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*/*.cu)
find_program(SEQVAE_NVCC nvcc PATHS ${CMAKE_CUDA_COMPILER} /usr/local/cuda/bin
             DOC "CUDA compiler; at least 12.8")
if(SEQVAE_NVCC)
  execute_process(COMMAND ${SEQVAE_NVCC} --version OUTPUT_VARIABLE version ERROR_QUIET)
  if(NOT version MATCHES "release ([0-9]+\\.[0-9]+)" OR CMAKE_MATCH_1 VERSION_LESS 12.8)
    message(STATUS "CUDA compiler ${SEQVAE_NVCC} is older than 12.8: not used")
    unset(SEQVAE_NVCC CACHE)
  endif()
endif()
# Contraction off, as for the host; warnings are errors. CMake 3.25 does not know C++20 for nvcc 13.
set(SEQVAE_NVCC_OPTIONS -std=c++20 -fmad=false --Werror all-warnings)
# What a kernel is compiled for, by its room: where there are clusters, each architecture apart;
# elsewhere one PTX becomes every machine code, which saves a third of the time. Of a PTX for each it
# would be the same, but for how one kernel's loads are paired (docs/decisions.md).
set(SEQVAE_CLUSTER_ROOMS chain dense recurrence)
set(SEQVAE_CLUSTER_CODE --generate-code=arch=compute_80,code=[sm_80]
                        --generate-code=arch=compute_90a,code=[sm_90a])
set(SEQVAE_CODE --generate-code=arch=compute_80,code=[sm_80,sm_90a,compute_80])

set(SEQVAE_CUDA_BUILD ${SEQVAE_CUDA})
if(SEQVAE_CUDA STREQUAL AUTO)
  set(SEQVAE_CUDA_BUILD OFF)
  find_program(SEQVAE_NVIDIA_SMI nvidia-smi)
  if(SEQVAE_NVCC AND SEQVAE_NVIDIA_SMI)
    execute_process(COMMAND ${SEQVAE_NVIDIA_SMI} -L OUTPUT_VARIABLE gpus ERROR_QUIET)
    if(gpus MATCHES "GPU 0")
      set(SEQVAE_CUDA_BUILD ON)
    endif()
  endif()
endif()

if(SEQVAE_CUDA_BUILD STREQUAL ON)
  if(NOT SEQVAE_NVCC)
    message(FATAL_ERROR "SEQVAE_CUDA=ON needs a CUDA compiler from 12.8 on")
  endif()
  set(CMAKE_CUDA_COMPILER ${SEQVAE_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # of kernels/ as above, of others as they say
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  add_library(seqvae_kernels OBJECT ${SEQVAE_KERNEL_SOURCES})
  target_include_directories(seqvae_kernels PRIVATE ${PROJECT_SOURCE_DIR}
                             ${PROJECT_SOURCE_DIR}/include)
  target_compile_options(seqvae_kernels PRIVATE ${SEQVAE_NVCC_OPTIONS} -lineinfo)
  foreach(source IN LISTS SEQVAE_KERNEL_SOURCES)
    string(REGEX REPLACE ".*/kernels/([^/]*)/.*" "\\1" room ${source})
    if(room IN_LIST SEQVAE_CLUSTER_ROOMS)
      set(code ${SEQVAE_CLUSTER_CODE} --generate-code=arch=compute_90,code=[compute_90])
    else()
      set(code ${SEQVAE_CODE})
    endif()
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${code}")
  endforeach()
  target_sources(seqvae PRIVATE $<TARGET_OBJECTS:seqvae_kernels>)
  # cuBLASLt, half a gigabyte of kernels, is loaded from the machine's own CUDA.
  target_link_libraries(seqvae PRIVATE $<LINK_ONLY:CUDA::cudart_static> $<LINK_ONLY:CUDA::cublasLt>)
endif()
if(SEQVAE_CUDA_BUILD STREQUAL EMULATED OR SEQVAE_TESTS)
  add_subdirectory(${PROJECT_SOURCE_DIR}/tests/emulation)
endif()
if(SEQVAE_CUDA_BUILD STREQUAL EMULATED)
  target_sources(seqvae PRIVATE $<TARGET_OBJECTS:seqvae_emulated_kernels>)
  target_link_libraries(seqvae PRIVATE $<BUILD_INTERFACE:seqvae_emulator>)
endif()
if(SEQVAE_CUDA_BUILD STREQUAL OFF)  # all else is compiled alike with CUDA and without
  target_sources(seqvae PRIVATE ${PROJECT_SOURCE_DIR}/host/kernels/without_cuda.cpp)
endif()
message(STATUS "CUDA kernels: ${SEQVAE_CUDA_BUILD}")
