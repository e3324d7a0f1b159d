/*
 * The tokenizer as its users see it: building (shared by the JSON and the GGUF reader), encoding, lookups.
 * A tokenizer never changes once opened; each call of tokenizer_encode has its own scratch, so any number of
 * threads may use one. Where the stages are: tokenizer_internal.h.
 */
#include "tokenizer.h"

#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "tokenizer_internal.h"

/* ------------------------------------------------------------------ token_vec -------------- */

cento_status token_vec_append(token_vec *tokens, const int32_t *ids, size_t count, cento_error *error) {
    if (count > SIZE_MAX / sizeof *ids - tokens->count ||
        !mem_grow((void **)&tokens->ids, &tokens->capacity, tokens->count + count, sizeof *ids))
        return error_memory(error, (tokens->count + count) * sizeof *ids);
    if (count > 0)
        memcpy(tokens->ids + tokens->count, ids, count * sizeof *ids);
    tokens->count += count;
    return CENTO_OK;
}

cento_status token_vec_push(token_vec *tokens, int32_t id, cento_error *error) {
    return token_vec_append(tokens, &id, 1, error);
}

void token_vec_free(token_vec *tokens) {
    mem_free(tokens->ids);
    *tokens = (token_vec){0};
}

/* ------------------------------------------------------------------ building --------------- */

tokenizer *tokenizer_new(void) {
    tokenizer *tokens = mem_zalloc(1, sizeof *tokens);
    if (tokens == NULL)
        return NULL;
    tokens->bos = tokens->eos = -1;
    tokens->model.words = &tokens->words;
    tokens->model.unknown = -1;
    return tokens;
}

void tokenizer_close(tokenizer *tokens) {
    if (tokens == NULL)
        return;
    for (size_t i = 0; i < tokens->normalizer_count; i++)
        normalizer_step_free(&tokens->normalizer[i]);
    for (size_t i = 0; i < tokens->pretokenizer_count; i++)
        pretokenizer_step_free(&tokens->pretokenizer[i]);
    for (size_t i = 0; i < tokens->decoder_count; i++)
        decoder_step_free(&tokens->decoder[i]);
    mem_free(tokens->normalizer);
    mem_free(tokens->pretokenizer);
    mem_free(tokens->decoder);
    added_tokens_free(&tokens->literal);
    added_tokens_free(&tokens->normalized);
    bpe_free(&tokens->model);
    vocabulary_free(&tokens->words);
    token_vec_free(&tokens->prefix);
    token_vec_free(&tokens->suffix);
    mem_free(tokens);
}

/* The three adders own the step from the call on, also when they fail. */
static cento_status too_many_steps(cento_error *error) {
    return error_set(error, CENTO_UNSUPPORTED,
                     "a tokenizer with more than %d steps of a kind is not supported", STEPS_MAX);
}

cento_status tokenizer_add_normalizer(tokenizer *tokens, normalizer_step step, cento_error *error) {
    cento_status status = CENTO_OK;
    if (tokens->normalizer_count == STEPS_MAX)
        status = too_many_steps(error);
    else if (!mem_grow((void **)&tokens->normalizer, &tokens->normalizer_capacity,
                       tokens->normalizer_count + 1, sizeof step))
        status = error_memory(error, sizeof step);
    else
        tokens->normalizer[tokens->normalizer_count++] = step;
    if (status != CENTO_OK)
        normalizer_step_free(&step);
    return status;
}

cento_status tokenizer_add_pretokenizer(tokenizer *tokens, pretokenizer_step step, cento_error *error) {
    cento_status status = CENTO_OK;
    if (tokens->pretokenizer_count == STEPS_MAX)
        status = too_many_steps(error);
    else if (!mem_grow((void **)&tokens->pretokenizer, &tokens->pretokenizer_capacity,
                       tokens->pretokenizer_count + 1, sizeof step))
        status = error_memory(error, sizeof step);
    else
        tokens->pretokenizer[tokens->pretokenizer_count++] = step;
    if (status != CENTO_OK)
        pretokenizer_step_free(&step);
    return status;
}

cento_status tokenizer_add_decoder(tokenizer *tokens, decoder_step step, cento_error *error) {
    cento_status status = CENTO_OK;
    for (size_t i = 0; i < tokens->decoder_count; i++)
        if (tokens->decoder[i].kind == DECODER_FUSE || tokens->decoder[i].kind == DECODER_BYTES)
            step.joined = true;
    if (tokens->decoder_count == STEPS_MAX)
        status = too_many_steps(error);
    else if (!mem_grow((void **)&tokens->decoder, &tokens->decoder_capacity, tokens->decoder_count + 1,
                       sizeof step))
        status = error_memory(error, sizeof step);
    else
        tokens->decoder[tokens->decoder_count++] = step;
    if (status != CENTO_OK)
        decoder_step_free(&step);
    return status;
}

