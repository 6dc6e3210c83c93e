# LibTorch as own imported targets, without find_package(Torch): the config of a CUDA wheel demands a CUDA toolkit even for
# a CPU program. Accepts, in this order, VGGFLOW_TORCH_ROOT, a libtorch folder on CMAKE_PREFIX_PATH, and the wheel in .venv.
# Defines vggflow::torch (torch_cpu + c10 and the include folders). CUDA's back end is loaded at run time, never linked.

set(VGGFLOW_TORCH_ROOT "" CACHE PATH "LibTorch folder (holds include/ and lib/); empty: search")

file(GLOB _venv_torch "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch")
find_path(VGGFLOW_TORCH_INCLUDE ATen/core/Tensor.h
  HINTS "${VGGFLOW_TORCH_ROOT}" ${CMAKE_PREFIX_PATH} ${_venv_torch} PATH_SUFFIXES include NO_DEFAULT_PATH)
if(NOT VGGFLOW_TORCH_INCLUDE)
  message(FATAL_ERROR "LibTorch not found. Run scripts/setup.sh (it installs the pinned wheel into .venv), or pass "
                      "-DCMAKE_PREFIX_PATH=<libtorch folder> or -DVGGFLOW_TORCH_ROOT=<folder with include/ and lib/>.")
endif()
get_filename_component(_torch_root "${VGGFLOW_TORCH_INCLUDE}" DIRECTORY)
set(_torch_lib "${_torch_root}/lib")

foreach(lib torch_cpu c10)
  if(NOT EXISTS "${_torch_lib}/lib${lib}.so")
    message(FATAL_ERROR "LibTorch at ${_torch_root} has no lib/lib${lib}.so: the folder is incomplete, install it again.")
  endif()
  add_library(vggflow::${lib} SHARED IMPORTED GLOBAL)
  set_target_properties(vggflow::${lib} PROPERTIES IMPORTED_LOCATION "${_torch_lib}/lib${lib}.so")
endforeach()

# Imported, so that an installed package names it and its own configuration finds it again.
add_library(vggflow::torch INTERFACE IMPORTED GLOBAL)
target_include_directories(vggflow::torch INTERFACE
  "${VGGFLOW_TORCH_INCLUDE}" "${VGGFLOW_TORCH_INCLUDE}/torch/csrc/api/include")
# The wheel carries headers of another fmt, whose library it does not export: the system's must be found first.
find_path(_fmt_include fmt/format.h PATHS /usr/include /usr/local/include NO_CMAKE_PATH)
file(MAKE_DIRECTORY "${PROJECT_BINARY_DIR}/fmt_first")
file(CREATE_LINK "${_fmt_include}/fmt" "${PROJECT_BINARY_DIR}/fmt_first/fmt" SYMBOLIC)
target_include_directories(vggflow::torch BEFORE INTERFACE "${PROJECT_BINARY_DIR}/fmt_first")
target_link_libraries(vggflow::torch INTERFACE vggflow::torch_cpu vggflow::c10)
# The wheel's libraries find their own CUDA companions by RPATH; the linker need not look for them.
target_link_options(vggflow::torch INTERFACE "LINKER:--allow-shlib-undefined")
# at::parallel_for is a header template over OpenMP. One runtime only: the wheel's own libgomp where it has one, because a
# second one would start a second pool of threads on the same cores. (clang would want its own libomp: without the option
# the same headers run their loops on one thread, so clang's builds are for checking and fuzzing, not for work.)
file(GLOB _torch_gomp "${_torch_lib}/libgomp*.so*")
if(_torch_gomp)
  list(GET _torch_gomp 0 _torch_gomp)
  target_compile_options(vggflow::torch INTERFACE $<$<CXX_COMPILER_ID:GNU>:-fopenmp>)
  target_link_libraries(vggflow::torch INTERFACE "${_torch_gomp}")
else()
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  target_link_libraries(vggflow::torch INTERFACE OpenMP::OpenMP_CXX)
endif()
set(CMAKE_BUILD_RPATH "${_torch_lib}")
set(VGGFLOW_TORCH_LIB "${_torch_lib}")
message(STATUS "LibTorch: ${_torch_root}")
