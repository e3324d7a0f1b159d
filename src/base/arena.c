/* A bump allocator; see arena.h. */
#include "arena.h"

#include <string.h>

#include "mem.h"

/* Under AddressSanitizer what was not handed out is poisoned, with a gap after each object, so that
 * overruns inside a block are found as they would be with malloc. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(ARENA_POISON)
#include <sanitizer/asan_interface.h>
#define ARENA_GAP_BYTES ((size_t)16)
#else
#define ASAN_POISON_MEMORY_REGION(data, bytes)   ((void)(data), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#define ARENA_GAP_BYTES                          ((size_t)0)
#endif

#define BLOCK_BYTES_MIN ((size_t)4096)
#define BLOCK_BYTES_MAX ((size_t)1 << 20)
#define ALIGNMENT       ((size_t)16)

struct arena_block {
    arena_block *next;
    size_t used;     /* of data */
    size_t capacity; /* of data */
    size_t padding;
    _Alignas(16) char data[];
};

void arena_init(arena *memory, size_t bytes_max) {
    *memory = (arena){.bytes_max = bytes_max};
}

void arena_free(arena *memory) {
    arena_block *block = memory->blocks;
    while (block != NULL) {
        arena_block *next = block->next;
        mem_free(block);
        block = next;
    }
    *memory = (arena){.bytes_max = memory->bytes_max};
}

/* Blocks double, so that their number stays small; a large object gets a block of its own size. */
static arena_block *add_block(arena *memory, size_t bytes) {
    size_t capacity = memory->blocks == NULL ? BLOCK_BYTES_MIN : memory->blocks->capacity * 2;
    if (capacity > BLOCK_BYTES_MAX)
        capacity = BLOCK_BYTES_MAX;
    if (capacity > memory->bytes_max - memory->bytes)
        capacity = memory->bytes_max - memory->bytes;
    if (capacity < bytes)
        capacity = bytes;
    arena_block *block = mem_alloc(1, sizeof *block + capacity);
    if (block == NULL)
        return NULL;
    *block = (arena_block){.next = memory->blocks, .capacity = capacity};
    ASAN_POISON_MEMORY_REGION(block->data, capacity);
    memory->blocks = block;
    memory->bytes += capacity;
    return block;
}

void *arena_alloc(arena *memory, size_t count, size_t size) {
    size_t requested;
    if (__builtin_mul_overflow(count, size, &requested) || requested > SIZE_MAX / 2)
        return NULL;
    size_t bytes = (requested + ARENA_GAP_BYTES + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    arena_block *block = memory->blocks;
    if (block == NULL || bytes > block->capacity - block->used) {
        if (bytes > memory->bytes_max - memory->bytes) {
            memory->limit_reached = true;
            return NULL;
        }
        block = add_block(memory, bytes);
        if (block == NULL)
            return NULL;
    }
    void *allocated = block->data + block->used;
    block->used += bytes;
    ASAN_UNPOISON_MEMORY_REGION(allocated, requested);
    if (requested > 0)
        memset(allocated, 0, requested);
    return allocated;
}

char *arena_copy(arena *memory, const char *data, size_t bytes) {
    if (bytes == SIZE_MAX)
        return NULL;
    char *copy = arena_alloc(memory, bytes + 1, 1);
    if (copy != NULL && bytes > 0)
        memcpy(copy, data, bytes);
    return copy;
}
