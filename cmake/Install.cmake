# cmake --install: the program, its models and configurations, and the library as a package: find_package(vggflow) gives vggflow::vggflow
# (docs/library.md). LibTorch and the Debian libraries are found again by the package, not copied.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# All layers but those of the tests, of the program, whose live page is its own, and of the shared library with the C interface.
get_property(layers GLOBAL PROPERTY VGGFLOW_LAYERS)
list(REMOVE_ITEM layers vggflow_testing vggflow_cli vggflow_page vggflow_c_api)
add_library(vggflow_library INTERFACE)
set_target_properties(vggflow_library PROPERTIES EXPORT_NAME vggflow)
target_link_libraries(vggflow_library INTERFACE ${layers})
target_compile_features(vggflow_library INTERFACE cxx_std_20)

install(TARGETS vggflow_library ${layers} EXPORT vggflowTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}/vggflow)
install(EXPORT vggflowTargets NAMESPACE vggflow:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/vggflow)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/src/vggflow" DESTINATION include
  FILES_MATCHING PATTERN "*.h" PATTERN "*_test.h" EXCLUDE PATTERN "comparison_fixture.h" EXCLUDE PATTERN "precompiled.h" EXCLUDE PATTERN "testing" EXCLUDE PATTERN "cli" EXCLUDE PATTERN "page" EXCLUDE PATTERN "c_api" EXCLUDE PATTERN "testdata" EXCLUDE)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/vggflow" DESTINATION include)
set(VGGFLOW_MODELS "${CMAKE_INSTALL_DATADIR}/vggflow/models")
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/vggflowConfig.cmake.in" "${PROJECT_BINARY_DIR}/vggflowConfig.cmake"
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/vggflow PATH_VARS VGGFLOW_MODELS)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/vggflowConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/vggflowConfig.cmake" "${PROJECT_BINARY_DIR}/vggflowConfigVersion.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/LibTorch.cmake" DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/vggflow)

set_target_properties(vggflow PROPERTIES INSTALL_RPATH "$ORIGIN/../lib;${VGGFLOW_TORCH_LIB}")
install(TARGETS vggflow RUNTIME)
set_target_properties(vggflow_c PROPERTIES INSTALL_RPATH "${VGGFLOW_TORCH_LIB}")
install(TARGETS vggflow_c LIBRARY)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/models" "${PROJECT_SOURCE_DIR}/configs" DESTINATION ${CMAKE_INSTALL_DATADIR}/vggflow)
# Completion and the man page, as this program prints them.
install(CODE "
  set(pages \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}\")
  foreach(place completion=bash:bash-completion/completions/vggflow completion=zsh:zsh/site-functions/_vggflow
      completion=fish:fish/vendor_completions.d/vggflow.fish man=true:man/man1/vggflow.1)
    string(REPLACE \":\" \";\" place \${place})
    list(GET place 0 what)
    list(GET place 1 file)
    get_filename_component(folder \"\${pages}/\${file}\" DIRECTORY)
    file(MAKE_DIRECTORY \"\${folder}\")
    execute_process(COMMAND \"$<TARGET_FILE:vggflow>\" docs \${what} OUTPUT_FILE \"\${pages}/\${file}\" COMMAND_ERROR_IS_FATAL ANY)
  endforeach()")
