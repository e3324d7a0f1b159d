/* Checked allocation with fault injection. Callable from any thread. */
#include "mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static _Atomic int64_t fail_countdown = -1; /* allocations that still succeed; negative: all */
static atomic_bool fail_once;

static int injected_failure(void) {
    int64_t countdown = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    while (countdown >= 0) {
        if (countdown == 0 && !atomic_load(&fail_once))
            return 1;
        if (atomic_compare_exchange_weak(&fail_countdown, &countdown, countdown - 1))
            return countdown == 0;
    }
    return 0;
}

void mem_fail_after(int64_t countdown) {
    atomic_store(&fail_once, false);
    atomic_store(&fail_countdown, countdown < 0 ? -1 : countdown);
}

void mem_fail_once_after(int64_t countdown) {
    atomic_store(&fail_once, true);
    atomic_store(&fail_countdown, countdown < 0 ? -1 : countdown);
}

int mem_fail_is_pending(void) {
    return atomic_load(&fail_countdown) >= 0;
}

static int product(size_t count, size_t size, size_t *bytes) {
    if (__builtin_mul_overflow(count, size, bytes))
        return 0;
    if (*bytes == 0)
        *bytes = 1;
    return 1;
}

void *mem_alloc(size_t count, size_t size) {
    size_t bytes;
    if (!product(count, size, &bytes) || injected_failure())
        return NULL;
    return malloc(bytes);
}

void *mem_zalloc(size_t count, size_t size) {
    size_t bytes;
    if (!product(count, size, &bytes) || injected_failure())
        return NULL;
    return calloc(1, bytes);
}

void *mem_realloc(void *memory, size_t count, size_t size) {
    size_t bytes;
    if (!product(count, size, &bytes) || injected_failure())
        return NULL;
    return realloc(memory, bytes);
}

void mem_free(void *memory) {
    free(memory);
}

void *mem_alloc_aligned(size_t bytes) {
    if (bytes > SIZE_MAX - 64 || injected_failure())
        return NULL;
    return aligned_alloc(64, (bytes + 63) / 64 * 64 + (bytes == 0 ? 64 : 0));
}

char *mem_strndup(const char *text, size_t bytes) {
    if (bytes == SIZE_MAX)
        return NULL;
    char *copy = mem_alloc(bytes + 1, 1);
    if (copy == NULL)
        return NULL;
    if (bytes > 0)
        memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    return copy;
}

char *mem_strdup(const char *text) {
    return mem_strndup(text, strlen(text));
}

int mem_grow(void **items, size_t *capacity, size_t needed, size_t size) {
    if (needed <= *capacity)
        return 1;
    size_t grown = *capacity > SIZE_MAX / 2 ? needed : *capacity * 2;
    if (grown < needed)
        grown = needed;
    if (grown < 16)
        grown = 16;
    void *moved = mem_realloc(*items, grown, size);
    if (moved == NULL)
        return 0;
    *items = moved;
    *capacity = grown;
    return 1;
}
