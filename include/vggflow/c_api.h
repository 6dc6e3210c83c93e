#ifndef VGGFLOW_C_API_H
#define VGGFLOW_C_API_H
/* The C interface of vggflow's library, libvggflow_c.so: open a flow model and sample images, score
 * images by a reward, align a model with a callback per update. The Python package is made of it,
 * and other languages can be (docs/python.md).
 *
 * - A function that can fail returns VGGFLOW_FAILED, or NULL in place of a handle; then
 *   vggflow_last_error() says what was expected, what was there, and what to do. No C++ exception
 *   leaves a function.
 * - Strings are UTF-8 and end in NUL. What is passed in is copied where it is kept. What is handed
 *   out lives until the next call of its function on the same thread, and in a callback until that
 *   returns.
 * - Settings are texts key=value, with the keys and values of the program's own
 *   (docs/reference/): "guidance=3", "time_grid.steps=20", "eval.panel=[emoji-clip]". Values are
 *   YAML.
 * - Calls may come from several threads; one after the other is served. A callback may call the
 *   library. A handle that was closed is refused.
 * - What was opened computes on the device that it was opened on. The number of threads is the
 *   process's: the last one that a call named. */

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define VGGFLOW_EXPORT __attribute__((visibility("default")))
#else
#define VGGFLOW_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Changes whenever a declaration below does. */
#define VGGFLOW_C_ABI 1u

/* VGGFLOW_C_ABI of the library that was loaded: compare it before anything else is called. */
VGGFLOW_EXPORT uint32_t vggflow_abi(void);

/* The release and the commit, "0.1.0 (commit 9001bc5)". */
VGGFLOW_EXPORT const char* vggflow_version(void);

/* Why the last call on this thread that failed did; "" where none has. */
VGGFLOW_EXPORT const char* vggflow_last_error(void);

/* Whether log lines and progress are written to standard error. They are not until it is asked for;
 * the log.txt of a run's folder holds them in any case. */
VGGFLOW_EXPORT void vggflow_show_log(int shown);

enum { VGGFLOW_DONE = 0, VGGFLOW_FAILED = -1 };

/* ---- images ---- */

/* How the numbers of images lie. Planes and pixels are R G B. */
enum {
  VGGFLOW_FLOAT_NCHW = 0, /* float (count, 3, height, width), 0 to 1 */
  VGGFLOW_UINT8_NHWC = 1  /* uint8_t (count, height, width, 3), 0 to 255 */
};

/* Images of the caller's, contiguous. */
typedef struct vggflow_images {
  int64_t count, height, width;
  int32_t layout;
  void* data;
} vggflow_images;

/* ---- a flow model ---- */

typedef struct vggflow_model vggflow_model;

/* Opens a model. Settings: the keys of `vggflow sample` in the section generator without that word
 * (model=models/nano, lora=FILE, guidance=3, time_grid.steps=20, precision=fp32), and device=...
 * and threads=N. A path such as models/nano is found in the working folder, else beside the
 * library. */
VGGFLOW_EXPORT vggflow_model* vggflow_model_open(const char* const* settings, size_t count);

/* Closes it; of NULL or a closed one, nothing. */
VGGFLOW_EXPORT void vggflow_model_close(vggflow_model* model);

/* Sides in pixels of its images. */
VGGFLOW_EXPORT int vggflow_model_image_size(vggflow_model* model, int64_t* height, int64_t* width);

/* Draws image i of prompts[i] from the noise of seeds[i] >= 0: the image that `vggflow sample
 * seed=...` writes, with the LoRA where one was opened. `images` holds as many as are wanted, of
 * the model's size. */
VGGFLOW_EXPORT int vggflow_model_sample(vggflow_model* model, const char* const* prompts,
                                        const int64_t* seeds, const vggflow_images* images);

/* ---- a reward ---- */

typedef struct vggflow_scorer vggflow_scorer;

/* Opens a reward or a weighted sum, "emoji-clip + 0.05*colorfulness" (docs/rewards.md). Settings:
 * reward_model=..., reward_weights=[name=path], reward_dtype=..., device=... and threads=N. */
VGGFLOW_EXPORT vggflow_scorer* vggflow_scorer_open(const char* reward, const char* const* settings,
                                                   size_t count);

VGGFLOW_EXPORT void vggflow_scorer_close(vggflow_scorer* scorer);

/* Writes a score per image to scores (images->count), greater is better; NaN where a judge
 * declines. Floats outside [0, 1] are refused. Memory grows with the number of images: large
 * batches are the caller's to cut. */
VGGFLOW_EXPORT int vggflow_scorer_score(vggflow_scorer* scorer, const vggflow_images* images,
                                        const char* const* prompts, double* scores);

/* ---- an alignment run ---- */

/* What an update found. A figure that a method does not have is NaN. */
typedef struct vggflow_update {
  int64_t update, updates;       /* this one, from 1, of so many */
  double reward_mean, reward_sd; /* of the batch's images */
  double grad_norm, lr;          /* of the policy, before clipping */
  double seconds;                /* of this update, all phases */
  double images_per_second;
  const char* line;       /* JSON: its line of metrics.jsonl (docs/architecture.md) */
  const char* evaluation; /* JSON: the line of the last evaluation; "" before the first */
} vggflow_update;

/* Called after every update, on the thread of vggflow_align. Non-zero: end after this update, with
 * all saved. */
typedef int (*vggflow_on_update)(const vggflow_update* update, void* user);

/* How a run ended, besides VGGFLOW_FAILED. */
enum {
  VGGFLOW_FINISHED = 0,
  VGGFLOW_STOPPED = 1,         /* by the callback; resume=true goes on */
  VGGFLOW_FINISHED_BEFORE = 2, /* resume=true of a finished run: nothing was touched */
  VGGFLOW_INTERRUPTED = 3      /* by Ctrl-C, which vggflow_take_interrupts asked for */
};

/* Whether Ctrl-C (SIGINT) belongs to the run while vggflow_align works, as in the program: the
 * first one ends it after the update under way, with all saved; the second drops that update; the
 * third ends the process. Not until it is asked for. The handler of before is put back afterwards.
 */
VGGFLOW_EXPORT void vggflow_take_interrupts(int taken);

/* Runs `vggflow align` with these words: key=value, --config FILE, --trust WORDS. `on_update` may
 * be NULL. The run's folder holds what it always does; a run that finishes gets its report.html.
 * One process: ranks and the live page are the program's. */
VGGFLOW_EXPORT int vggflow_align(const char* const* words, size_t count,
                                 vggflow_on_update on_update, void* user);

#ifdef __cplusplus
}
#endif

#endif /* VGGFLOW_C_API_H */
