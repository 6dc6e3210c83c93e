#ifndef VGGFLOW_REWARD_PLUGIN_H
#define VGGFLOW_REWARD_PLUGIN_H
/* The C interface of a reward in a shared library of its own, used as
 * reward=plugin:/path/lib.so?key=value (docs/custom-rewards.md).
 *
 * The library defines the functions below. vggflow reads vggflow_reward_abi_number from the file
 * and refuses another version before any of the library's code runs. Then it makes one object per
 * reward, asks for scores and gradients batch by batch, and destroys it at the end. The library
 * itself is never unloaded.
 *
 * - Strings are UTF-8 and end in NUL. What vggflow passes lives until the call returns: copy what
 * is kept.
 * - A function that can fail gets `error`, a buffer of error_size bytes, and returns non-zero
 * (create: NULL) after writing a message there.
 * - No C++ exception may leave a function.
 * - Scores and gradients must be finite, and depend on the arguments and the options alone: a run
 * is resumed bit for bit.
 * - One object is called by one thread at a time unless its flags say VGGFLOW_REWARD_THREAD_SAFE;
 * two objects may be called at once. */

#include <stddef.h>
#include <stdint.h>

#define VGGFLOW_REWARD_ABI 1u

#if defined(__GNUC__)
#define VGGFLOW_REWARD_EXPORT __attribute__((visibility("default")))
#else
#define VGGFLOW_REWARD_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The version, as data of the library: this header puts it there. A language without this header
 * exports a constant of the same name. */
#if defined(__GNUC__) && !defined(VGGFLOW_REWARD_NO_NUMBER)
extern VGGFLOW_REWARD_EXPORT __attribute__((weak)) const uint32_t vggflow_reward_abi_number;
const uint32_t vggflow_reward_abi_number = VGGFLOW_REWARD_ABI;
#else
extern VGGFLOW_REWARD_EXPORT const uint32_t vggflow_reward_abi_number;
#endif

/* One key=value of the reward's name, in the order written. */
typedef struct vggflow_reward_option {
  const char* key;
  const char* value;
} vggflow_reward_option;

/* A batch of images with a prompt each. */
typedef struct vggflow_reward_batch {
  int64_t count, height, width;
  const float* images; /* (count, 3, height, width), contiguous, planes R G B. In [0, 1], but for
                          two cases that may leave it a little: clamp=none, and the steps of Hessian
                          products (3e-4 along a direction of root mean square 1). Always finite. */
  const char* const* prompts; /* (count) */
} vggflow_reward_batch;

/* Capabilities, or-ed. */
enum {
  VGGFLOW_REWARD_DIFFERENTIABLE =
      1, /* vggflow_reward_gradient is there; without it the reward can judge, but not train */
  VGGFLOW_REWARD_THREAD_SAFE = 2 /* one object may be called from several threads at once */
};

/* ---- required
 * ------------------------------------------------------------------------------------------------------------------------
 */

/* Returns VGGFLOW_REWARD_ABI. */
VGGFLOW_REWARD_EXPORT uint32_t vggflow_reward_abi(void);

/* A reward with these options; NULL with a message for options it does not take. */
VGGFLOW_REWARD_EXPORT void* vggflow_reward_create(const vggflow_reward_option* options,
                                                  size_t option_count, char* error,
                                                  size_t error_size);
VGGFLOW_REWARD_EXPORT void vggflow_reward_destroy(void* reward);

VGGFLOW_REWARD_EXPORT uint32_t vggflow_reward_flags(const void* reward);

/* Writes scores (count), greater is better. Returns 0, or non-zero with a message. */
VGGFLOW_REWARD_EXPORT int vggflow_reward_score(void* reward, const vggflow_reward_batch* batch,
                                               float* scores, char* error, size_t error_size);

/* ---- required of a differentiable reward
 * --------------------------------------------------------------------------------------------- */

/* Writes scores (count) and gradient (count, 3, height, width): d scores[i] / d images[i]. */
VGGFLOW_REWARD_EXPORT int vggflow_reward_gradient(void* reward, const vggflow_reward_batch* batch,
                                                  float* scores, float* gradient, char* error,
                                                  size_t error_size);

/* ---- optional
 * ------------------------------------------------------------------------------------------------------------------------
 */

/* One line on input size and normalisation, for `vggflow check --reward`; lives as long as the
 * reward. */
VGGFLOW_REWARD_EXPORT const char* vggflow_reward_describe(const void* reward);

#ifdef __cplusplus
}
#endif

#endif /* VGGFLOW_REWARD_PLUGIN_H */
