/* The header is one that C compilers take, and its names have C linkage. */
#include "vggflow/c_api.h"

uint32_t abi_as_c_sees_it(void) { return vggflow_abi(); }
