/*
 * Byte-pair encoding of one word. Two sorts: by merges (Hugging Face BPE, GGUF "gpt2"), where a pair of ids
 * has a rank, and by score (SentencePiece, GGUF "llama"), where any two neighbours may join whose joined
 * spelling is a token. The best candidate is merged first, the leftmost of equals:
 *
 *   h e l l o      candidates (rank, place) in a heap; symbols in a doubly linked list
 *   h e ll o       merging puts new candidates for the two neighbours in; candidates that the list has moved
 *   he ll o        on from are recognised when they come up, by what their pair would give now
 *
 * so a word of n symbols costs O(n log n). Short words are scanned instead: the same order without a heap.
 */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "tokenizer_internal.h"

#define SCAN_SYMBOLS_MAX 24 /* below this scanning beats the heap */

/* ------------------------------------------------------------------ merges ----------------- */

static size_t merge_hash(int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    key *= 0x9E3779B97F4A7C15u;
    return (size_t)(key ^ key >> 32);
}

cento_status bpe_reserve(bpe_model *model, size_t count, cento_error *error) {
    size_t capacity = 16;
    while (capacity / 2 < count)
        capacity *= 2;
    model->merges = mem_alloc(capacity, sizeof *model->merges);
    if (model->merges == NULL)
        return error_memory(error, capacity * sizeof *model->merges);
    memset(model->merges, 0xFF, capacity * sizeof *model->merges);
    model->merge_capacity = capacity;
    return CENTO_OK;
}

static merge_slot *find_merge(const bpe_model *model, int32_t left, int32_t right) {
    size_t mask = model->merge_capacity - 1;
    size_t index = merge_hash(left, right) & mask;
    merge_slot *slot = &model->merges[index];
    while (slot->rank != UINT32_MAX && (slot->left != left || slot->right != right)) {
        index = (index + 1) & mask;
        slot = &model->merges[index];
    }
    return slot;
}

void bpe_add_merge(bpe_model *model, int32_t left, int32_t right, uint32_t rank, int32_t merged) {
    merge_slot *slot = find_merge(model, left, right);
    if (slot->rank == UINT32_MAX)
        model->merge_count++;
    *slot = (merge_slot){.left = left, .right = right, .rank = rank, .merged = merged};
}

void bpe_finish(bpe_model *model) {
    for (unsigned int byte = 0; byte < 256; byte++) {
        static const char digits[] = "0123456789ABCDEF";
        char spelling[6] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
        model->byte_tokens[byte] = vocabulary_find_model(model->words, spelling, sizeof spelling);
    }
    for (uint32_t codepoint = 0; codepoint < sizeof model->characters / sizeof *model->characters;
         codepoint++) {
        char encoded[4];
        model->characters[codepoint] =
            vocabulary_find_model(model->words, encoded, utf8_encode(codepoint, encoded));
    }
}

void bpe_free(bpe_model *model) {
    mem_free(model->merges);
    mem_free(model->score_ranks);
    model->merges = NULL;
    model->score_ranks = NULL;
}

void bpe_scratch_free(bpe_scratch *scratch) {
    mem_free(scratch->symbols);
    mem_free(scratch->heap);
    *scratch = (bpe_scratch){0};
}

/* What joining two neighbours gives; rank UINT32_MAX: nothing. */
static bpe_candidate candidate_of(const bpe_model *model, const bpe_scratch *scratch, const char *text,
                                  int32_t position) {
    bpe_candidate candidate = {.rank = UINT32_MAX, .position = position, .merged = -1};
    const bpe_symbol *left = &scratch->symbols[position];
    if (left->next < 0)
        return candidate;
    const bpe_symbol *right = &scratch->symbols[left->next];
    if (model->by_score) {
        candidate.merged =
            vocabulary_find_model(model->words, text + left->begin, (size_t)left->bytes + right->bytes);
        if (candidate.merged >= 0)
            candidate.rank = model->score_ranks[candidate.merged];
        return candidate;
    }
    if (model->merge_count == 0)
        return candidate;
    const merge_slot *slot = find_merge(model, left->id, right->id);
    candidate.rank = slot->rank;
    candidate.merged = slot->merged;
    return candidate;
}

/* ------------------------------------------------------------------ symbols ---------------- */

