# The commit in a header of the build folder, asked anew at each build and written only where it changed, so that one small file is compiled again.
# As a script (cmake -P) it writes OUT; included, it defines the target vggflow_commit.
if(CMAKE_SCRIPT_MODE_FILE)
  execute_process(COMMAND git -C "${SOURCE}" describe --always --dirty --exclude=*
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(failed)
    set(commit unknown)
  endif()
  file(CONFIGURE OUTPUT "${OUT}" CONTENT "#define VGGFLOW_COMMIT \"${commit}\"\n")
else()
  add_custom_target(vggflow_commit
    COMMAND ${CMAKE_COMMAND} "-DSOURCE=${PROJECT_SOURCE_DIR}" "-DOUT=${PROJECT_BINARY_DIR}/generated/vggflow_commit.h"
            -P "${CMAKE_CURRENT_LIST_FILE}"
    BYPRODUCTS "${PROJECT_BINARY_DIR}/generated/vggflow_commit.h")
endif()
