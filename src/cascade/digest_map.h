/*
 * digest_map: SHA-256 digest → pointer. Open addressing with linear probing; deletion moves later
 * entries back, so that there are no tombstones. Digests are uniform already: their first bytes are the hash.
 */
#ifndef CENTO_CASCADE_DIGEST_MAP_H
#define CENTO_CASCADE_DIGEST_MAP_H

#include "base/sha256.h"

typedef struct digest_slot {
    const uint8_t *digest; /* (SHA256_BYTES), borrowed: lies in the value; NULL: empty */
    void *value;
} digest_slot;

typedef struct digest_map {
    digest_slot *slots; /* (capacity), owned */
    size_t capacity;    /* 0 or a power of two */
    size_t count;
} digest_map;

void *digest_map_get(const digest_map *map, const uint8_t *digest); /* NULL: not there */
/* The digest must not be there yet and must live as long as the entry. */
cento_status digest_map_add(digest_map *map, const uint8_t *digest, void *value, cento_error *error);
void digest_map_remove(digest_map *map, const uint8_t *digest); /* must be there */
void digest_map_free(digest_map *map);

#endif
