/* Pieces to parts; see prompt.h. */
#include "prompt.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"

enum { TEMPLATE_BYTES_MAX = 1 << 20, CONFIG_BYTES_MAX = 64 << 20, PIECES_MAX = 1 << 16 };

/* ------------------------------------------------------------------ the model's folder ---- */

/* HF writes special tokens as a string or as an object with its "content". */
static cento_status load_variables(const json_t *config, prompt_format *format, cento_error *error) {
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    format->variables = json_object();
    for (size_t i = 0; format->variables != NULL && i < sizeof names / sizeof *names; i++) {
        const json_t *value = json_object_get(config, names[i]);
        if (json_is_object(value))
            value = json_object_get(value, "content");
        if (json_is_string(value) && json_object_set(format->variables, names[i], (json_t *)value) != 0)
            return error_memory(error, 0);
    }
    return format->variables == NULL ? error_memory(error, 0) : CENTO_OK;
}

/* `chat_template` of tokenizer_config.json: a string, or a list of {name, template}. NULL: none. */
static const char *configured_template(const json_t *config) {
    const json_t *value = json_object_get(config, "chat_template");
    if (json_is_string(value))
        return json_string_value(value);
    size_t index;
    const json_t *entry;
    json_array_foreach(value, index, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name != NULL && strcmp(name, "default") == 0)
            return json_string_value(json_object_get(entry, "template"));
    }
    return NULL;
}

/* A template that does not compile is remembered: raw requests do not need it. */
static void compile_template(const char *where, const char *source, size_t bytes, prompt_format *format) {
    cento_status status = chat_template_compile(where, source, bytes, &format->chat, &format->chat_error);
    if (status != CENTO_OK)
        format->chat_error.status = status;
}

static cento_status load_template(const char *folder, const json_t *config, prompt_format *format,
                                  cento_error *error) {
    char *path = path_join(folder, "chat_template.jinja");
    if (path == NULL)
        return error_memory(error, strlen(folder));
    cento_status status = CENTO_OK;
    const char *configured = configured_template(config);
    if (file_exists(path)) {
        strbuf source = {0};
        status = file_read(path, TEMPLATE_BYTES_MAX, &source, error);
        if (status == CENTO_OK)
            compile_template("chat_template.jinja", source.data == NULL ? "" : source.data, source.bytes,
                             format);
        strbuf_free(&source);
    } else if (configured != NULL) {
        compile_template("tokenizer_config.json: chat_template", configured, strlen(configured), format);
    }
    mem_free(path);
    return status;
}

cento_status prompt_format_load(const char *folder, uint32_t vocab_size, prompt_format *format,
                                cento_error *error) {
    *format = (prompt_format){.vocab_size = vocab_size};
    char *tokenizer_path = path_join(folder, "tokenizer.json");
    char *config_path = path_join(folder, "tokenizer_config.json");
    json_t *config = NULL;
    cento_status status = CENTO_OK;
    if (tokenizer_path == NULL || config_path == NULL) {
        status = error_memory(error, strlen(folder));
        goto done;
    }
    bool configured = file_exists(config_path);
    TRY_GOTO(status,
             tokenizer_open_json(tokenizer_path, configured ? config_path : NULL, &format->tokens, error),
             done);
    if (configured)
        TRY_GOTO(status, json_read_file(config_path, CONFIG_BYTES_MAX, &config, error), done);
    TRY_GOTO(status, load_variables(config, format, error), done);
    TRY_GOTO(status, load_template(folder, config, format, error), done);
done:
    json_decref(config);
    mem_free(tokenizer_path);
    mem_free(config_path);
    if (status != CENTO_OK)
        prompt_format_free(format);
    return status;
}

void prompt_format_free(prompt_format *format) {
    tokenizer_close(format->tokens);
    chat_template_free(format->chat);
    json_decref(format->variables);
    *format = (prompt_format){0};
}

/* ------------------------------------------------------------------ one piece ---- */

