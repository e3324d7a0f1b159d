/*
 * strmap: byte string → uint32_t, open addressing, power-of-two table, no deletion. Keys are borrowed:
 * they must outlive the map. Built once, then read by any number of threads.
 */
#ifndef CENTO_BASE_STRMAP_H
#define CENTO_BASE_STRMAP_H

#include "status.h"

typedef struct strmap_slot {
    const char *key; /* NULL: empty */
    uint32_t bytes;
    uint32_t value;
} strmap_slot;

typedef struct strmap {
    strmap_slot *slots; /* (capacity), owned */
    size_t capacity;    /* 0 or a power of two */
    size_t count;
} strmap;

#define STRMAP_MISSING UINT32_MAX

/* Room for count keys without growing. */
cento_status strmap_reserve(strmap *map, size_t count, cento_error *error);
/* Sets key → value; an old value is replaced. value must not be STRMAP_MISSING. */
cento_status strmap_set(strmap *map, const char *key, size_t bytes, uint32_t value, cento_error *error);
uint32_t strmap_get(const strmap *map, const char *key, size_t bytes); /* STRMAP_MISSING: not there */
void strmap_free(strmap *map);

uint64_t hash_bytes(const void *data, size_t bytes); /* 64-bit, not for adversaries' keys */

#endif
