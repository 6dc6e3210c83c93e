/* An example of a reward in plain C: sharpness as the log of the mean squared Laplacian of the
 * luma,
 *
 *   y = 0.299 R + 0.587 G + 0.114 B,   l = y(up) + y(down) + y(left) + y(right) - 4 y   over the
 * inner pixels, r = log(floor + mean l^2),         dr/dx[c] = weight[c] * L^T l * 2 / (n (floor +
 * mean l^2)),   L the Laplacian as a matrix.
 *
 * The option floor (default 1e-4) bounds the gradient of smooth images. Prompts are ignored.
 *
 *   cc -O2 -std=c99 -shared -fPIC -I include examples/reward_plugin/sharpness.c -o sharpness.so -lm
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vggflow/reward_plugin.h"

static const float kLuma[3] = {0.299f, 0.587f, 0.114f};

typedef struct Sharpness {
  double floor;
  char description[128];
} Sharpness;

static void* refuse(Sharpness* s, char* error, size_t error_size,
                    const vggflow_reward_option* option, const char* expected) {
  snprintf(error, error_size, "%s, got '%s=%s'", expected, option->key, option->value);
  free(s);
  return NULL;
}

uint32_t vggflow_reward_abi(void) { return VGGFLOW_REWARD_ABI; }

void* vggflow_reward_create(const vggflow_reward_option* options, size_t option_count, char* error,
                            size_t error_size) {
  Sharpness* s = malloc(sizeof(Sharpness));
  if (s == NULL) {
    snprintf(error, error_size, "out of memory");
    return NULL;
  }
  s->floor = 1e-4;
  for (size_t i = 0; i < option_count; ++i) {
    char* end;
    if (strcmp(options[i].key, "floor") != 0)
      return refuse(s, error, error_size, &options[i], "the only option is floor");
    errno = 0;
    s->floor = strtod(options[i].value, &end);
    if (errno != 0 || *end != '\0' || end == options[i].value ||
        !(s->floor > 0 && s->floor < 1e6)) {
      return refuse(s, error, error_size, &options[i], "expected floor above 0 and below 1e6");
    }
  }
  snprintf(s->description, sizeof s->description,
           "pixels in [0, 1] at their own size, at least 3x3; luma; floor %g", s->floor);
  return s;
}

void vggflow_reward_destroy(void* reward) { free(reward); }

uint32_t vggflow_reward_flags(const void* reward) {
  (void)reward;
  return VGGFLOW_REWARD_DIFFERENTIABLE | VGGFLOW_REWARD_THREAD_SAFE;
}

const char* vggflow_reward_describe(const void* reward) {
  return ((const Sharpness*)reward)->description;
}

static float luma(const float* image, int64_t plane, int64_t at) {
  return kLuma[0] * image[at] + kLuma[1] * image[plane + at] + kLuma[2] * image[2 * plane + at];
}

/* The Laplacian l at each inner pixel into `laplacian` (height, width), 0 at the border. Returns
 * floor + mean l^2. */
static double energy(const Sharpness* s, const vggflow_reward_batch* batch, const float* image,
                     float* laplacian) {
  const int64_t h = batch->height, w = batch->width, plane = h * w;
  double sum = 0;
  memset(laplacian, 0, (size_t)plane * sizeof(float));
  for (int64_t y = 1; y < h - 1; ++y) {
    for (int64_t x = 1; x < w - 1; ++x) {
      const int64_t at = y * w + x;
      const float l = luma(image, plane, at - w) + luma(image, plane, at + w) +
                      luma(image, plane, at - 1) + luma(image, plane, at + 1) -
                      4 * luma(image, plane, at);
      laplacian[at] = l;
      sum += (double)l * l;
    }
  }
  return s->floor + sum / (double)((h - 2) * (w - 2));
}

/* L^T l at one pixel: the Laplacian is symmetric, and l is 0 outside the inner pixels. */
static float transposed(const float* l, int64_t h, int64_t w, int64_t y, int64_t x) {
  const int64_t at = y * w + x;
  return (y > 0 ? l[at - w] : 0) + (y < h - 1 ? l[at + w] : 0) + (x > 0 ? l[at - 1] : 0) +
         (x < w - 1 ? l[at + 1] : 0) - 4 * l[at];
}

static void pull_back(const vggflow_reward_batch* batch, const float* laplacian, double value,
                      float* gradient) {
  const int64_t h = batch->height, w = batch->width, plane = h * w;
  const double scale = 2 / ((double)((h - 2) * (w - 2)) * value);
  for (int64_t y = 0; y < h; ++y) {
    for (int64_t x = 0; x < w; ++x) {
      const float pulled = (float)(scale * transposed(laplacian, h, w, y, x));
      for (int c = 0; c < 3; ++c) gradient[c * plane + y * w + x] = kLuma[c] * pulled;
    }
  }
}

/* Scores, and gradients where `gradient` is not NULL. */
static int run(const Sharpness* s, const vggflow_reward_batch* batch, float* scores,
               float* gradient, char* error, size_t error_size) {
  const int64_t plane = batch->height * batch->width;
  float* laplacian;
  if (batch->height < 3 || batch->width < 3) {
    snprintf(error, error_size, "expected images of at least 3x3 pixels, got %lldx%lld",
             (long long)batch->width, (long long)batch->height);
    return 1;
  }
  laplacian = malloc((size_t)plane * sizeof(float));
  if (laplacian == NULL) {
    snprintf(error, error_size, "out of memory");
    return 1;
  }
  for (int64_t i = 0; i < batch->count; ++i) {
    const double value = energy(s, batch, batch->images + i * 3 * plane, laplacian);
    scores[i] = (float)log(value);
    if (gradient != NULL) pull_back(batch, laplacian, value, gradient + i * 3 * plane);
  }
  free(laplacian);
  return 0;
}

int vggflow_reward_score(void* reward, const vggflow_reward_batch* batch, float* scores,
                         char* error, size_t error_size) {
  return run(reward, batch, scores, NULL, error, error_size);
}

int vggflow_reward_gradient(void* reward, const vggflow_reward_batch* batch, float* scores,
                            float* gradient, char* error, size_t error_size) {
  return run(reward, batch, scores, gradient, error, error_size);
}