static void put_symbol(bpe_scratch *scratch, int32_t id, size_t begin, size_t bytes) {
    int32_t index = (int32_t)scratch->symbol_count++;
    scratch->symbols[index] = (bpe_symbol){.id = id,
                                           .begin = (uint32_t)begin,
                                           .bytes = (uint32_t)bytes,
                                           .previous = index - 1,
                                           .next = index + 1};
}

/* Characters into symbols, with fallback to bytes and to the unknown token. The order of an unknown that
 * waits to be fused and of byte tokens is Hugging Face's. */
static void split_characters(const bpe_model *model, bpe_scratch *scratch, const char *text, size_t bytes) {
    size_t unknown_bytes = 0, unknown_begin = 0; /* waiting */
    for (size_t at = 0; at < bytes;) {
        uint32_t codepoint = 0;
        size_t length = utf8_decode(text + at, bytes - at, &codepoint);
        if (length == 0)
            length = 1; /* cannot be: the text was checked */
        int32_t id = codepoint < sizeof model->characters / sizeof *model->characters
                         ? model->characters[codepoint]
                         : vocabulary_find_model(model->words, text + at, length);
        bool by_bytes = id < 0 && model->byte_fallback && !model->by_score;
        for (size_t i = 0; by_bytes && i < length; i++)
            by_bytes = model->byte_tokens[(unsigned char)text[at + i]] >= 0;
        if (id >= 0 || model->by_score) {
            if (unknown_bytes > 0)
                put_symbol(scratch, model->unknown, unknown_begin, unknown_bytes);
            unknown_bytes = 0;
            put_symbol(scratch, id, at, length);
        } else if (by_bytes) {
            for (size_t i = 0; i < length; i++)
                put_symbol(scratch, model->byte_tokens[(unsigned char)text[at + i]], at + i, 1);
        } else if (model->unknown >= 0) {
            if (unknown_bytes > 0 && !model->fuse_unknown) {
                put_symbol(scratch, model->unknown, unknown_begin, unknown_bytes);
                unknown_bytes = 0;
            }
            if (unknown_bytes == 0)
                unknown_begin = at;
            unknown_bytes += length;
        }
        at += length;
    }
    if (unknown_bytes > 0)
        put_symbol(scratch, model->unknown, unknown_begin, unknown_bytes);
    if (scratch->symbol_count > 0)
        scratch->symbols[scratch->symbol_count - 1].next = -1;
}

static void merge_right(bpe_scratch *scratch, int32_t position, int32_t merged) {
    bpe_symbol *left = &scratch->symbols[position];
    bpe_symbol *right = &scratch->symbols[left->next];
    left->id = merged;
    left->bytes += right->bytes;
    left->next = right->next;
    right->bytes = 0;
    if (left->next >= 0)
        scratch->symbols[left->next].previous = position;
}

/* ------------------------------------------------------------------ merging ---------------- */

/* Few symbols: keep the candidate of each and look for the best each time. */
static void merge_by_scanning(const bpe_model *model, bpe_scratch *scratch, const char *text) {
    bpe_candidate candidates[SCAN_SYMBOLS_MAX];
    if (scratch->symbol_count == 0)
        return;
    for (size_t i = 0; i < scratch->symbol_count; i++)
        candidates[i] = candidate_of(model, scratch, text, (int32_t)i);
    for (;;) {
        bpe_candidate best = {.rank = UINT32_MAX};
        for (int32_t i = 0; i >= 0; i = scratch->symbols[i].next)
            if (candidates[i].rank < best.rank)
                best = candidates[i];
        if (best.rank == UINT32_MAX)
            return;
        merge_right(scratch, best.position, best.merged);
        candidates[best.position] = candidate_of(model, scratch, text, best.position);
        int32_t previous = scratch->symbols[best.position].previous;
        if (previous >= 0)
            candidates[previous] = candidate_of(model, scratch, text, previous);
    }
}

static bool before(const bpe_candidate *left, const bpe_candidate *right) {
    return left->rank < right->rank || (left->rank == right->rank && left->position < right->position);
}

static void sift_down(bpe_scratch *scratch, size_t index) {
    bpe_candidate *heap = scratch->heap;
    bpe_candidate moved = heap[index];
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= scratch->heap_count)
            break;
        if (child + 1 < scratch->heap_count && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &moved))
            break;
        heap[index] = heap[child];
        index = child;
    }
    heap[index] = moved;
}

