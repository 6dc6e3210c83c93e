#define VGGFLOW_TABLE avx512_table
#define VGGFLOW_ISA "avx512"
#include "vggflow/kernels/transformer_impl.h"
