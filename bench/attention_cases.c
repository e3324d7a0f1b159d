/* The grid of attention; see attention_cases.h. */
#include "bench/attention_cases.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"

enum { HEAD_DIM = 128 };

static const struct { uint32_t heads, kv_heads; } head_shapes[] = {{32, 8}, {64, 8}, {8, 1}, {32, 32}};
static const uint32_t page_sizes[] = {16, 64};

#define COUNT_OF(list) (sizeof(list) / sizeof(list)[0])

/* ------------------------------------------------------------------------------ filters ----- */

/* Whether one of the words, separated by commas, is `text`, or a beginning of it. */
static bool any_word(const char *words, const char *text, bool beginning) {
    if (words == NULL)
        return true;
    for (const char *word = words;; word++) {
        size_t length = strcspn(word, ",");
        if (length > 0 && strncmp(word, text, length) == 0 && (beginning || text[length] == '\0'))
            return true;
        word += length;
        if (*word == '\0')
            return false;
    }
}

/* ----------------------------------------------------------------------------- building ----- */

/* Cases are added one after another; the first failure stays in `status`, and nothing is added after it. */
typedef struct builder {
    const attention_case_filter *filter;
    attention_case_list *list;
    uint32_t heads, kv_heads, page_tokens;
    cento_status status;
    cento_error *error;
} builder;

static bool grow(builder *made, void *list, size_t *capacity, size_t needed, size_t size) {
    if (made->status == CENTO_OK && !mem_grow((void **)list, capacity, needed, size))
        made->status = error_memory(made->error, needed * size);
    return made->status == CENTO_OK;
}

/* "2k" for 2048, "600" for 600 */
static const char *tokens_name(char *text, size_t bytes, uint32_t tokens) {
    bool whole = tokens >= 1024 && tokens % 1024 == 0;
    snprintf(text, bytes, whole ? "%uk" : "%u", whole ? tokens / 1024 : tokens);
    return text;
}