/* "piece 2 (context 'a.txt')" */
static cento_status refuse_piece(const cento_piece *piece, size_t index, const char *detail,
                                 cento_error *error) {
    if (piece->label != NULL)
        return error_set(error, CENTO_INVALID_ARGUMENT, "piece %zu (%s '%.100s') %s", index,
                         cento_kind_name(piece->kind), piece->label, detail);
    return error_set(error, CENTO_INVALID_ARGUMENT, "piece %zu (%s) %s", index, cento_kind_name(piece->kind),
                     detail);
}

static cento_status check_piece(const prompt_format *format, const cento_piece *piece, size_t index,
                                cento_error *error) {
    char detail[160];
    if ((int)piece->kind < CENTO_KIND_SYSTEM || piece->kind > CENTO_KIND_TOOL)
        return refuse_piece(piece, index, "has no valid kind", error);
    if (piece->text != NULL && piece->tokens != NULL)
        return refuse_piece(piece, index, "has both text and tokens, expected one of them", error);
    if (piece->tokens != NULL) {
        for (size_t i = 0; i < piece->token_count; i++) {
            if (piece->tokens[i] >= 0 && (uint32_t)piece->tokens[i] < format->vocab_size)
                continue;
            snprintf(detail, sizeof detail,
                     "has token id %d at index %zu, the model's vocabulary has 0 to %u", piece->tokens[i], i,
                     format->vocab_size - 1);
            return refuse_piece(piece, index, detail, error);
        }
        return piece->token_count == 0 ? refuse_piece(piece, index, "is empty", error) : CENTO_OK;
    }
    if (piece->text == NULL || piece->text_bytes == 0)
        return refuse_piece(piece, index, "is empty", error);
    size_t offset = utf8_invalid_offset(piece->text, piece->text_bytes);
    if (offset != SIZE_MAX) {
        snprintf(detail, sizeof detail, "is not valid UTF-8 at byte %zu (0x%02X)", offset,
                 (unsigned int)(unsigned char)piece->text[offset]);
        return refuse_piece(piece, index, detail, error);
    }
    return CENTO_OK;
}

/* A tokenizer may know more tokens than the model has embeddings for. */
static cento_status check_vocabulary(const prompt_format *format, const token_vec *tokens, size_t begin,
                                     cento_error *error) {
    for (size_t i = begin; i < tokens->count; i++) {
        if (tokens->ids[i] < 0 || (uint32_t)tokens->ids[i] >= format->vocab_size)
            return error_set(error, CENTO_INVALID_MODEL,
                             "the tokenizer gives token %d, the model's vocabulary has 0 to %u",
                             tokens->ids[i], format->vocab_size - 1);
    }
    return CENTO_OK;
}

cento_status prompt_piece_tokens(const prompt_format *format, const cento_piece *piece, size_t index,
                                 token_vec *tokens, cento_error *error) {
    TRY(check_piece(format, piece, index, error));
    if (piece->tokens != NULL)
        return token_vec_append(tokens, piece->tokens, piece->token_count, error);
    size_t begin = tokens->count;
    TRY(tokenizer_encode(format->tokens, piece->text, piece->text_bytes, false, false, tokens, error));
    if (tokens->count == begin)
        return refuse_piece(piece, index, "has no tokens", error);
    return check_vocabulary(format, tokens, begin, error);
}

/* ------------------------------------------------------------------ parts ---- */

/* The tokens from token_begin to the end become a part, if there are any. */
static cento_status close_part(const prompt_format *format, prompt *built, size_t piece, size_t token_begin,
                               cento_error *error) {
    size_t token_count = built->tokens.count - token_begin;
    if (token_count == 0)
        return CENTO_OK;
    if (built->tokens.count > INT32_MAX)
        return error_set(error, CENTO_CONTEXT_FULL, "the prompt has more than %d tokens", INT32_MAX);
    if (!mem_grow((void **)&built->parts, &built->part_capacity, built->part_count + 1, sizeof *built->parts))
        return error_memory(error, (built->part_count + 1) * sizeof *built->parts);
    prompt_part *part = &built->parts[built->part_count];
    part->piece = piece;
    part->token_begin = (uint32_t)token_begin;
    part->token_count = (uint32_t)token_count;
    TRY(content_id_of(tokenizer_fingerprint(format->tokens), built->tokens.ids + token_begin, token_count,
                      &part->content_id, error));
    built->part_count++;
    return CENTO_OK;
}

