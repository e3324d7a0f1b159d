/* The vocabulary: ids and spellings, of the model and of added tokens; see tokenizer_internal.h. Built by
 * one thread, then read by any number. */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "tokenizer_internal.h"

static cento_status check_token(const char *where, const char *spelling, size_t bytes, int64_t id,
                                cento_error *error) {
    if (id < 0 || id > TOKEN_ID_MAX)
        return error_set(error, CENTO_INVALID_MODEL, "%s: a token has id %lld, expected 0 to %d", where,
                         (long long)id, TOKEN_ID_MAX);
    if (bytes > UINT16_MAX)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: token %lld is %zu bytes long, at most %d are allowed", where, (long long)id,
                         bytes, UINT16_MAX);
    if (!utf8_valid(spelling, bytes))
        return error_set(error, CENTO_INVALID_MODEL, "%s: the spelling of token %lld is not UTF-8", where,
                         (long long)id);
    return CENTO_OK;
}

static cento_status ensure_entry(vocabulary *words, size_t id, cento_error *error) {
    if (id < words->size)
        return CENTO_OK;
    if (!mem_grow((void **)&words->entries, &words->capacity, id + 1, sizeof *words->entries))
        return error_memory(error, (id + 1) * sizeof *words->entries);
    memset(words->entries + words->size, 0, (id + 1 - words->size) * sizeof *words->entries);
    words->size = id + 1;
    return CENTO_OK;
}

static cento_status set_spelling(vocabulary *words, const char *spelling, size_t bytes, size_t id,
                                 cento_error *error) {
    vocabulary_entry *entry = &words->entries[id];
    entry->spelling = mem_strndup(spelling, bytes);
    if (entry->spelling == NULL)
        return error_memory(error, bytes + 1);
    entry->bytes = (uint32_t)bytes;
    return strmap_set(&words->by_spelling, entry->spelling, bytes, (uint32_t)id, error);
}

cento_status vocabulary_add_model(vocabulary *words, const char *where, const char *spelling, size_t bytes,
                                  int64_t id, cento_error *error) {
    TRY(check_token(where, spelling, bytes, id, error));
    TRY(ensure_entry(words, (size_t)id, error));
    if (words->entries[id].spelling != NULL)
        return error_set(error, CENTO_INVALID_MODEL, "%s: tokens '%s' and '%.*s' have the same id %lld",
                         where, words->entries[id].spelling, (int)bytes, spelling, (long long)id);
    TRY(set_spelling(words, spelling, bytes, (size_t)id, error));
    words->entries[id].in_model = true;
    if (bytes > words->bytes_max)
        words->bytes_max = bytes;
    return CENTO_OK;
}

cento_status vocabulary_add_added(vocabulary *words, const char *where, const char *spelling, size_t bytes,
                                  int64_t id, bool special, cento_error *error) {
    TRY(check_token(where, spelling, bytes, id, error));
    int32_t there = vocabulary_find(words, spelling, bytes);
    if (there >= 0 && there != id)
        return error_set(error, CENTO_INVALID_MODEL,
                         "%s: added token '%.*s' has id %lld, the vocabulary says %d", where, (int)bytes,
                         spelling, (long long)id, there);
    TRY(ensure_entry(words, (size_t)id, error));
    vocabulary_entry *entry = &words->entries[id];
    if (there < 0) {
        if (entry->spelling != NULL)
            return error_set(error, CENTO_INVALID_MODEL, "%s: added token '%.*s' has the id %lld of '%s'",
                             where, (int)bytes, spelling, (long long)id, entry->spelling);
        TRY(set_spelling(words, spelling, bytes, (size_t)id, error));
    }
    entry->added = true;
    entry->special = special;
    return CENTO_OK;
}

int32_t vocabulary_find(const vocabulary *words, const char *spelling, size_t bytes) {
    uint32_t id = strmap_get(&words->by_spelling, spelling, bytes);
    return id == STRMAP_MISSING ? -1 : (int32_t)id;
}

int32_t vocabulary_find_model(const vocabulary *words, const char *spelling, size_t bytes) {
    if (bytes > words->bytes_max)
        return -1;
    int32_t id = vocabulary_find(words, spelling, bytes);
    return id >= 0 && words->entries[id].in_model ? id : -1;
}

void vocabulary_free(vocabulary *words) {
    for (size_t i = 0; i < words->size; i++) {
        mem_free(words->entries[i].spelling);
        mem_free(words->entries[i].decoded);
    }
    mem_free(words->entries);
    strmap_free(&words->by_spelling);
    *words = (vocabulary){0};
}
