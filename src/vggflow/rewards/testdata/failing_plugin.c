/* A reward plug-in that misbehaves as its option fail=... or a macro says: what vggflow must
 * refuse. Otherwise r = the first pixel. */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(OTHER_ABI) || defined(NO_NUMBER)
#define VGGFLOW_REWARD_NO_NUMBER
#endif
#include "vggflow/reward_plugin.h"

#ifdef OTHER_ABI
const uint32_t vggflow_reward_abi_number = 99;
#endif

/* Code that runs as soon as the library is loaded: a library of another interface never is. */
#if defined(OTHER_ABI) || defined(NO_NUMBER)
__attribute__((constructor)) static void runs_at_once(void) { abort(); }
#endif

typedef struct Failing {
  char fail[32];
  volatile int inside;
} Failing;

void throw_text(void);
void throw_number(void);

static int fails(const Failing* f, const char* how) { return strcmp(f->fail, how) == 0; }

uint32_t vggflow_reward_abi(void) { return VGGFLOW_REWARD_ABI; }

void* vggflow_reward_create(const vggflow_reward_option* options, size_t option_count, char* error,
                            size_t error_size) {
  Failing* f = calloc(1, sizeof(Failing));
  for (size_t i = 0; i < option_count; ++i)
    snprintf(f->fail, sizeof f->fail, "%s", options[i].value);
  if (fails(f, "create")) {
    snprintf(error, error_size, "no licence for %s", options[0].key);
    free(f);
    return NULL;
  }
  return f;
}

void vggflow_reward_destroy(void* reward) { free(reward); }

uint32_t vggflow_reward_flags(const void* reward) {
  if (fails(reward, "flags")) return 12;
  return fails(reward, "judge") ? 0 : VGGFLOW_REWARD_DIFFERENTIABLE;
}

#ifndef NO_SCORE
int vggflow_reward_score(void* reward, const vggflow_reward_batch* batch, float* scores,
                         char* error, size_t error_size) {
  Failing* f = reward;
  if (fails(f, "score")) {
    snprintf(error, error_size, "out of luck with '%s'", batch->prompts[0]);
    return 7;
  }
  if (fails(f, "flood")) {
    memset(error, 'x', error_size);
    return 1;
  }
  if (fails(f, "flood_more")) {
    memset(error, 'x', error_size + 8);
    return 1;
  }
  if (fails(f, "silent")) return 1;
  if (fails(f, "throw")) throw_text();
  if (fails(f, "throw_number")) throw_number();
  if (fails(f, "exit")) exit(0);
  if (fails(f, "quick_exit")) quick_exit(0);
  if (fails(f, "_exit")) _exit(0);
  if (fails(f, "_Exit")) _Exit(0);
  if (fails(f, "child")) {
    const pid_t child = fork();
    if (child == 0) _exit(3);
    int status = 0;
    waitpid(child, &status, 0);
    scores[0] = (float)WEXITSTATUS(status);
    for (int64_t i = 1; i < batch->count; ++i) scores[i] = 0;
    return 0;
  }
  if (fails(f, "abort")) abort();
  if (fails(f, "one_more")) scores[batch->count] = 0;
  if (fails(f, "far")) scores[batch->count + 16] = 0;
  if (fails(f, "one_before")) scores[-1] = 0;
  if (fails(f, "overlap")) {
    const int before = f->inside++;
    usleep(20000);
    f->inside--;
    if (before != 0) {
      snprintf(error, error_size, "two threads at once");
      return 1;
    }
  }
  for (int64_t i = 0; i < batch->count - fails(f, "short"); ++i) {
    const float* image = batch->images + i * 3 * batch->height * batch->width;
    scores[i] = fails(f, "infinite") && i == 1 ? INFINITY : image[0];
  }
  return 0;
}
#endif

#ifndef NO_GRADIENT
int vggflow_reward_gradient(void* reward, const vggflow_reward_batch* batch, float* scores,
                            float* gradient, char* error, size_t error_size) {
  const int64_t size = 3 * batch->height * batch->width;
  if (fails(reward, "gradient")) {
    snprintf(error, error_size, "lost the gradient");
    return 1;
  }
  for (int64_t i = 0; i < batch->count; ++i) scores[i] = batch->images[i * size];
  memset(gradient, 0, (size_t)(batch->count * size) * sizeof(float));
  for (int64_t i = 0; i < batch->count; ++i) gradient[i * size] = fails(reward, "nan") ? NAN : 1;
  return 0;
}
#endif