static cento_status add_piece(const prompt_format *format, const cento_piece *pieces, size_t index,
                              prompt *built, cento_error *error) {
    size_t begin = built->tokens.count;
    TRY(prompt_piece_tokens(format, &pieces[index], index, &built->tokens, error));
    return close_part(format, built, index, begin, error);
}

static cento_status add_template_text(const prompt_format *format, const char *text, size_t bytes,
                                      prompt *built, cento_error *error) {
    size_t begin = built->tokens.count;
    if (bytes > 0)
        TRY(tokenizer_encode(format->tokens, text, bytes, false, true, &built->tokens, error));
    TRY(check_vocabulary(format, &built->tokens, begin, error));
    return close_part(format, built, PROMPT_TEMPLATE, begin, error);
}

/* What the tokenizer puts before a text: its encoding of no text at all, without an EOS that closes it. */
static cento_status add_bos(const prompt_format *format, const cento_piece *first, prompt *built,
                            cento_error *error) {
    token_vec special = {0};
    cento_status status = tokenizer_encode(format->tokens, "", 0, true, false, &special, error);
    size_t count = special.count;
    if (status == CENTO_OK && count > 0 && special.ids[count - 1] == tokenizer_eos(format->tokens) &&
        (count > 1 || special.ids[0] != tokenizer_bos(format->tokens)))
        count--;
    bool there = count > 0 && first->tokens != NULL && first->token_count >= count &&
                 memcmp(first->tokens, special.ids, count * sizeof *special.ids) == 0;
    if (status == CENTO_OK && !there)
        status = token_vec_append(&built->tokens, special.ids, count, error);
    token_vec_free(&special);
    TRY(status);
    TRY(check_vocabulary(format, &built->tokens, 0, error));
    return close_part(format, built, PROMPT_TEMPLATE, 0, error);
}

static cento_status build_joined(const prompt_format *format, const cento_piece *pieces, size_t piece_count,
                                 const char *separator, prompt *built, cento_error *error) {
    TRY(add_bos(format, &pieces[0], built, error));
    for (size_t i = 0; i < piece_count; i++) {
        TRY(add_piece(format, pieces, i, built, error));
        TRY(add_template_text(format, separator, strlen(separator), built, error));
    }
    return CENTO_OK;
}

/* ------------------------------------------------------------------ messages ---- */

/*
 * A sentinel: a mark, the piece's index in four base-16 digits, a mark, all from the last private-use plane,
 * which no template trims, changes in case or escapes. Six characters of four bytes, all beginning F4 8F BF.
 */
enum {
    SENTINEL_BEGIN = 0x10FFF0,
    SENTINEL_END = 0x10FFF1,
    SENTINEL_DIGIT = 0x10FFE0,
    SENTINEL_BYTES = 6 * 4,
};

static void put_sentinel(strbuf *text, size_t piece) {
    strbuf_put_codepoint(text, SENTINEL_BEGIN);
    for (int shift = 12; shift >= 0; shift -= 4)
        strbuf_put_codepoint(text, SENTINEL_DIGIT + (uint32_t)(piece >> shift & 15));
    strbuf_put_codepoint(text, SENTINEL_END);
}

