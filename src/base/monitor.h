/* monitor: a lock and a condition that is waited for under it, with deadlines of the monotonic clock. */
#ifndef CENTO_BASE_MONITOR_H
#define CENTO_BASE_MONITOR_H

#include <pthread.h>
#include <stdbool.h>

#include "clock.h"

/* False: there is no memory, and neither was made. Each is destroyed by its pthread function. */
static inline bool monitor_init(pthread_mutex_t *lock, pthread_cond_t *changed) {
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0)
        return false;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    bool made = pthread_mutex_init(lock, NULL) == 0;
    if (made && pthread_cond_init(changed, &attributes) != 0) {
        pthread_mutex_destroy(lock);
        made = false;
    }
    pthread_condattr_destroy(&attributes);
    return made;
}

#endif
