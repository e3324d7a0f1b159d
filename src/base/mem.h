/*
 * Allocation. All of the library's own memory comes from here, so that sizes are checked for
 * overflow in one place and tests can make the Nth allocation fail.
 */
#ifndef CENTO_BASE_MEM_H
#define CENTO_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

/* NULL on failure or when count × size overflows. Zero bytes give a valid, freeable pointer. */
void *mem_alloc(size_t count, size_t size);
void *mem_zalloc(size_t count, size_t size);
void *mem_realloc(void *memory, size_t count, size_t size); /* the old block stays valid on failure */
void mem_free(void *memory);

/* 64-byte aligned, contents undefined; released with mem_free. */
void *mem_alloc_aligned(size_t bytes);

/* A NUL-terminated copy. */
char *mem_strndup(const char *text, size_t bytes);
char *mem_strdup(const char *text);

/* Tests: fail the allocation after `countdown` more (of all threads) succeed, then all of them. Negative:
 * never. Costs one compare per allocation. */
void mem_fail_after(int64_t countdown);
/* The same for that one allocation alone. */
void mem_fail_once_after(int64_t countdown);
/* Is an allocation still to fail? */
int mem_fail_is_pending(void);

/* Grows *items (element size `size`) so that *capacity >= needed; at least doubles. false on failure. */
int mem_grow(void **items, size_t *capacity, size_t needed, size_t size);

#endif