/* Is there a whole sentinel at text? */
static bool read_sentinel(const char *text, size_t bytes, size_t *piece) {
    if (bytes < SENTINEL_BYTES)
        return false;
    *piece = 0;
    for (size_t i = 0; i < 6; i++) {
        uint32_t codepoint;
        if (utf8_decode(text + 4 * i, 4, &codepoint) != 4)
            return false;
        if (i == 0 || i == 5) {
            if (codepoint != (i == 0 ? SENTINEL_BEGIN : SENTINEL_END))
                return false;
        } else {
            if (codepoint < SENTINEL_DIGIT || codepoint > SENTINEL_DIGIT + 15)
                return false;
            *piece = *piece << 4 | (codepoint - SENTINEL_DIGIT);
        }
    }
    return true;
}

/* The pieces' messages, as they are being made. */
typedef struct message_list {
    json_t *messages; /* owned */
    const char *role; /* of the message under way; NULL: none */
    strbuf content;   /* of the same */
    size_t *order;    /* (piece_count) pieces in the order in which they went in; owned */
    size_t order_count;
    size_t system_count; /* of these, at the beginning: those in the system message */
} message_list;

static cento_status close_message(message_list *list, cento_error *error) {
    if (list->role == NULL)
        return CENTO_OK;
    TRY(strbuf_check(&list->content, error));
    json_t *message = json_pack("{s:s, s:s}", "role", list->role, "content", list->content.data);
    if (message == NULL || json_array_append_new(list->messages, message) != 0)
        return error_memory(error, list->content.bytes);
    list->role = NULL;
    strbuf_clear(&list->content);
    return CENTO_OK;
}

static void add_to_message(message_list *list, const char *role, size_t piece) {
    if (list->role != NULL)
        strbuf_puts(&list->content, "\n\n");
    list->role = role;
    put_sentinel(&list->content, piece);
    list->order[list->order_count++] = piece;
}

static bool in_system_message(cento_kind kind) {
    return kind == CENTO_KIND_SYSTEM || kind == CENTO_KIND_TOOL;
}

static cento_status lay_out_messages(const cento_piece *pieces, size_t piece_count, message_list *list,
                                     cento_error *error) {
    for (size_t i = 0; i < piece_count; i++) {
        if (in_system_message(pieces[i].kind))
            add_to_message(list, "system", i);
    }
    TRY(close_message(list, error));
    list->system_count = list->order_count;
    for (size_t i = 0; i < piece_count; i++) {
        if (in_system_message(pieces[i].kind))
            continue;
        bool output = pieces[i].kind == CENTO_KIND_OUTPUT;
        if (output)
            TRY(close_message(list, error));
        add_to_message(list, output ? "assistant" : "user", i);
        if (output || pieces[i].kind == CENTO_KIND_QUERY)
            TRY(close_message(list, error));
    }
    return close_message(list, error);
}

static cento_status render_messages(const prompt_format *format, json_t *messages, strbuf *rendered,
                                    cento_error *error) {
    json_t *context = json_deep_copy(format->variables);
    if (context == NULL || json_object_set(context, "messages", messages) != 0 ||
        json_object_set_new(context, "tools", json_null()) != 0 ||
        json_object_set_new(context, "documents", json_null()) != 0 ||
        json_object_set_new(context, "add_generation_prompt", json_true()) != 0) {
        json_decref(context);
        return error_memory(error, 0);
    }
    cento_status status = chat_template_render(format->chat, context, rendered, error);
    json_decref(context);
    return status == CENTO_OK ? strbuf_check(rendered, error) : status;
}

static cento_status refuse_template(const cento_piece *pieces, size_t piece, const char *what,
                                    cento_error *error) {
    return error_set(error, CENTO_TEMPLATE, "the chat template %s piece %zu (%s)", what, piece,
                     cento_kind_name(pieces[piece].kind));
}

/* What came out is not the sentinel that was due: of the system message, order[system], or of the others,
 * order[other]. */
