/* A reward for tests/dist_faults.sh: the mean level of an image, but on the rank of the variable
 * RANK=1 as the option `there` says: `nan`, no score; a number, so many times its gradient.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vggflow/reward_plugin.h"

static float factor = 1;

uint32_t vggflow_reward_abi(void) { return VGGFLOW_REWARD_ABI; }

void* vggflow_reward_create(const vggflow_reward_option* options, size_t option_count, char* error,
                            size_t error_size) {
  const char* rank = getenv("RANK");
  (void)error;
  (void)error_size;
  if (rank != NULL && strcmp(rank, "1") == 0 && option_count == 1)
    factor = (float)strtod(options[0].value, NULL);
  return &factor;
}

void vggflow_reward_destroy(void* reward) { (void)reward; }

uint32_t vggflow_reward_flags(const void* reward) {
  (void)reward;
  return VGGFLOW_REWARD_DIFFERENTIABLE | VGGFLOW_REWARD_THREAD_SAFE;
}

int vggflow_reward_gradient(void* reward, const vggflow_reward_batch* batch, float* scores,
                            float* gradient, char* error, size_t error_size) {
  const int64_t numbers = 3 * batch->height * batch->width;
  (void)reward;
  (void)error;
  (void)error_size;
  for (int64_t i = 0; i < batch->count; ++i) {
    double sum = 0;
    for (int64_t k = 0; k < numbers; ++k) {
      sum += batch->images[i * numbers + k];
      if (gradient != NULL) gradient[i * numbers + k] = factor / (float)numbers;
    }
    scores[i] = isnan(factor) ? factor : (float)(sum / (double)numbers);
  }
  return 0;
}

int vggflow_reward_score(void* reward, const vggflow_reward_batch* batch, float* scores,
                         char* error, size_t error_size) {
  return vggflow_reward_gradient(reward, batch, scores, NULL, error, error_size);
}
