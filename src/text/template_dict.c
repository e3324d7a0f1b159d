/*
 * Hashing, and dictionaries that keep the order of insertion: an array of entries, and an index by hash
 * once there are many. Nothing is ever removed. One render per thread.
 */
#include "template.h"

#include <math.h>
#include <string.h>

static uint64_t mix(uint64_t h) {
    h ^= h >> 33;
    h *= 0xFF51AFD7ED558CCDu;
    h ^= h >> 33;
    return h;
}

cento_status value_hash(render *r, value v, uint64_t *hash) {
    int64_t integer;
    switch (v.type) {
    case VALUE_TEXT:
        *hash = hash_bytes(v.as.text->data, v.as.text->bytes);
        return render_step(r, v.as.text->bytes);
    case VALUE_FLOAT: /* equal numbers have equal hashes */
        if (v.as.real >= -9e18 && v.as.real <= 9e18 && v.as.real == floor(v.as.real))
            *hash = mix((uint64_t)(int64_t)v.as.real);
        else
            *hash = hash_bytes(&v.as.real, sizeof v.as.real);
        return CENTO_OK;
    case VALUE_BOOL:
    case VALUE_INT:
        value_as_int(v, &integer);
        *hash = mix((uint64_t)integer);
        return CENTO_OK;
    case VALUE_TUPLE:
        *hash = 7;
        TRY(render_enter(r));
        for (size_t i = 0; i < v.as.list->count; i++) {
            uint64_t item;
            TRY(value_hash(r, v.as.list->items[i], &item));
            *hash = mix(*hash * 31 + item);
        }
        render_leave(r);
        return render_step(r, 0);
    case VALUE_LIST:
    case VALUE_DICT:
    case VALUE_VIEW:
        return render_fail(r, "unhashable type: '%s'", value_type_name(v));
    case VALUE_RANGE:
        *hash = mix(v.as.range->count);
        return CENTO_OK;
    case VALUE_UNDEFINED:
    case VALUE_NONE:
    case VALUE_MISSING:
        *hash = v.type;
        return CENTO_OK;
    case VALUE_METHOD:
        *hash = mix((uintptr_t)v.as.method->function);
        return CENTO_OK;
    default:
        *hash = mix((uintptr_t)v.as.list);
        return CENTO_OK;
    }
}

cento_status dict_new(render *r, size_t capacity, dict **result) {
    dict *made = render_alloc(r, 1, sizeof *made);
    if (made == NULL)
        return render_memory(r);
    if (capacity > 0) {
        made->entries = render_alloc(r, capacity, sizeof *made->entries);
        if (made->entries == NULL)
            return render_memory(r);
        made->capacity = capacity;
    }
    *result = made;
    return CENTO_OK;
}

/* Few entries are searched one after the other. */
#define DICT_PLAIN_MAX 8

static bool keys_equal(value a, value b) {
    return a.type == VALUE_TEXT && b.type == VALUE_TEXT && a.as.text->bytes == b.as.text->bytes &&
           memcmp(a.as.text->data, b.as.text->data, a.as.text->bytes) == 0;
}

static cento_status dict_find(render *r, const dict *d, value key, uint64_t hash, dict_entry **found) {
    size_t probes = d->index == NULL ? d->count : d->index_capacity;
    *found = NULL;
    for (size_t i = 0; i < probes; i++) {
        dict_entry *entry;
        if (d->index == NULL) {
            entry = &d->entries[i];
        } else {
            uint32_t number = d->index[(hash + i) & (d->index_capacity - 1)];
            if (number == 0)
                return CENTO_OK;
            entry = &d->entries[number - 1];
        }
        if (entry->hash != hash)
            continue;
        bool equal = keys_equal(entry->key, key);
        if (entry->key.type != VALUE_TEXT && key.type != VALUE_TEXT)
            TRY(value_equal(r, entry->key, key, &equal));
        if (equal) {
            *found = entry;
            return CENTO_OK;
        }
    }
    return CENTO_OK;
}

static void index_entry(dict *d, size_t number) {
    size_t at = d->entries[number].hash & (d->index_capacity - 1);
    while (d->index[at] != 0)
        at = (at + 1) & (d->index_capacity - 1);
    d->index[at] = (uint32_t)number + 1;
}

static cento_status dict_grow(render *r, dict *d) {
    if (d->count == d->capacity) {
        size_t capacity = d->capacity == 0 ? 4 : d->capacity * 2;
        dict_entry *entries = render_alloc(r, capacity, sizeof *entries);
        if (entries == NULL)
            return render_memory(r);
        if (d->count > 0)
            memcpy(entries, d->entries, d->count * sizeof *entries);
        d->entries = entries;
        d->capacity = capacity;
    }
    if (d->count < DICT_PLAIN_MAX || d->index_capacity >= 2 * (d->count + 1))
        return CENTO_OK;
    d->index_capacity = d->index_capacity == 0 ? 32 : d->index_capacity * 2;
    while (d->index_capacity < 2 * (d->count + 1))
        d->index_capacity *= 2;
    d->index = render_alloc(r, d->index_capacity, sizeof *d->index);
    if (d->index == NULL)
        return render_memory(r);
    for (size_t i = 0; i < d->count; i++)
        index_entry(d, i);
    return CENTO_OK;
}

cento_status dict_set(render *r, dict *d, value key, value item) {
    uint64_t hash;
    dict_entry *entry;
    TRY(value_hash(r, key, &hash));
    TRY(dict_find(r, d, key, hash, &entry));
    if (entry != NULL) {
        entry->item = item;
        return CENTO_OK;
    }
    if (d->count >= UINT32_MAX / 4)
        return render_fail(r, "the dictionary is too large");
    TRY(dict_grow(r, d));
    d->entries[d->count] = (dict_entry){.key = key, .item = item, .hash = hash};
    if (d->index != NULL)
        index_entry(d, d->count);
    d->count++;
    return render_step(r, sizeof *entry);
}

cento_status dict_get(render *r, const dict *d, value key, const value **item) {
    uint64_t hash;
    dict_entry *entry;
    TRY(value_hash(r, key, &hash));
    TRY(dict_find(r, d, key, hash, &entry));
    *item = entry == NULL ? NULL : &entry->item;
    return CENTO_OK;
}

const value *dict_get_text(const dict *d, const char *key, size_t bytes) {
    string wanted = {.data = key, .bytes = bytes};
    value key_value = {.type = VALUE_TEXT, .as.text = &wanted};
    dict_entry *entry = NULL;
    /* texts are compared without a render */
    dict_find(NULL, d, key_value, hash_bytes(key, bytes), &entry);
    return entry == NULL ? NULL : &entry->item;
}
