/* Open addressing over digests; see digest_map.h. */
#include "digest_map.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

static size_t home_slot(const digest_map *map, const uint8_t *digest) {
    uint64_t hash;
    memcpy(&hash, digest, sizeof hash);
    return (size_t)hash & (map->capacity - 1);
}

/* The slot that holds the digest, or the empty one where it would go. */
static size_t find_slot(const digest_map *map, const uint8_t *digest) {
    size_t slot = home_slot(map, digest);
    while (map->slots[slot].digest != NULL && memcmp(map->slots[slot].digest, digest, SHA256_BYTES) != 0)
        slot = (slot + 1) & (map->capacity - 1);
    return slot;
}

void *digest_map_get(const digest_map *map, const uint8_t *digest) {
    return map->count == 0 ? NULL : map->slots[find_slot(map, digest)].value;
}

static cento_status grow(digest_map *map, cento_error *error) {
    digest_map grown = {.capacity = map->capacity == 0 ? 64 : map->capacity * 2, .count = map->count};
    grown.slots = mem_zalloc(grown.capacity, sizeof *grown.slots);
    if (grown.slots == NULL)
        return error_memory(error, grown.capacity * sizeof *grown.slots);
    for (size_t slot = 0; slot < map->capacity; slot++) {
        if (map->slots[slot].digest != NULL)
            grown.slots[find_slot(&grown, map->slots[slot].digest)] = map->slots[slot];
    }
    mem_free(map->slots);
    *map = grown;
    return CENTO_OK;
}

cento_status digest_map_add(digest_map *map, const uint8_t *digest, void *value, cento_error *error) {
    if (map->count + 1 > map->capacity / 4 * 3)
        TRY(grow(map, error));
    size_t slot = find_slot(map, digest);
    assert(map->slots[slot].digest == NULL);
    map->slots[slot] = (digest_slot){digest, value};
    map->count++;
    return CENTO_OK;
}

void digest_map_remove(digest_map *map, const uint8_t *digest) {
    assert(digest_map_get(map, digest) != NULL);
    size_t mask = map->capacity - 1;
    size_t hole = find_slot(map, digest);
    map->slots[hole] = (digest_slot){NULL, NULL};
    map->count--;
    for (size_t slot = (hole + 1) & mask; map->slots[slot].digest != NULL; slot = (slot + 1) & mask) {
        /* an entry may move into the hole if the hole lies between its home and where it is now */
        size_t home = home_slot(map, map->slots[slot].digest);
        if (((slot - home) & mask) >= ((slot - hole) & mask)) {
            map->slots[hole] = map->slots[slot];
            map->slots[slot] = (digest_slot){NULL, NULL};
            hole = slot;
        }
    }
}

void digest_map_free(digest_map *map) {
    mem_free(map->slots);
    *map = (digest_map){0};
}