static void sift_up(bpe_scratch *scratch, size_t index) {
    bpe_candidate *heap = scratch->heap;
    bpe_candidate moved = heap[index];
    while (index > 0 && before(&moved, &heap[(index - 1) / 2])) {
        heap[index] = heap[(index - 1) / 2];
        index = (index - 1) / 2;
    }
    heap[index] = moved;
}

static cento_status merge_by_heap(const bpe_model *model, bpe_scratch *scratch, const char *text,
                                  cento_error *error) {
    /* each merge takes one candidate out for good and puts two in: at most 3 per symbol in all */
    if (!mem_grow((void **)&scratch->heap, &scratch->heap_capacity, 3 * scratch->symbol_count,
                  sizeof *scratch->heap))
        return error_memory(error, 3 * scratch->symbol_count * sizeof *scratch->heap);
    scratch->heap_count = 0;
    for (size_t i = 0; i < scratch->symbol_count; i++) {
        bpe_candidate candidate = candidate_of(model, scratch, text, (int32_t)i);
        if (candidate.rank != UINT32_MAX)
            scratch->heap[scratch->heap_count++] = candidate;
    }
    for (size_t i = scratch->heap_count / 2; i-- > 0;)
        sift_down(scratch, i);
    while (scratch->heap_count > 0) {
        bpe_candidate best = scratch->heap[0];
        scratch->heap[0] = scratch->heap[--scratch->heap_count];
        if (scratch->heap_count > 0)
            sift_down(scratch, 0);
        if (scratch->symbols[best.position].bytes == 0 ||
            candidate_of(model, scratch, text, best.position).merged != best.merged)
            continue;
        merge_right(scratch, best.position, best.merged);
        int32_t places[2] = {best.position, scratch->symbols[best.position].previous};
        for (size_t i = 0; i < 2 && places[i] >= 0; i++) {
            bpe_candidate candidate = candidate_of(model, scratch, text, places[i]);
            if (candidate.rank == UINT32_MAX)
                continue;
            scratch->heap[scratch->heap_count++] = candidate;
            sift_up(scratch, scratch->heap_count - 1);
        }
    }
    return CENTO_OK;
}

/* A symbol that is no token (by_score): its bytes, or the unknown token. */
static cento_status push_unmatched(const bpe_model *model, const char *text, const bpe_symbol *symbol,
                                   token_vec *ids, cento_error *error) {
    for (size_t i = 0; i < symbol->bytes; i++) {
        int32_t id = model->byte_tokens[(unsigned char)text[symbol->begin + i]];
        if (id < 0)
            return model->unknown < 0 ? CENTO_OK : token_vec_push(ids, model->unknown, error);
        TRY(token_vec_push(ids, id, error));
    }
    return CENTO_OK;
}

cento_status bpe_encode(const bpe_model *model, bpe_scratch *scratch, const char *text, size_t bytes,
                        token_vec *ids, cento_error *error) {
    if (bytes == 0)
        return CENTO_OK;
    if (model->ignore_merges) {
        int32_t whole = vocabulary_find_model(model->words, text, bytes);
        if (whole >= 0)
            return token_vec_push(ids, whole, error);
    }
    if (bytes > INT32_MAX / 4)
        return error_set(error, CENTO_INVALID_ARGUMENT, "a word of %zu bytes is too long to tokenize", bytes);
    if (!mem_grow((void **)&scratch->symbols, &scratch->symbol_capacity, bytes, sizeof *scratch->symbols))
        return error_memory(error, bytes * sizeof *scratch->symbols);
    scratch->symbol_count = 0;
    split_characters(model, scratch, text, bytes);
    if (scratch->symbol_count == 0)
        return CENTO_OK;
    if (scratch->symbol_count <= SCAN_SYMBOLS_MAX)
        merge_by_scanning(model, scratch, text);
    else
        TRY(merge_by_heap(model, scratch, text, error));
    for (int32_t i = 0; i >= 0; i = scratch->symbols[i].next) {
        const bpe_symbol *symbol = &scratch->symbols[i];
        if (symbol->id >= 0)
            TRY(token_vec_push(ids, symbol->id, error));
        else
            TRY(push_unmatched(model, text, symbol, ids, error));
    }
    return CENTO_OK;
}
