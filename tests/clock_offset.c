/* Moves the wall clock of a process by CLOCK_OFFSET_S seconds; durations stay real. Preloaded by
   tests/days.py. libfaketime 0.9.10 is not used: with Python 3.11 it breaks sleeps (EINVAL) or waits
   (they never end), whichever clock it is told to leave alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long offset_s(void) {
  static long known = -1;
  if (known == -1) {
    const char *given = getenv("CLOCK_OFFSET_S");
    known = given ? atol(given) : 0;
  }
  return known;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset_s();
  return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
  (void)zone;
  struct timespec read;
  int failed = clock_gettime(CLOCK_REALTIME, &read);
  now->tv_sec = read.tv_sec;
  now->tv_usec = read.tv_nsec / 1000;
  return failed;
}

time_t time(time_t *now) {
  struct timespec read;
  clock_gettime(CLOCK_REALTIME, &read);
  if (now) *now = read.tv_sec;
  return read.tv_sec;
}
