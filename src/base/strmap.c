/* Byte string → integer hash table; see strmap.h. */
#include "strmap.h"

#include <string.h>

#include "mem.h"

uint64_t hash_bytes(const void *data, size_t bytes) {
    /* FNV-1a over 8-byte words, then a finalizer: keys are short, so this is as fast as any. */
    const uint8_t *byte = data;
    uint64_t hash = 0xcbf29ce484222325u ^ bytes;
    while (bytes >= 8) {
        uint64_t word;
        memcpy(&word, byte, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
        byte += 8;
        bytes -= 8;
    }
    for (; bytes > 0; bytes--)
        hash = (hash ^ *byte++) * 0x100000001b3u;
    hash ^= hash >> 33;
    hash *= 0xff51afd7ed558ccdu;
    return hash ^ hash >> 33;
}

static strmap_slot *find_slot(strmap_slot *slots, size_t capacity, const char *key, size_t bytes) {
    size_t index = (size_t)hash_bytes(key, bytes) & (capacity - 1);
    while (slots[index].key != NULL &&
           (slots[index].bytes != bytes || memcmp(slots[index].key, key, bytes) != 0))
        index = (index + 1) & (capacity - 1);
    return &slots[index];
}

cento_status strmap_reserve(strmap *map, size_t count, cento_error *error) {
    size_t capacity = 16;
    while (capacity / 2 < count) {
        if (capacity > SIZE_MAX / 4)
            return error_memory(error, count);
        capacity *= 2;
    }
    if (capacity <= map->capacity)
        return CENTO_OK;
    strmap_slot *slots = mem_zalloc(capacity, sizeof *slots);
    if (slots == NULL)
        return error_memory(error, capacity * sizeof *slots);
    for (size_t i = 0; i < map->capacity; i++)
        if (map->slots[i].key != NULL)
            *find_slot(slots, capacity, map->slots[i].key, map->slots[i].bytes) = map->slots[i];
    mem_free(map->slots);
    map->slots = slots;
    map->capacity = capacity;
    return CENTO_OK;
}

cento_status strmap_set(strmap *map, const char *key, size_t bytes, uint32_t value, cento_error *error) {
    if (bytes > UINT32_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT, "a key of %zu bytes is too long", bytes);
    TRY(strmap_reserve(map, map->count + 1, error));
    strmap_slot *slot = find_slot(map->slots, map->capacity, key, bytes);
    if (slot->key == NULL)
        map->count++;
    *slot = (strmap_slot){.key = key, .bytes = (uint32_t)bytes, .value = value};
    return CENTO_OK;
}

uint32_t strmap_get(const strmap *map, const char *key, size_t bytes) {
    if (map->count == 0)
        return STRMAP_MISSING;
    const strmap_slot *slot = find_slot(map->slots, map->capacity, key, bytes);
    return slot->key == NULL ? STRMAP_MISSING : slot->value;
}

void strmap_free(strmap *map) {
    mem_free(map->slots);
    *map = (strmap){0};
}
