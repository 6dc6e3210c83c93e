#pragma once
// Attention on pairs (value, tangent):  S = q k^T + bias,  P = softmax(S),  O = P v,  and along
// (dq, dk, dv):
//   U = dq k^T + q dk^T,  W = P (U - rowsum(P U)),  dO = W v + P dv.
// S, P, U and W have one number per query and key. Short sequences keep them whole. Long ones are
// done in tiles of query rows: a tile holds all keys, so its softmax is exact, and nothing of size
// N x M is ever kept. The backward pass computes each tile again.

#include "vggflow/ops/dual.h"

namespace vggflow::ops {

/// How many numbers a head's N x M matrix may have before attend() works in tiles.
constexpr int64_t kWholeScores = 512 * 512;

/// How many bytes one tile's matrix of scores may have: the second-level cache of a CPU, enough
/// work for a kernel elsewhere.
constexpr int64_t kCpuTileBytes = int64_t{4} << 20, kDeviceTileBytes = int64_t{64} << 20;

/// (O, dO), each (B, N, H d), for q (B, H, N, d), already scaled, and k, v (B, H, M, d). bias is
/// added to S, of any shape that broadcasts to (B, H, N, M), or is undefined.
Dual attend(const Dual& q, const Dual& k, const Dual& v, const Tensor& bias);

/// The same with S, P, U and W as whole matrices, in plain ops: the specification of the other.
Dual attend_whole(const Dual& q, const Dual& k, const Dual& v, const Tensor& bias);

/// The same in tiles of at most `tile_bytes` (but one row) per matrix. Products of narrow types are
/// summed in fp32. Gradients run to q, k, v and their tangents, not to bias; second derivatives are
/// refused.
Dual attend_in_tiles(const Dual& q, const Dual& k, const Dual& v, const Tensor& bias,
                     int64_t tile_bytes);

}  // namespace vggflow::ops
