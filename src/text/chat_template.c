/*
 * Chat templates, see chat_template.h: compiling, rendering, and the errors of both. Callable from any
 * thread; one render uses one thread.
 */
#include "template.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

#define SOURCE_BYTES_MAX   ((size_t)4 << 20)
#define COMPILED_BYTES_MAX ((size_t)256 << 20)
#define DEPTH_MAX          1000

const template_options template_defaults = {
    .steps_max = 20u << 20,
    .output_bytes_max = (size_t)64 << 20,
    .memory_bytes_max = (size_t)512 << 20,
};

/* ------------------------------------------------------------------------------- errors ---- */

/* "where: line L, column C: message"; columns count characters. What would break the line is a space. */
static void fail_at(const chat_template *compiled, size_t position, cento_error *error, const char *format,
                    va_list arguments) {
    if (error == NULL)
        return;
    size_t line = 1, line_start = 0;
    for (size_t i = 0; i < position && i < compiled->bytes; i++) {
        if (compiled->source[i] == '\n') {
            line++;
            line_start = i + 1;
        }
    }
    char message[sizeof error->message];
    vsnprintf(message, sizeof message, format, arguments);
    for (char *c = message; *c != '\0'; c++)
        if ((unsigned char)*c < 32)
            *c = ' ';
    size_t bytes = strlen(message); /* the cut may have gone through a character */
    message[utf8_complete_prefix(message, bytes)] = '\0';
    error_set(error, CENTO_TEMPLATE, "%s: line %zu, column %zu: %s", compiled->where, line,
              utf8_count(compiled->source + line_start, position - line_start) + 1, message);
}

void compile_error(compiler *c, size_t position, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fail_at(c->compiled, position, c->error, format, arguments);
    va_end(arguments);
}

void render_error(render *r, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fail_at(r->compiled, r->position, r->error, format, arguments);
    va_end(arguments);
}

/* ---------------------------------------------------------------------------- compiling ---- */

/* \r\n and \r become \n; the last line break goes. */
static cento_status copy_source(chat_template *compiled, const char *source, size_t bytes,
                                cento_error *error) {
    char *copy = arena_alloc(&compiled->memory, bytes + 1, 1);
    if (copy == NULL)
        return error_memory(error, bytes);
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (source[i] == '\r' && i + 1 < bytes && source[i + 1] == '\n')
            continue;
        copy[count++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (count > 0 && copy[count - 1] == '\n')
        count--;
    copy[count] = '\0';
    compiled->source = copy;
    compiled->bytes = count;
    return CENTO_OK;
}

static cento_status compile(chat_template *compiled, cento_error *error) {
    compiler c = {.compiled = compiled, .memory = &compiled->memory, .error = error};
    cento_status status = template_tokenize(&c);
    if (status == CENTO_OK)
        status = template_parse(&c);
    if (status == CENTO_OK)
        status = template_resolve_names(&c);
    mem_free(c.tokens);
    mem_free(c.name_of);
    strmap_free(&c.names);
    return status;
}

cento_status chat_template_compile(const char *where, const char *source, size_t bytes,
                                   chat_template **result, cento_error *error) {
    if (bytes > SOURCE_BYTES_MAX)
        return error_set(error, CENTO_TEMPLATE, "%s: %zu bytes, at most %zu are allowed", where, bytes,
                         SOURCE_BYTES_MAX);
    size_t invalid = utf8_invalid_offset(source, bytes);
    if (invalid != SIZE_MAX)
        return error_set(error, CENTO_TEMPLATE, "%s: the byte at offset %zu is not UTF-8", where, invalid);
    chat_template *compiled = mem_zalloc(1, sizeof *compiled);
    if (compiled == NULL)
        return error_memory(error, sizeof *compiled);
    arena_init(&compiled->memory, COMPILED_BYTES_MAX);
    compiled->where = arena_copy(&compiled->memory, where, strlen(where));
    cento_status status = compiled->where == NULL ? error_memory(error, strlen(where)) : CENTO_OK;
    if (status == CENTO_OK)
        status = copy_source(compiled, source, bytes, error);
    if (status == CENTO_OK)
        status = compile(compiled, error);
    if (status != CENTO_OK) {
        chat_template_free(compiled);
        return status;
    }
    *result = compiled;
    return CENTO_OK;
}

void chat_template_free(chat_template *compiled) {
    if (compiled == NULL)
        return;
    arena_free(&compiled->memory);
    mem_free(compiled);
}

/* ---------------------------------------------------------------------------- rendering ---- */

void render_memory_error(render *r) {
    if (r->memory.limit_reached)
        render_error(r, "the template needs more than %zu bytes of memory", r->options->memory_bytes_max);
    else
        error_memory(r->error, r->memory.bytes);
}

void *render_alloc(render *r, size_t count, size_t size) {
    return arena_alloc(&r->memory, count, size);
}

cento_status render_step(render *r, size_t bytes) {
    r->steps += 1 + bytes / 16;
    if (r->steps > r->options->steps_max)
        return render_fail(r, "the template takes more than %llu steps",
                           (unsigned long long)r->options->steps_max);
    return CENTO_OK;
}

cento_status render_enter(render *r) {
    if (r->depth >= DEPTH_MAX)
        return render_fail(r, "maximum recursion depth exceeded");
    r->depth++;
    return CENTO_OK;
}

size_t render_begin(const render *r) {
    return r->output->bytes;
}

cento_status render_end(render *r, size_t begin, value *result) {
    strbuf *output = r->output;
    if (output->failed)
        return error_memory(r->error, output->bytes);
    size_t bytes = output->bytes - begin;
    TRY(value_text(r, bytes == 0 ? "" : output->data + begin, bytes, result));
    output->bytes = begin;
    if (output->data != NULL)
        output->data[begin] = '\0';
    return CENTO_OK;
}

cento_status render_append(render *r, const char *data, size_t bytes) {
    if (bytes > r->options->output_bytes_max - (r->output->bytes - r->output_base))
        return render_fail(r, "the template makes more than %zu bytes of text", r->options->output_bytes_max);
    strbuf_append(r->output, data, bytes);
    return render_step(r, bytes);
}

static cento_status render_root(render *r, const json_t *context) {
    value converted;
    frame *root;
    TRY(value_from_json(r, context, &converted));
    r->context = converted.as.dict;
    TRY(template_frame(r, r->compiled->layout, NULL, &root));
    TRY(template_frame_enter(r, root));
    return template_execute(r, root, r->compiled->body);
}

cento_status template_render(const chat_template *compiled, const json_t *context,
                             const template_options *options, strbuf *output, cento_error *error) {
    if (!json_is_object(context))
        return error_set(error, CENTO_INVALID_ARGUMENT, "%s: the context must be an object", compiled->where);
    render r = {.compiled = compiled,
                .options = options,
                .output = output,
                .output_base = output->bytes,
                .error = error};
    arena_init(&r.memory, options->memory_bytes_max);
    cento_status status = render_root(&r, context);
    arena_free(&r.memory);
    if (status == CENTO_OK)
        return strbuf_check(output, error);
    output->bytes = r.output_base; /* nothing of a failed render stays */
    if (output->data != NULL)
        output->data[output->bytes] = '\0';
    return status;
}

cento_status chat_template_render(const chat_template *compiled, const json_t *context, strbuf *text,
                                  cento_error *error) {
    return template_render(compiled, context, &template_defaults, text, error);
}
