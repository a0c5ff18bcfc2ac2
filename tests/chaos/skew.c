// What libfaketime leaves out: waiting with a deadline by C11's threads, as librdkafka does. The deadline was read
// from the wrong clock and the kernel waits by the right one, so the difference is taken off again.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <threads.h>
#include <time.h>

typedef int wait_until(cnd_t *, mtx_t *, const struct timespec *);

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict deadline) {
  wait_until *wait = (wait_until *)dlsym(RTLD_NEXT, "cnd_timedwait");
  const char *skew = getenv("CHAOS_SKEW_S");
  struct timespec right = *deadline;
  if (skew) right.tv_sec -= atol(skew);
  return wait(condition, mutex, &right);
}
