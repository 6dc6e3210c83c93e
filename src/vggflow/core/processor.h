#pragma once
// The instructions of this machine's processor that kernels are chosen by.

namespace vggflow {

/// All false on processors other than x86.
struct Processor {
  bool avx2, avx512,
      avx512_bf16;  ///< AVX2 with FMA; AVX-512 F, BW, VL and DQ; dot products of bf16
};
Processor processor();

}  // namespace vggflow