/* NULL if the filter does not want it. */
static attention_case *add_case(builder *made, const char *family, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static attention_case *add_case(builder *made, const char *family, const char *format, ...) {
    attention_case_list *list = made->list;
    char what[64];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    attention_case one = {
        .family = family,
        .heads = made->heads,
        .kv_heads = made->kv_heads,
        .head_dim = HEAD_DIM,
        .page_tokens = made->page_tokens,
    };
    snprintf(one.name, sizeof one.name, "%s %.36s %u/%u p%u", family, what, made->heads, made->kv_heads,
             made->page_tokens);
    if (!any_word(made->filter->cases, one.name, true) ||
        !grow(made, &list->cases, &list->capacity, list->count + 1, sizeof one))
        return NULL;
    list->cases[list->count] = one;
    return &list->cases[list->count++];
}

static uint32_t add_run(builder *made, attention_case *one, uint32_t tokens) {
    if (!grow(made, &one->run_tokens, &one->run_capacity, one->run_count + 1, sizeof *one->run_tokens))
        return 0;
    one->run_tokens[one->run_count] = tokens;
    return (uint32_t)one->run_count++;
}

/* Where the list begins in run_ids. */
static uint32_t add_list(builder *made, attention_case *one, const uint32_t *runs, uint32_t count) {
    uint32_t begin = (uint32_t)one->run_id_count;
    if (grow(made, &one->run_ids, &one->run_id_capacity, one->run_id_count + count, sizeof *one->run_ids)) {
        memcpy(one->run_ids + begin, runs, count * sizeof *runs);
        one->run_id_count += count;
    }
    return begin;
}

static void add_sequences(builder *made, attention_case *one, uint32_t times, const uint32_t *runs,
                          uint32_t run_count, uint32_t own_tokens, uint32_t new_rows) {
    const attention_sequence sequence = {run_count == 0 ? 0 : add_list(made, one, runs, run_count), run_count,
                                         own_tokens, new_rows};
    if (!grow(made, &one->sequences, &one->sequence_capacity, one->sequence_count + times,
              sizeof *one->sequences))
        return;
    for (uint32_t i = 0; i < times; i++)
        one->sequences[one->sequence_count++] = sequence;
}

/* ----------------------------------------------------------------------------- families ----- */

static void add_prefixes(builder *made) {
    static const uint32_t batches[] = {1, 8, 32, 64, 128, 256};
    static const uint32_t prefixes[] = {128, 512, 2048, 8192, 32768};
    static const uint32_t owns[] = {32, 256, 2048};
    char prefix[16], own[16];
    for (size_t b = 0; b < COUNT_OF(batches); b++)
        for (size_t p = 0; p < COUNT_OF(prefixes); p++)
            for (size_t o = 0; o < COUNT_OF(owns); o++) {
                attention_case *one = add_case(made, "S1", "b%u %s+%s", batches[b],
                                               tokens_name(prefix, sizeof prefix, prefixes[p]),
                                               tokens_name(own, sizeof own, owns[o]));
                if (one == NULL)
                    continue;
                uint32_t run = add_run(made, one, prefixes[p]);
                add_sequences(made, one, batches[b], &run, 1, owns[o], 1);
            }
}

/* A root that all share, branches that so many sequences share each. */
static void add_tree(builder *made, const char *family, uint32_t batch, uint32_t root_tokens,
                     uint32_t branches, uint32_t branch_tokens, uint32_t own_tokens) {
    char root[16], branch[16];
    attention_case *one =
        add_case(made, family, "b%u %s+%ux%s+%u", batch, tokens_name(root, sizeof root, root_tokens),
                 branches, tokens_name(branch, sizeof branch, branch_tokens), own_tokens);
    if (one == NULL)
        return;
    uint32_t runs[2] = {add_run(made, one, root_tokens)};
    for (uint32_t i = 0; i < branches; i++) {
        runs[1] = add_run(made, one, branch_tokens);
        add_sequences(made, one, batch / branches, runs, 2, own_tokens, 1);
    }
}

static void add_documents(builder *made) {
    static const uint32_t batches[] = {32, 128}, documents[] = {2, 4, 8, 16};
    for (size_t b = 0; b < COUNT_OF(batches); b++)
        for (size_t d = 0; d < COUNT_OF(documents); d++)
            add_tree(made, "S2", batches[b], 1024, documents[d], 4096, 256);
}

static void add_trees(builder *made) {
    add_tree(made, "S3", 32, 8192, 8, 512, 32);
    add_tree(made, "S3", 64, 2048, 4, 2048, 256);
    add_tree(made, "S3", 128, 4096, 8, 1024, 256);
    add_tree(made, "S3", 256, 1024, 16, 4096, 256);
    add_tree(made, "S3", 256, 8192, 64, 1024, 256);
}

/* SplitMix64: the same draws on every machine. */
static uint64_t draw(uint64_t *state) {
    uint64_t value = *state += 0x9E3779B97F4A7C15u;
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9u;
    value = (value ^ value >> 27) * 0x94D049BB133111EBu;
    return value ^ value >> 31;
}

/* Rank r has weight 1 / r. */
static uint32_t draw_zipf(uint32_t count, uint64_t *state) {
    double sum = 0, reached = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += 1.0 / (i + 1);
    double point = (double)(draw(state) >> 11) * 0x1p-53 * sum;
    for (uint32_t i = 0; i < count; i++) {
        reached += 1.0 / (i + 1);
        if (point < reached)
            return i;
    }
    return count - 1;
}

static void add_compositions(builder *made) {
    enum { CHUNKS = 16, CHOSEN = 4, CHUNK_TOKENS = 1024 };
    static const uint32_t batches[] = {8, 32, 64, 128, 256};
    for (size_t b = 0; b < COUNT_OF(batches); b++) {
        attention_case *one = add_case(made, "S4", "b%u %u of %u x 1k+256", batches[b], CHOSEN, CHUNKS);
        if (one == NULL)
            continue;
        uint64_t state = 4;
        one->composed = true;
        for (uint32_t i = 0; i < CHUNKS; i++)
            add_run(made, one, CHUNK_TOKENS);
        for (uint32_t s = 0; s < batches[b]; s++) {
            uint32_t runs[CHOSEN];
            for (uint32_t k = 0; k < CHOSEN;) {
                bool again = false;
                runs[k] = draw_zipf(CHUNKS, &state);
                for (uint32_t j = 0; j < k; j++)
                    again = again || runs[j] == runs[k];
                k += !again;
            }
            add_sequences(made, one, 1, runs, CHOSEN, 256, 1);
        }
    }
}

static void add_unshared(builder *made) {
    static const struct {
        uint32_t batch, own;
    } sizes[] = {{1, 8192}, {1, 32768}, {16, 2048}, {64, 2048}, {64, 8192}, {256, 512}};
    static const uint32_t pairs[] = {32, 128};
    char own[16];
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        attention_case *one = add_case(made, "S5", "b%u nothing shared %s", sizes[i].batch,
                                       tokens_name(own, sizeof own, sizes[i].own));
        if (one != NULL)
            add_sequences(made, one, sizes[i].batch, NULL, 0, sizes[i].own, 1);
    }
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        attention_case *one = add_case(made, "S5", "b%u pairs share 2k+256", 2 * pairs[i]);
        for (uint32_t k = 0; one != NULL && k < pairs[i]; k++) {
            uint32_t run = add_run(made, one, 2048);
            add_sequences(made, one, 2, &run, 1, 256, 1);
        }
    }
    attention_case *one = add_case(made, "S5", "one of 128k among 254 of 512");
    if (one != NULL) {
        add_sequences(made, one, 127, NULL, 0, 512, 1);
        add_sequences(made, one, 1, NULL, 0, 131072, 1);
        add_sequences(made, one, 127, NULL, 0, 512, 1);
    }
}

