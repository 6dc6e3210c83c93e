# libvggflow_cuda.so, the plug-in with everything that includes CUDA: fused kernels, graphs, memory figures, NVTX. The program
# opens it at run time, so it is built beside it and linked into nothing; a machine without the toolkit builds all but it.
# VGGFLOW_CUDA: AUTO builds it where nvcc is found, ON insists, OFF leaves it out.
set(VGGFLOW_CUDA AUTO CACHE STRING "build the CUDA plug-in: AUTO (where nvcc is found), ON or OFF")
set_property(CACHE VGGFLOW_CUDA PROPERTY STRINGS AUTO ON OFF)

# Sets `reason` to why the plug-in cannot be built here, or to nothing.
function(vggflow_cuda_missing reason)
  set(${reason} "" PARENT_SCOPE)
  if(VGGFLOW_ASAN OR VGGFLOW_FUZZ)
    set(${reason} "sanitizers do not reach into CUDA" PARENT_SCOPE)
    return()
  endif()
  foreach(lib torch_cuda c10_cuda)
    if(NOT EXISTS "${_torch_lib}/lib${lib}.so")
      set(${reason} "LibTorch at ${_torch_root} has no lib${lib}.so (it is a CPU build)" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  find_program(VGGFLOW_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(NOT VGGFLOW_NVCC)
    set(${reason} "nvcc is not found (install the CUDA toolkit 13, or set CUDA_HOME)" PARENT_SCOPE)
    return()
  endif()
  set(ENV{CUDACXX} "${VGGFLOW_NVCC}")
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(${reason} "${VGGFLOW_NVCC} does not compile with ${CMAKE_CXX_COMPILER}" PARENT_SCOPE)
  endif()
endfunction()

function(vggflow_cuda_plugin)
  # The kernels know no torch; plain machine code for the data-centre and consumer cards of today, PTX for later ones.
  add_library(vggflow_cuda_kernels OBJECT "${PROJECT_SOURCE_DIR}/src/vggflow/kernels/device_kernels.cu")
  set_target_properties(vggflow_cuda_kernels PROPERTIES
    CUDA_COMPILER_LAUNCHER "${CMAKE_CXX_COMPILER_LAUNCHER}" POSITION_INDEPENDENT_CODE ON CUDA_ARCHITECTURES "80-real;90-real;100-real;120" CXX_VISIBILITY_PRESET hidden)
  target_compile_options(vggflow_cuda_kernels PRIVATE -O3 --expt-relaxed-constexpr --compress-mode=size)
  target_include_directories(vggflow_cuda_kernels PRIVATE "${PROJECT_SOURCE_DIR}/src")

  add_library(vggflow_cuda MODULE "${PROJECT_SOURCE_DIR}/src/vggflow/device/cuda_plugin.cpp"
    "${PROJECT_SOURCE_DIR}/src/vggflow/device/nccl_plugin.cpp"
    $<TARGET_OBJECTS:vggflow_cuda_kernels>)
  set_target_properties(vggflow_cuda PROPERTIES LINKER_LANGUAGE CXX CXX_VISIBILITY_PRESET hidden
    LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib" BUILD_RPATH "${_torch_lib};${CUDAToolkit_LIBRARY_DIR}")
  target_include_directories(vggflow_cuda PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_link_libraries(vggflow_cuda PRIVATE vggflow_warnings vggflow::torch
    "${_torch_lib}/libtorch_cuda.so" "${_torch_lib}/libc10_cuda.so" CUDA::cudart)
endfunction()

if(VGGFLOW_CUDA STREQUAL "OFF")
  message(STATUS "CUDA plug-in: left out (VGGFLOW_CUDA=OFF)")
else()
  vggflow_cuda_missing(_cuda_missing)
  if(NOT _cuda_missing)
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    # CMake 3.25 does not know that nvcc 12 and later take C++20.
    foreach(kind STANDARD EXTENSION)
      if(NOT CMAKE_CUDA20_${kind}_COMPILE_OPTION)
        set(CMAKE_CUDA20_${kind}_COMPILE_OPTION "-std=c++20")
      endif()
    endforeach()
    vggflow_cuda_plugin()
    message(STATUS "CUDA plug-in: built with ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}")
  elseif(VGGFLOW_CUDA STREQUAL "ON")
    message(FATAL_ERROR "VGGFLOW_CUDA=ON: ${_cuda_missing}.")
  else()
    message(STATUS "CUDA plug-in: left out, ${_cuda_missing}; the program runs on the CPU")
  endif()
endif()