cento_status tokenizer_add_token(tokenizer *tokens, const char *where, const char *text, size_t bytes,
                                 added_token token, bool normalized, cento_error *error) {
    if (bytes == 0)
        return error_set(error, CENTO_INVALID_MODEL, "%s: an added token is empty", where);
    TRY(vocabulary_add_added(&tokens->words, where, text, bytes, token.id, token.special, error));
    if (!normalized)
        return added_tokens_insert(&tokens->literal, text, bytes, token, error);
    /* the token is looked for in normalized text, so it is normalized itself; this is also what it decodes to
     */
    encode_scratch scratch = {0};
    const char *form;
    size_t form_bytes;
    bool cut;
    cento_status status = normalizer_run(tokens->normalizer, tokens->normalizer_count, &scratch, text, bytes,
                                         &form, &form_bytes, &cut, error);
    if (status == CENTO_OK)
        status = added_tokens_insert(&tokens->normalized, form, form_bytes, token, error);
    vocabulary_entry *entry = &tokens->words.entries[token.id];
    if (status == CENTO_OK && entry->decoded == NULL) {
        entry->decoded = mem_strndup(form, form_bytes);
        entry->decoded_bytes = (uint32_t)form_bytes;
        if (entry->decoded == NULL)
            status = error_memory(error, form_bytes + 1);
    }
    encode_scratch_free(&scratch);
    return status;
}

void tokenizer_hash(const tokenizer *tokens, sha256 *hash) {
    const vocabulary *words = &tokens->words;
    sha256_update_u64(hash, words->size);
    for (size_t i = 0; i < words->size; i++) {
        const vocabulary_entry *entry = &words->entries[i];
        sha256_update_u64(hash, entry->spelling == NULL ? UINT64_MAX : entry->bytes);
        if (entry->spelling == NULL)
            continue;
        sha256_update(hash, entry->spelling, entry->bytes);
        sha256_update_u64(hash, (uint64_t)entry->in_model | (uint64_t)entry->added << 1 |
                                    (uint64_t)entry->special << 2);
        if (tokens->model.by_score)
            sha256_update_u64(hash, tokens->model.score_ranks[i]);
    }
    /* merges in the order of their table, which depends on nothing but them and the order of insertion */
    sha256_update_u64(hash, tokens->model.merge_count);
    for (size_t i = 0; i < tokens->model.merge_capacity; i++) {
        const merge_slot *slot = &tokens->model.merges[i];
        if (slot->rank == UINT32_MAX)
            continue;
        sha256_update_u64(hash, (uint64_t)(uint32_t)slot->left << 32 | (uint32_t)slot->right);
        sha256_update_u64(hash, (uint64_t)slot->rank << 32 | (uint32_t)slot->merged);
    }
    const bpe_model *model = &tokens->model;
    sha256_update_u64(hash, (uint64_t)model->by_score | (uint64_t)model->byte_fallback << 1 |
                                (uint64_t)model->fuse_unknown << 2 | (uint64_t)model->ignore_merges << 3);
    sha256_update_u64(hash, (uint64_t)(int64_t)model->unknown);
}

/* ------------------------------------------------------------------ encoding --------------- */

void encode_scratch_free(encode_scratch *scratch) {
    regex_scratch_free(&scratch->regex);
    strbuf_free(&scratch->normalized);
    strbuf_free(&scratch->normalizing);
    strbuf_free(&scratch->mapped);
    strbuf_free(&scratch->mapping);
    mem_free(scratch->spans.items);
    mem_free(scratch->next_spans.items);
    bpe_scratch_free(&scratch->bpe);
    mem_free(scratch->codepoints);
    *scratch = (encode_scratch){0};
}

/* Text without added tokens, already normalized. */
static cento_status encode_words(const tokenizer *tokens, encode_scratch *scratch, const char *text,
                                 size_t bytes, bool at_origin, token_vec *ids, cento_error *error) {
    const char *cut_text;
    TRY(pretokenizer_run(tokens->pretokenizer, tokens->pretokenizer_count, scratch, text, bytes, at_origin,
                         &cut_text, error));
    for (size_t i = 0; i < scratch->spans.count; i++) {
        text_span span = scratch->spans.items[i];
        TRY(bpe_encode(&tokens->model, &scratch->bpe, cut_text + span.begin, span.end - span.begin, ids,
                       error));
    }
    return CENTO_OK;
}

