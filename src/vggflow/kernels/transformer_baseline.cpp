#define VGGFLOW_TABLE baseline_table
#define VGGFLOW_ISA "baseline"
#include "vggflow/kernels/transformer_impl.h"