static cento_status refuse_sentinel(const cento_piece *pieces, const message_list *list, size_t system,
                                    size_t other, bool whole, size_t piece, cento_error *error) {
    for (size_t i = 0; whole && i < other; i++) {
        bool came_out = i < system || i >= list->system_count;
        if (came_out && piece == list->order[i])
            return refuse_template(pieces, piece, "repeats", error);
    }
    size_t due = system < list->system_count ? system : other < list->order_count ? other : other - 1;
    return refuse_template(pieces, list->order[due], whole ? "leaves out or moves" : "cuts or changes",
                           error);
}

/* Cuts the rendered text at the sentinels. Each must come out once, in order; the system message may stand
 * elsewhere than at the beginning (Mistral puts it before the last query). */
static cento_status cut_rendered(const prompt_format *format, const cento_piece *pieces,
                                 const message_list *list, const strbuf *rendered, prompt *built,
                                 cento_error *error) {
    static const char prefix[] = "\xF4\x8F\xBF";
    const char *glue = rendered->data == NULL ? "" : rendered->data;
    const char *end = glue + rendered->bytes;
    size_t system = 0, other = list->system_count; /* due next */
    for (;;) {
        const char *sentinel = memmem(glue, (size_t)(end - glue), prefix, sizeof prefix - 1);
        if (sentinel == NULL)
            break;
        size_t piece = 0;
        bool whole = read_sentinel(sentinel, (size_t)(end - sentinel), &piece);
        if (whole && system < list->system_count && piece == list->order[system])
            system++;
        else if (whole && other < list->order_count && piece == list->order[other])
            other++;
        else
            return refuse_sentinel(pieces, list, system, other, whole, piece, error);
        TRY(add_template_text(format, glue, (size_t)(sentinel - glue), built, error));
        TRY(add_piece(format, pieces, piece, built, error));
        glue = sentinel + SENTINEL_BYTES;
    }
    if (system < list->system_count || other < list->order_count)
        return refuse_template(pieces, list->order[system < list->system_count ? system : other],
                               "leaves out", error);
    return add_template_text(format, glue, (size_t)(end - glue), built, error);
}

static cento_status build_with_template(const prompt_format *format, const cento_piece *pieces,
                                        size_t piece_count, prompt *built, cento_error *error) {
    message_list list = {.messages = json_array(), .order = mem_alloc(piece_count, sizeof(size_t))};
    strbuf rendered = {0};
    cento_status status;
    if (list.messages == NULL || list.order == NULL) {
        status = error_memory(error, piece_count * sizeof(size_t));
        goto done;
    }
    TRY_GOTO(status, lay_out_messages(pieces, piece_count, &list, error), done);
    TRY_GOTO(status, render_messages(format, list.messages, &rendered, error), done);
    TRY_GOTO(status, cut_rendered(format, pieces, &list, &rendered, built, error), done);
done:
    strbuf_free(&rendered);
    strbuf_free(&list.content);
    mem_free(list.order);
    json_decref(list.messages);
    return status;
}

cento_status prompt_build(const prompt_format *format, const cento_piece *pieces, size_t piece_count,
                          bool raw, prompt *result, cento_error *error) {
    if (pieces == NULL || piece_count == 0)
        return error_set(error, CENTO_INVALID_ARGUMENT, "a prompt needs at least one piece");
    if (piece_count > PIECES_MAX)
        return error_set(error, CENTO_INVALID_ARGUMENT, "%zu pieces, at most %d are allowed", piece_count,
                         PIECES_MAX);
    for (size_t i = 0; i < piece_count; i++)
        TRY(check_piece(format, &pieces[i], i, error));
    if (raw)
        return build_joined(format, pieces, piece_count, "", result, error);
    if (format->chat_error.status != CENTO_OK)
        return error_set(error, format->chat_error.status, "%s", format->chat_error.message);
    if (format->chat == NULL)
        return build_joined(format, pieces, piece_count, "\n\n", result, error);
    return build_with_template(format, pieces, piece_count, result, error);
}

void prompt_free(prompt *built) {
    token_vec_free(&built->tokens);
    mem_free(built->parts);
    *built = (prompt){0};
}