/* Text without literal added tokens. */
static cento_status encode_stretch(const tokenizer *tokens, encode_scratch *scratch, const char *text,
                                   size_t bytes, bool at_origin, bool parse_special, token_vec *ids,
                                   cento_error *error) {
    const char *normalized;
    size_t normalized_bytes;
    bool cut;
    TRY(normalizer_run(tokens->normalizer, tokens->normalizer_count, scratch, text, bytes, &normalized,
                       &normalized_bytes, &cut, error));
    added_walk walk;
    added_walk_begin(&walk, &tokens->normalized, normalized, normalized_bytes, parse_special);
    added_piece piece;
    while (added_walk_next(&walk, &piece)) {
        if (piece.token != NULL)
            TRY(token_vec_push(ids, piece.token->id, error));
        else
            TRY(encode_words(tokens, scratch, normalized + piece.begin, piece.end - piece.begin,
                             at_origin && !cut && piece.begin == 0, ids, error));
    }
    return CENTO_OK;
}

static cento_status encode_text(const tokenizer *tokens, const char *text, size_t bytes, bool parse_special,
                                token_vec *ids, cento_error *error) {
    encode_scratch scratch = {0};
    cento_status status = CENTO_OK;
    added_walk walk;
    added_walk_begin(&walk, &tokens->literal, text, bytes, parse_special);
    added_piece piece;
    while (status == CENTO_OK && added_walk_next(&walk, &piece)) {
        if (piece.token != NULL)
            status = token_vec_push(ids, piece.token->id, error);
        else
            status = encode_stretch(tokens, &scratch, text + piece.begin, piece.end - piece.begin,
                                    piece.begin == 0, parse_special, ids, error);
    }
    encode_scratch_free(&scratch);
    return status;
}

static void repair_utf8(const char *text, size_t bytes, strbuf *repaired) {
    for (size_t at = 0; at < bytes;) {
        size_t valid = utf8_invalid_offset(text + at, bytes - at);
        size_t good = valid == SIZE_MAX ? bytes - at : valid;
        strbuf_append(repaired, text + at, good);
        at += good;
        if (at < bytes) {
            strbuf_put_codepoint(repaired, UTF8_REPLACEMENT);
            at += utf8_invalid_subpart(text + at, bytes - at);
        }
    }
}

cento_status tokenizer_encode(const tokenizer *tokens, const char *text, size_t bytes, bool add_special,
                              bool parse_special, token_vec *ids, cento_error *error) {
    if (bytes > TEXT_BYTES_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT, "a text of %zu bytes is larger than %zu", bytes,
                         TEXT_BYTES_MAX);
    size_t before = ids->count;
    strbuf repaired = {0};
    cento_status status = CENTO_OK;
    if (!utf8_valid(text, bytes)) {
        repair_utf8(text, bytes, &repaired);
        status = strbuf_check(&repaired, error);
        text = repaired.data;
        bytes = repaired.bytes;
    }
    if (status == CENTO_OK && add_special)
        status = token_vec_append(ids, tokens->prefix.ids, tokens->prefix.count, error);
    if (status == CENTO_OK)
        status = encode_text(tokens, text, bytes, parse_special, ids, error);
    if (status == CENTO_OK && add_special)
        status = token_vec_append(ids, tokens->suffix.ids, tokens->suffix.count, error);
    strbuf_free(&repaired);
    if (status != CENTO_OK)
        ids->count = before; /* all or nothing */
    return status;
}

/* ------------------------------------------------------------------ lookups ---------------- */

uint32_t tokenizer_vocab_size(const tokenizer *tokens) {
    return (uint32_t)tokens->words.size;
}

int32_t tokenizer_find(const tokenizer *tokens, const char *spelling, size_t bytes) {
    return vocabulary_find(&tokens->words, spelling, bytes);
}

const char *tokenizer_spelling(const tokenizer *tokens, int32_t id, uint32_t *bytes) {
    if (id < 0 || (size_t)id >= tokens->words.size || tokens->words.entries[id].spelling == NULL)
        return NULL;
    *bytes = tokens->words.entries[id].bytes;
    return tokens->words.entries[id].spelling;
}

bool tokenizer_is_special(const tokenizer *tokens, int32_t id) {
    return id >= 0 && (size_t)id < tokens->words.size && tokens->words.entries[id].special;
}

int32_t tokenizer_bos(const tokenizer *tokens) {
    return tokens->bos;
}

int32_t tokenizer_eos(const tokenizer *tokens) {
    return tokens->eos;
}

const uint8_t *tokenizer_fingerprint(const tokenizer *tokens) {
    return tokens->fingerprint;
}
