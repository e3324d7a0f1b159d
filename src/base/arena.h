/*
 * arena: a bump allocator. Memory is handed out from growing blocks and released all at once, so that
 * code with many small, tangled objects and many error paths has one owner to free. Bounded: an arena
 * never hands out more than bytes_max. One thread at a time.
 */
#ifndef CENTO_BASE_ARENA_H
#define CENTO_BASE_ARENA_H

#include "status.h"

typedef struct arena_block arena_block;

typedef struct arena {
    arena_block *blocks; /* newest first, owned */
    size_t bytes;        /* in all blocks */
    size_t bytes_max;
    bool limit_reached; /* an allocation failed because of bytes_max */
} arena;

void arena_init(arena *memory, size_t bytes_max);
void arena_free(arena *memory);

/* Zeroed, 16-byte aligned; NULL when out of memory or when bytes_max would be passed. */
void *arena_alloc(arena *memory, size_t count, size_t size);

/* A NUL-terminated copy. */
char *arena_copy(arena *memory, const char *data, size_t bytes);

#endif
