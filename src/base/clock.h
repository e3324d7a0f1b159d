/* Monotonic time. */
#ifndef CENTO_BASE_CLOCK_H
#define CENTO_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* For pthread_cond_timedwait on a condition of this clock (monitor.h). */
static inline struct timespec clock_deadline(int64_t timeout_ms) {
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    int64_t seconds = timeout_ms / 1000;
    deadline.tv_sec += seconds > INT32_MAX ? INT32_MAX : (time_t)seconds;
    deadline.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (deadline.tv_nsec >= 1000000000) {
        deadline.tv_sec++;
        deadline.tv_nsec -= 1000000000;
    }
    return deadline;
}

static inline double clock_ms_since(uint64_t start_ns) {
    return (double)(clock_now_ns() - start_ns) * 1e-6;
}

#endif