static void add_mixed(builder *made) {
    static const uint32_t rows[] = {512, 2048};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        attention_case *one = add_case(made, "S6", "32 decode 2k, prefill %u over 8k", rows[i]);
        if (one != NULL) {
            add_sequences(made, one, 32, NULL, 0, 2048, 1);
            add_sequences(made, one, 1, NULL, 0, 8192 + rows[i], rows[i]);
        }
        one = add_case(made, "S6", "32 decode and prefill %u share 8k", rows[i]);
        if (one != NULL) {
            uint32_t run = add_run(made, one, 8192);
            add_sequences(made, one, 32, &run, 1, 256, 1);
            add_sequences(made, one, 1, &run, 1, rows[i], rows[i]);
        }
    }
}

static void add_prefills(builder *made) {
    static const struct {
        const char *name;
        uint32_t own, rows;
    } sizes[] = {{"8k causal", 8192, 8192}, {"2k over 8k", 10240, 2048}, {"512 over 8k", 8704, 512}};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        attention_case *one = add_case(made, "P", "%s", sizes[i].name);
        if (one != NULL)
            add_sequences(made, one, 1, NULL, 0, sizes[i].own, sizes[i].rows);
    }
}

/* ------------------------------------------------------------------------------- lists ------ */

static void add_all(builder *made) {
    add_prefixes(made);
    add_documents(made);
    add_trees(made);
    add_compositions(made);
    add_unshared(made);
    add_mixed(made);
    add_prefills(made);
}

cento_status attention_cases_create(const attention_case_filter *filter, attention_case_list *list,
                                    cento_error *error) {
    *list = (attention_case_list){0};
    builder made = {.filter = filter, .list = list, .error = error};
    for (size_t h = 0; h < COUNT_OF(head_shapes); h++)
        for (size_t p = 0; p < COUNT_OF(page_sizes); p++) {
            char heads[32], page[16];
            snprintf(heads, sizeof heads, "%u/%u", head_shapes[h].heads, head_shapes[h].kv_heads);
            snprintf(page, sizeof page, "%u", page_sizes[p]);
            if (!any_word(filter->heads, heads, false) || !any_word(filter->pages, page, false))
                continue;
            made.heads = head_shapes[h].heads;
            made.kv_heads = head_shapes[h].kv_heads;
            made.page_tokens = page_sizes[p];
            add_all(&made);
        }
    if (made.status == CENTO_OK && list->count == 0)
        made.status = error_set(error, CENTO_INVALID_ARGUMENT,
                                "no case fits: cases begin with S1 to S6 or P, heads are 32/8, 64/8, 8/1 or "
                                "32/32, pages 16 or 64");
    if (made.status != CENTO_OK)
        attention_cases_free(list);
    return made.status;
}

void attention_cases_free(attention_case_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        mem_free(list->cases[i].run_tokens);
        mem_free(list->cases[i].run_ids);
        mem_free(list->cases[i].sequences);
    }
    mem_free(list->cases);
    *list = (attention_case_list){0};
}

static json_t *sequence_json(const attention_case *one, const attention_sequence *sequence, size_t count) {
    json_t *runs = json_array();
    for (uint32_t i = 0; i < sequence->run_count; i++)
        json_array_append_new(runs, json_integer(one->run_ids[sequence->run_begin + i]));
    return json_pack("{s:o, s:I, s:I, s:I}", "runs", runs, "own_tokens", (json_int_t)sequence->own_tokens,
                     "new_rows", (json_int_t)sequence->new_rows, "count", (json_int_t)count);
}

static json_t *case_json(const attention_case *one) {
    json_t *runs = json_array(), *sequences = json_array();
    for (size_t i = 0; i < one->run_count; i++)
        json_array_append_new(
            runs, json_pack("{s:I, s:I}", "id", (json_int_t)i, "tokens", (json_int_t)one->run_tokens[i]));
    for (size_t i = 0, same; i < one->sequence_count; i += same) {
        const attention_sequence *first = &one->sequences[i];
        for (same = 1;
             i + same < one->sequence_count && memcmp(first, &one->sequences[i + same], sizeof *first) == 0;)
            same++;
        json_array_append_new(sequences, sequence_json(one, first, same));
    }
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o}", "name", one->name, "family", one->family,
                     "heads", (json_int_t)one->heads, "kv_heads", (json_int_t)one->kv_heads, "head_dim",
                     (json_int_t)one->head_dim, "page_tokens", (json_int_t)one->page_tokens, "runs", runs,
                     "sequences", sequences);
}

json_t *attention_cases_json(const attention_case_list *list) {
    json_t *cases = json_array();
    for (size_t i = 0; i < list->count; i++)
        if (json_array_append_new(cases, case_json(&list->cases[i])) != 0) {
            json_decref(cases);
            return NULL;
        }
    return json_pack("{s:i, s:o}", "version", 1, "cases", cases);
}
