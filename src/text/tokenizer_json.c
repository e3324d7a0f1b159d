/*
 * Reading tokenizer.json, the file format of Hugging Face tokenizers: normalizer, pre_tokenizer, model,
 * post_processor, decoder and added_tokens are compiled into the steps of tokenizer_internal.h. What is not
 * known is refused by name and place, so that no text is ever tokenized differently in silence.
 */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "tokenizer_internal.h"

#define JSON_BYTES_MAX   ((size_t)512 << 20)
#define SEQUENCE_DEPTH   8
#define COMPONENT_PLACES 512

typedef struct reader {
    tokenizer *tokens;
    const char *where;
    cento_error *error;
    bool template_seen;
} reader;

/* A place in the file: "tokenizer.json: pre_tokenizer.pretokenizers[1]". */
typedef struct place {
    char text[COMPONENT_PLACES];
} place;

static place place_root(reader *in, const char *component) {
    place here;
    snprintf(here.text, sizeof here.text, "%s: %s", in->where, component);
    return here;
}

static place place_inside(const place *parent, const char *key, size_t index) {
    place here;
    int written = snprintf(here.text, sizeof here.text, "%.400s.%s[%zu]", parent->text, key, index);
    (void)written;
    return here;
}

static cento_status unsupported(reader *in, const place *here, const char *what, const char *name) {
    return error_set(in->error, CENTO_UNSUPPORTED, "%s: %s '%s' is not supported", here->text, what, name);
}

static cento_status invalid(reader *in, const place *here, const char *key, const char *expected,
                            const json_t *found) {
    return error_set(in->error, CENTO_INVALID_MODEL, "%s: '%s' must be %s, found %s", here->text, key,
                     expected, json_type_name(found));
}

