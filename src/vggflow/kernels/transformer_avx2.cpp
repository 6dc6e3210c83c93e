#define VGGFLOW_TABLE avx2_table
#define VGGFLOW_ISA "avx2"
#include "vggflow/kernels/transformer_impl.h"