static const json_t *member(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* The component's type; NULL with an error set if there is none. */
static const char *type_of(reader *in, const place *here, const json_t *component) {
    if (!json_is_object(component)) {
        error_set(in->error, CENTO_INVALID_MODEL, "%s: must be an object, found %s", here->text,
                  json_type_name(component));
        return NULL;
    }
    const char *type = NULL;
    if (json_get_string(component, here->text, "type", &type, in->error) != CENTO_OK)
        return NULL;
    if (type == NULL)
        error_set(in->error, CENTO_INVALID_MODEL, "%s: 'type' is missing", here->text);
    return type;
}

static cento_status required_string(reader *in, const place *here, const json_t *object, const char *key,
                                    const char **value, size_t *bytes) {
    const json_t *found = json_object_get(object, key);
    *value = "";
    *bytes = 0;
    if (!json_is_string(found))
        return invalid(in, here, key, "a string", found);
    *value = json_string_value(found);
    *bytes = json_string_length(found);
    return CENTO_OK;
}

/* {"Regex": "…"} or {"String": "…"}; *literal is set to which. */
static cento_status read_pattern(reader *in, const place *here, const json_t *component, const char **text,
                                 size_t *bytes, bool *literal) {
    const json_t *pattern = json_object_get(component, "pattern");
    *text = "";
    *bytes = 0;
    *literal = false;
    if (json_is_string(pattern)) { /* old files */
        *literal = true;
        *text = json_string_value(pattern);
        *bytes = json_string_length(pattern);
        return CENTO_OK;
    }
    if (!json_is_object(pattern) || json_object_size(pattern) != 1)
        return invalid(in, here, "pattern", "an object with 'Regex' or 'String'", pattern);
    *literal = json_object_get(pattern, "String") != NULL;
    return required_string(in, here, pattern, *literal ? "String" : "Regex", text, bytes);
}

typedef cento_status (*component_reader)(reader *in, const place *here, const json_t *component,
                                         size_t depth);

/* {"type": "Sequence", KEY: […]} */
static cento_status read_sequence(reader *in, const place *here, const json_t *component, const char *key,
                                  size_t depth, component_reader read) {
    const json_t *items = json_object_get(component, key);
    if (!json_is_array(items))
        return invalid(in, here, key, "an array", items);
    if (depth >= SEQUENCE_DEPTH)
        return unsupported(in, here, "a sequence inside so many others:", key);
    for (size_t i = 0; i < json_array_size(items); i++) {
        place inside = place_inside(here, key, i);
        TRY(read(in, &inside, json_array_get(items, i), depth + 1));
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------ normalizer ------------- */

static cento_status copy_content(reader *in, const char *content, size_t bytes, char **copy,
                                 size_t *copy_bytes) {
    *copy = mem_strndup(content, bytes);
    *copy_bytes = bytes;
    return *copy == NULL ? error_memory(in->error, bytes + 1) : CENTO_OK;
}

static cento_status read_replace_normalizer(reader *in, const place *here, const json_t *component) {
    const char *text, *content;
    size_t bytes, content_bytes;
    bool literal;
    TRY(read_pattern(in, here, component, &text, &bytes, &literal));
    TRY(required_string(in, here, component, "content", &content, &content_bytes));
    normalizer_step step = {.kind = NORMALIZER_REPLACE};
    TRY(copy_content(in, content, content_bytes, &step.content, &step.content_bytes));
    cento_status status = split_regex_compile(here->text, text, bytes, literal, &step.pattern, in->error);
    if (status != CENTO_OK) {
        normalizer_step_free(&step);
        return status;
    }
    return tokenizer_add_normalizer(in->tokens, step, in->error);
}

static cento_status read_normalizer(reader *in, const place *here, const json_t *component, size_t depth) {
    static const struct {
        const char *type;
        normalizer_kind kind;
    } simple[] = {
        {"NFC", NORMALIZER_NFC},
        {"NFD", NORMALIZER_NFD},
        {"NFKC", NORMALIZER_NFKC},
        {"NFKD", NORMALIZER_NFKD},
        {"Lowercase", NORMALIZER_LOWERCASE},
        {"StripAccents", NORMALIZER_STRIP_ACCENTS},
    };
    const char *type = type_of(in, here, component);
    if (type == NULL)
        return in->error == NULL ? CENTO_INVALID_MODEL : in->error->status;
    if (strcmp(type, "Sequence") == 0)
        return read_sequence(in, here, component, "normalizers", depth, read_normalizer);
    for (size_t i = 0; i < sizeof simple / sizeof *simple; i++)
        if (strcmp(type, simple[i].type) == 0)
            return tokenizer_add_normalizer(in->tokens, (normalizer_step){.kind = simple[i].kind}, in->error);
    if (strcmp(type, "Prepend") == 0) {
        const char *content;
        size_t bytes;
        TRY(required_string(in, here, component, "prepend", &content, &bytes));
        normalizer_step step = {.kind = NORMALIZER_PREPEND};
        TRY(copy_content(in, content, bytes, &step.content, &step.content_bytes));
        return tokenizer_add_normalizer(in->tokens, step, in->error);
    }
    if (strcmp(type, "Strip") == 0) {
        normalizer_step step = {.kind = NORMALIZER_STRIP, .strip_left = true, .strip_right = true};
        TRY(json_get_bool(component, here->text, "strip_left", &step.strip_left, in->error));
        TRY(json_get_bool(component, here->text, "strip_right", &step.strip_right, in->error));
        return tokenizer_add_normalizer(in->tokens, step, in->error);
    }
    if (strcmp(type, "Replace") == 0)
        return read_replace_normalizer(in, here, component);
    return unsupported(in, here, "the normalizer", type);
}

/* ------------------------------------------------------------------ pre-tokenizer ---------- */

static cento_status add_split(reader *in, const place *here, const char *pattern, size_t bytes, bool literal,
                              split_behavior behavior, bool invert) {
    pretokenizer_step step = {.kind = PRETOKENIZER_SPLIT, .behavior = behavior, .invert = invert};
    TRY(split_regex_compile(here->text, pattern, bytes, literal, &step.pattern, in->error));
    return tokenizer_add_pretokenizer(in->tokens, step, in->error);
}

static cento_status add_class_split(reader *in, const place *here, const char *pattern,
                                    split_behavior behavior, bool invert) {
    return add_split(in, here, pattern, strlen(pattern), false, behavior, invert);
}

static cento_status read_behavior(reader *in, const place *here, const json_t *component,
                                  split_behavior *behavior) {
    static const struct {
        const char *name;
        split_behavior behavior;
    } behaviors[] = {
        {"Removed", SPLIT_REMOVED},
        {"Isolated", SPLIT_ISOLATED},
        {"MergedWithPrevious", SPLIT_MERGED_WITH_PREVIOUS},
        {"MergedWithNext", SPLIT_MERGED_WITH_NEXT},
        {"Contiguous", SPLIT_CONTIGUOUS},
    };
    const char *name = NULL;
    TRY(json_get_string(component, here->text, "behavior", &name, in->error));
    if (name == NULL)
        return CENTO_OK;
    for (size_t i = 0; i < sizeof behaviors / sizeof *behaviors; i++)
        if (strcmp(name, behaviors[i].name) == 0) {
            *behavior = behaviors[i].behavior;
            return CENTO_OK;
        }
    return unsupported(in, here, "the behavior", name);
}

static cento_status read_split(reader *in, const place *here, const json_t *component) {
    const char *text;
    size_t bytes;
    bool literal, invert = false;
    split_behavior behavior = SPLIT_ISOLATED;
    TRY(read_pattern(in, here, component, &text, &bytes, &literal));
    if (member(component, "behavior") == NULL)
        return invalid(in, here, "behavior", "a string", json_object_get(component, "behavior"));
    TRY(read_behavior(in, here, component, &behavior));
    TRY(json_get_bool(component, here->text, "invert", &invert, in->error));
    if (literal && bytes == 0)
        return unsupported(in, here, "the pattern", "");
    return add_split(in, here, text, bytes, literal, behavior, invert);
}

static cento_status read_byte_level(reader *in, const place *here, const json_t *component) {
    bool prefix = true, use_regex = true;
    TRY(json_get_bool(component, here->text, "add_prefix_space", &prefix, in->error));
    TRY(json_get_bool(component, here->text, "use_regex", &use_regex, in->error));
    if (prefix)
        TRY(tokenizer_add_pretokenizer(in->tokens, (pretokenizer_step){.kind = PRETOKENIZER_SPACE_PREFIX},
                                       in->error));
    if (use_regex)
        TRY(add_class_split(in, here, byte_level_pattern, SPLIT_ISOLATED, false));
    return tokenizer_add_pretokenizer(in->tokens, (pretokenizer_step){.kind = PRETOKENIZER_BYTES}, in->error);
}

/* replacement, prepend_scheme and the older add_prefix_space, of the pre-tokenizer and of the decoder */
static cento_status read_metaspace_options(reader *in, const place *here, const json_t *component,
                                           pretokenizer_step *step) {
    const char *replacement = METASPACE;
    size_t bytes = METASPACE_BYTES;
    if (member(component, "replacement") != NULL)
        TRY(required_string(in, here, component, "replacement", &replacement, &bytes));
    uint32_t codepoint;
    if (bytes == 0 || utf8_decode(replacement, bytes, &codepoint) != bytes)
        return error_set(in->error, CENTO_INVALID_MODEL, "%s: 'replacement' must be one character",
                         here->text);
    memcpy(step->replacement, replacement, bytes);
    step->replacement_bytes = bytes;
    step->scheme = PREFIX_ALWAYS;
    const char *scheme = NULL;
    TRY(json_get_string(component, here->text, "prepend_scheme", &scheme, in->error));
    if (scheme != NULL) {
        if (strcmp(scheme, "always") == 0)
            step->scheme = PREFIX_ALWAYS;
        else if (strcmp(scheme, "first") == 0)
            step->scheme = PREFIX_FIRST;
        else if (strcmp(scheme, "never") == 0)
            step->scheme = PREFIX_NEVER;
        else
            return unsupported(in, here, "the prepend_scheme", scheme);
    }
    bool prefix = true;
    TRY(json_get_bool(component, here->text, "add_prefix_space", &prefix, in->error));
    if (!prefix && scheme != NULL && step->scheme != PREFIX_NEVER)
        return error_set(in->error, CENTO_INVALID_MODEL,
                         "%s: 'add_prefix_space' contradicts 'prepend_scheme'", here->text);
    if (!prefix)
        step->scheme = PREFIX_NEVER;
    return CENTO_OK;
}

static cento_status read_metaspace(reader *in, const place *here, const json_t *component) {
    pretokenizer_step step = {.kind = PRETOKENIZER_METASPACE};
    bool split = true;
    TRY(read_metaspace_options(in, here, component, &step));
    TRY(json_get_bool(component, here->text, "split", &split, in->error));
    TRY(tokenizer_add_pretokenizer(in->tokens, step, in->error));
    if (!split)
        return CENTO_OK;
    return add_split(in, here, step.replacement, step.replacement_bytes, true, SPLIT_MERGED_WITH_NEXT, false);
}

static cento_status read_pretokenizer(reader *in, const place *here, const json_t *component, size_t depth) {
    const char *type = type_of(in, here, component);
    if (type == NULL)
        return in->error == NULL ? CENTO_INVALID_MODEL : in->error->status;
    if (strcmp(type, "Sequence") == 0)
        return read_sequence(in, here, component, "pretokenizers", depth, read_pretokenizer);
    if (strcmp(type, "Split") == 0)
        return read_split(in, here, component);
    if (strcmp(type, "ByteLevel") == 0)
        return read_byte_level(in, here, component);
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(in, here, component);
    if (strcmp(type, "Digits") == 0) {
        bool individual = false;
        TRY(json_get_bool(component, here->text, "individual_digits", &individual, in->error));
        return add_class_split(in, here, "\\p{N}", individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false);
    }
    if (strcmp(type, "Punctuation") == 0) {
        split_behavior behavior = SPLIT_ISOLATED;
        TRY(read_behavior(in, here, component, &behavior));
        return add_class_split(in, here, "[\\p{P}$+<=>^`|~]", behavior, false);
    }
    if (strcmp(type, "Whitespace") == 0) /* Rust's \w has the join controls, Oniguruma's has not */
        return add_class_split(in, here, "[\\w\\x{200C}\\x{200D}]+|[^\\w\\x{200C}\\x{200D}\\s]+",
                               SPLIT_REMOVED, true);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return add_class_split(in, here, "\\s", SPLIT_REMOVED, false);
    return unsupported(in, here, "the pre-tokenizer", type);
}

/* ------------------------------------------------------------------ decoder ---------------- */

static cento_status read_replace_decoder(reader *in, const place *here, const json_t *component) {
    const char *text, *content;
    size_t bytes, content_bytes;
    bool literal;
    TRY(read_pattern(in, here, component, &text, &bytes, &literal));
    TRY(required_string(in, here, component, "content", &content, &content_bytes));
    decoder_step step = {.kind = DECODER_REPLACE};
    cento_status status = copy_content(in, content, content_bytes, &step.content, &step.content_bytes);
    if (status == CENTO_OK && literal)
        status = copy_content(in, text, bytes, &step.literal, &step.literal_bytes);
    if (status == CENTO_OK)
        status = split_regex_compile(here->text, text, bytes, literal, &step.pattern, in->error);
    if (status != CENTO_OK) {
        decoder_step_free(&step);
        return status;
    }
    return tokenizer_add_decoder(in->tokens, step, in->error);
}

static cento_status read_strip_decoder(reader *in, const place *here, const json_t *component) {
    const char *content;
    size_t bytes;
    uint32_t codepoint, start = 0, stop = 0;
    TRY(required_string(in, here, component, "content", &content, &bytes));
    if (bytes == 0 || utf8_decode(content, bytes, &codepoint) != bytes)
        return error_set(in->error, CENTO_INVALID_MODEL, "%s: 'content' must be one character", here->text);
    TRY(json_get_u32_required(component, here->text, "start", 0, INT32_MAX, &start, in->error));
    TRY(json_get_u32_required(component, here->text, "stop", 0, INT32_MAX, &stop, in->error));
    decoder_step step = {.kind = DECODER_STRIP, .strip_start = start, .strip_stop = stop};
    TRY(copy_content(in, content, bytes, &step.content, &step.content_bytes));
    return tokenizer_add_decoder(in->tokens, step, in->error);
}

static cento_status read_decoder(reader *in, const place *here, const json_t *component, size_t depth) {
    const char *type = type_of(in, here, component);
    if (type == NULL)
        return in->error == NULL ? CENTO_INVALID_MODEL : in->error->status;
    if (strcmp(type, "Sequence") == 0)
        return read_sequence(in, here, component, "decoders", depth, read_decoder);
    if (strcmp(type, "ByteLevel") == 0)
        return tokenizer_add_decoder(in->tokens, (decoder_step){.kind = DECODER_BYTES}, in->error);
    if (strcmp(type, "ByteFallback") == 0)
        return tokenizer_add_decoder(in->tokens, (decoder_step){.kind = DECODER_BYTE_FALLBACK}, in->error);
    if (strcmp(type, "Fuse") == 0)
        return tokenizer_add_decoder(in->tokens, (decoder_step){.kind = DECODER_FUSE}, in->error);
    if (strcmp(type, "Strip") == 0)
        return read_strip_decoder(in, here, component);
    if (strcmp(type, "Replace") == 0)
        return read_replace_decoder(in, here, component);
    if (strcmp(type, "Metaspace") == 0) {
        pretokenizer_step options = {0};
        TRY(read_metaspace_options(in, here, component, &options));
        decoder_step step = {.kind = DECODER_METASPACE, .strip_first = options.scheme != PREFIX_NEVER};
        TRY(copy_content(in, options.replacement, options.replacement_bytes, &step.content,
                         &step.content_bytes));
        return tokenizer_add_decoder(in->tokens, step, in->error);
    }
    return unsupported(in, here, "the decoder", type);
}

/* ------------------------------------------------------------------ model ------------------ */

static cento_status read_vocabulary(reader *in, const place *here, const json_t *model) {
    json_t *vocab = json_object_get(model, "vocab");
    if (!json_is_object(vocab))
        return invalid(in, here, "vocab", "an object", vocab);
    TRY(strmap_reserve(&in->tokens->words.by_spelling, json_object_size(vocab), in->error));
    for (void *entry = json_object_iter(vocab); entry != NULL; entry = json_object_iter_next(vocab, entry)) {
        const char *spelling = json_object_iter_key(entry);
        const json_t *id = json_object_iter_value(entry);
        if (!json_is_integer(id))
            return error_set(in->error, CENTO_INVALID_MODEL,
                             "%s: the id of '%.100s' in 'vocab' must be an integer, found %s", here->text,
                             spelling, json_type_name(id));
        TRY(vocabulary_add_model(&in->tokens->words, here->text, spelling, strlen(spelling),
                                 json_integer_value(id), in->error));
    }
    return CENTO_OK;
}

/* "left right" or ["left", "right"]; the right one points into the JSON tree too. */
static bool split_merge(const json_t *merge, const char **left, size_t *left_bytes, const char **right,
                        size_t *right_bytes) {
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        const json_t *first = json_array_get(merge, 0), *second = json_array_get(merge, 1);
        if (!json_is_string(first) || !json_is_string(second))
            return false;
        *left = json_string_value(first);
        *left_bytes = json_string_length(first);
        *right = json_string_value(second);
        *right_bytes = json_string_length(second);
        return true;
    }
    if (!json_is_string(merge))
        return false;
    const char *text = json_string_value(merge);
    const char *space = memchr(text, ' ', json_string_length(merge));
    if (space == NULL)
        return false;
    *left = text;
    *left_bytes = (size_t)(space - text);
    *right = space + 1;
    *right_bytes = json_string_length(merge) - *left_bytes - 1;
    return memchr(*right, ' ', *right_bytes) == NULL;
}

static cento_status read_merges(reader *in, const place *here, const json_t *model) {
    const json_t *merges = json_object_get(model, "merges");
    if (!json_is_array(merges))
        return invalid(in, here, "merges", "an array", merges);
    size_t count = json_array_size(merges);
    const vocabulary *words = &in->tokens->words;
    TRY(bpe_reserve(&in->tokens->model, count, in->error));
    strbuf joined = {0};
    cento_status status = CENTO_OK;
    for (size_t i = 0; i < count && status == CENTO_OK; i++) {
        const char *left, *right;
        size_t left_bytes, right_bytes;
        if (!split_merge(json_array_get(merges, i), &left, &left_bytes, &right, &right_bytes)) {
            status =
                error_set(in->error, CENTO_INVALID_MODEL,
                          "%s: merges[%zu] must be \"left right\" or [\"left\", \"right\"]", here->text, i);
            break;
        }
        strbuf_clear(&joined);
        strbuf_append(&joined, left, left_bytes);
        strbuf_append(&joined, right, right_bytes);
        status = strbuf_check(&joined, in->error);
        if (status != CENTO_OK)
            break;
        int32_t left_id = vocabulary_find_model(words, left, left_bytes);
        int32_t right_id = vocabulary_find_model(words, right, right_bytes);
        int32_t merged_id = vocabulary_find_model(words, joined.data, joined.bytes);
        if (left_id < 0 || right_id < 0 || merged_id < 0)
            status = error_set(in->error, CENTO_INVALID_MODEL,
                               "%s: merges[%zu] is '%.*s' with '%.*s', and '%s' is not in 'vocab'",
                               here->text, i, (int)(left_bytes < 100 ? left_bytes : 100), left,
                               (int)(right_bytes < 100 ? right_bytes : 100), right,
                               left_id < 0 ? left : (right_id < 0 ? right : joined.data));
        else
            bpe_add_merge(&in->tokens->model, left_id, right_id, (uint32_t)i, merged_id);
    }
    strbuf_free(&joined);
    return status;
}

static cento_status read_model(reader *in, const json_t *root) {
    place here = place_root(in, "model");
    const json_t *model = json_object_get(root, "model");
    if (!json_is_object(model))
        return error_set(in->error, CENTO_INVALID_MODEL, "%s: must be an object, found %s", here.text,
                         json_type_name(model));
    const char *type = "BPE"; /* old files do not say, and have merges */
    TRY(json_get_string(model, here.text, "type", &type, in->error));
    if (strcmp(type, "BPE") != 0)
        return unsupported(in, &here, "the model", type);
    if (member(model, "dropout") != NULL &&
        !(json_is_number(member(model, "dropout")) && json_number_value(member(model, "dropout")) == 0))
        return unsupported(in, &here, "the option", "dropout");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const char *affix = NULL;
        TRY(json_get_string(model, here.text, affixes[i], &affix, in->error));
        if (affix != NULL && affix[0] != '\0')
            return unsupported(in, &here, "the option", affixes[i]);
    }
    bpe_model *bpe = &in->tokens->model;
    TRY(json_get_bool(model, here.text, "byte_fallback", &bpe->byte_fallback, in->error));
    TRY(json_get_bool(model, here.text, "fuse_unk", &bpe->fuse_unknown, in->error));
    TRY(json_get_bool(model, here.text, "ignore_merges", &bpe->ignore_merges, in->error));
    const char *unknown = NULL;
    TRY(json_get_string(model, here.text, "unk_token", &unknown, in->error));
    TRY(read_vocabulary(in, &here, model));
    TRY(read_merges(in, &here, model));
    if (unknown != NULL)
        bpe->unknown = vocabulary_find_model(&in->tokens->words, unknown, strlen(unknown));
    bpe_finish(bpe);
    return CENTO_OK;
}

/* ------------------------------------------------------------------ added tokens ----------- */

static cento_status read_added_tokens(reader *in, const json_t *root) {
    const json_t *list = member(root, "added_tokens");
    if (list == NULL)
        return CENTO_OK;
    place root_place = place_root(in, "added_tokens");
    if (!json_is_array(list))
        return error_set(in->error, CENTO_INVALID_MODEL, "%s: must be an array, found %s", root_place.text,
                         json_type_name(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        char name[48];
        snprintf(name, sizeof name, "added_tokens[%zu]", i);
        place here = place_root(in, name);
        if (!json_is_object(item))
            return error_set(in->error, CENTO_INVALID_MODEL, "%s: must be an object, found %s", here.text,
                             json_type_name(item));
        const char *content;
        size_t bytes;
        uint32_t id = 0;
        added_token token = {0};
        TRY(required_string(in, &here, item, "content", &content, &bytes));
        TRY(json_get_u32_required(item, here.text, "id", 0, TOKEN_ID_MAX, &id, in->error));
        token.id = (int32_t)id;
        TRY(json_get_bool(item, here.text, "special", &token.special, in->error));
        TRY(json_get_bool(item, here.text, "single_word", &token.single_word, in->error));
        TRY(json_get_bool(item, here.text, "lstrip", &token.lstrip, in->error));
        TRY(json_get_bool(item, here.text, "rstrip", &token.rstrip, in->error));
        bool normalized = !token.special;
        TRY(json_get_bool(item, here.text, "normalized", &normalized, in->error));
        TRY(tokenizer_add_token(in->tokens, here.text, content, bytes, token, normalized, in->error));
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------ post-processor --------- */

/* The ids of a special token of a template, as its special_tokens say. */
static cento_status append_special(reader *in, const place *here, const json_t *component, const char *name,
                                   token_vec *ids) {
    const json_t *entry = json_object_get(json_object_get(component, "special_tokens"), name);
    const json_t *list = json_object_get(entry, "ids");
    if (!json_is_array(list))
        return error_set(in->error, CENTO_INVALID_MODEL, "%s: special_tokens has no ids for '%.100s'",
                         here->text, name);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            (size_t)json_integer_value(id) >= in->tokens->words.size)
            return error_set(in->error, CENTO_INVALID_MODEL, "%s: an id of '%.100s' is not in the vocabulary",
                             here->text, name);
        TRY(token_vec_push(ids, (int32_t)json_integer_value(id), in->error));
    }
    return CENTO_OK;
}

/* The template of one sequence: what stands before $A and behind it. */
static cento_status read_template(reader *in, const place *here, const json_t *component, token_vec *prefix,
                                  token_vec *suffix) {
    const json_t *single = json_object_get(component, "single");
    if (!json_is_array(single))
        return invalid(in, here, "single", "an array", single);
    bool sequence_seen = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        place inside = place_inside(here, "single", i);
        const json_t *sequence = json_object_get(item, "Sequence");
        const json_t *special = json_object_get(item, "SpecialToken");
        if (sequence != NULL) {
            const char *name;
            size_t bytes;
            TRY(required_string(in, &inside, sequence, "id", &name, &bytes));
            if (strcmp(name, "A") != 0 || sequence_seen)
                return unsupported(in, &inside, "the sequence", name);
            sequence_seen = true;
        } else if (special != NULL) {
            const char *name;
            size_t bytes;
            TRY(required_string(in, &inside, special, "id", &name, &bytes));
            TRY(append_special(in, here, component, name, sequence_seen ? suffix : prefix));
        } else {
            return error_set(in->error, CENTO_INVALID_MODEL,
                             "%s: must be an object with 'Sequence' or 'SpecialToken'", inside.text);
        }
    }
    if (!sequence_seen)
        return unsupported(in, here, "a template without", "$A");
    return CENTO_OK;
}

static cento_status read_post_processor(reader *in, const place *here, const json_t *component,
                                        size_t depth) {
    const char *type = type_of(in, here, component);
    if (type == NULL)
        return in->error == NULL ? CENTO_INVALID_MODEL : in->error->status;
    if (strcmp(type, "Sequence") == 0)
        return read_sequence(in, here, component, "processors", depth, read_post_processor);
    if (strcmp(type, "ByteLevel") == 0) /* moves offsets only */
        return CENTO_OK;
    if (strcmp(type, "TemplateProcessing") != 0)
        return unsupported(in, here, "the post-processor", type);
    /* Hugging Face would take what the first template gave as several sequences */
    if (in->template_seen)
        return unsupported(in, here, "a second", type);
    in->template_seen = true;
    return read_template(in, here, component, &in->tokens->prefix, &in->tokens->suffix);
}

/* ------------------------------------------------------------------ fingerprint ------------ */

static int hash_json_bytes(const char *buffer, size_t bytes, void *hash) {
    sha256_update(hash, buffer, bytes);
    return 0;
}

static cento_status fingerprint(reader *in, const json_t *root) {
    static const char *const components[] = {"normalizer", "pre_tokenizer", "post_processor", "added_tokens"};
    sha256 hash;
    sha256_init(&hash);
    sha256_update_string(&hash, "cento tokenizer 1: tokenizer.json");
    bool failed = false;
    for (size_t i = 0; i < sizeof components / sizeof *components; i++) {
        sha256_update_string(&hash, components[i]);
        const json_t *component = member(root, components[i]);
        if (component != NULL && json_dump_callback(component, hash_json_bytes, &hash,
                                                    JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY) != 0)
            failed = true;
    }
    tokenizer_hash(in->tokens, &hash);
    cento_status status = sha256_final(&hash, in->tokens->fingerprint, in->error);
    return failed ? error_memory(in->error, 0) : status;
}

/* ------------------------------------------------------------------ the file --------------- */

static cento_status read_optional(reader *in, const json_t *root, const char *key, component_reader read) {
    const json_t *component = member(root, key);
    if (component == NULL)
        return CENTO_OK;
    place here = place_root(in, key);
    return read(in, &here, component, 0);
}

static cento_status read_root(reader *in, const json_t *root) {
    if (!json_is_object(root))
        return error_set(in->error, CENTO_INVALID_MODEL, "%s: must hold an object, found %s", in->where,
                         json_type_name(root));
    TRY(read_model(in, root));
    TRY(read_optional(in, root, "normalizer", read_normalizer));
    TRY(read_optional(in, root, "pre_tokenizer", read_pretokenizer));
    TRY(read_added_tokens(in, root));
    TRY(read_optional(in, root, "post_processor", read_post_processor));
    TRY(read_optional(in, root, "decoder", read_decoder));
    in->tokens->decoder_spaces = member(root, "decoder") == NULL;
    return fingerprint(in, root);
}

static cento_status open_root(const char *where, const json_t *root, tokenizer **result, cento_error *error) {
    cento_error unused = {0};
    tokenizer *tokens = tokenizer_new();
    if (tokens == NULL)
        return error_memory(error, sizeof *tokens);
    reader in = {.tokens = tokens, .where = where, .error = error == NULL ? &unused : error};
    cento_status status = read_root(&in, root);
    if (status == CENTO_OK)
        *result = tokens;
    else
        tokenizer_close(tokens);
    return status;
}

cento_status tokenizer_open_json_bytes(const char *where, const char *text, size_t bytes, tokenizer **result,
                                       cento_error *error) {
    json_t *root;
    TRY(json_read_bytes(where, text, bytes, &root, error));
    cento_status status = open_root(where, root, result, error);
    json_decref(root);
    return status;
}

/* bos_token and eos_token: a string, or an object with 'content'. */
static cento_status read_config_token(const json_t *config, const char *where, const char *key,
                                      const tokenizer *tokens, int32_t *id, cento_error *error) {
    const json_t *value = member(config, key);
    if (json_is_object(value))
        value = member(value, "content");
    if (value == NULL)
        return CENTO_OK;
    if (!json_is_string(value))
        return error_set(error, CENTO_INVALID_MODEL, "%s: '%s' must be a string, found %s", where, key,
                         json_type_name(value));
    *id = tokenizer_find(tokens, json_string_value(value), json_string_length(value));
    if (*id < 0)
        return error_set(error, CENTO_INVALID_MODEL, "%s: '%s' is '%.200s', which is not in the vocabulary",
                         where, key, json_string_value(value));
    return CENTO_OK;
}

static cento_status read_config(const char *path, tokenizer *tokens, cento_error *error) {
    json_t *config;
    TRY(json_read_file(path, JSON_BYTES_MAX, &config, error));
    cento_status status = CENTO_OK;
    if (!json_is_object(config))
        status = error_set(error, CENTO_INVALID_MODEL, "%s: must hold an object, found %s", path,
                           json_type_name(config));
    if (status == CENTO_OK)
        status = read_config_token(config, path, "bos_token", tokens, &tokens->bos, error);
    if (status == CENTO_OK)
        status = read_config_token(config, path, "eos_token", tokens, &tokens->eos, error);
    json_decref(config);
    return status;
}

cento_status tokenizer_open_json(const char *path, const char *config_path, tokenizer **result,
                                 cento_error *error) {
    json_t *root;
    TRY(json_read_file(path, JSON_BYTES_MAX, &root, error));
    tokenizer *tokens = NULL;
    cento_status status = open_root(path, root, &tokens, error);
    json_decref(root);
    if (status == CENTO_OK && config_path != NULL)
        status = read_config(config_path, tokens, error);
    if (status == CENTO_OK)
        *result = tokens;
    else
        tokenizer_close(tokens);
    return status;
}
