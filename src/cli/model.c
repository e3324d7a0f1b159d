/*
 * cento model: what a model folder holds and what memory it needs, without loading the weights. What there
 * is to show is the library's affair (cento_model_describe); here its JSON becomes a table.
 */
#include <string.h>

#include "base/mem.h"
#include "input.h"
#include "result.h"
#include "settings.h"
#include "term.h"

typedef struct model_settings {
    uint32_t context_tokens;
    bool json;
} model_settings;

static const option_spec model_specs[] = {
    {"context", OPTION_U32, offsetof(model_settings, context_tokens), "N", 1, 1 << 24,
     "memory needed for a context of N tokens (default: the model's limit)"},
    {"json", OPTION_FLAG, offsetof(model_settings, json), NULL, 0, 0, "print the JSON object"},
};

static bool ends_with(const char *text, const char *end) {
    size_t text_bytes = strlen(text), end_bytes = strlen(end);
    return text_bytes >= end_bytes && strcmp(text + text_bytes - end_bytes, end) == 0;
}

/* "kv_bytes_per_token" reads "KV per token": the unit stands at the value. */
static void append_name(strbuf *name, const char *key) {
    bool first = true;
    while (*key != '\0') {
        size_t bytes = strcspn(key, "_");
        bool unit = bytes == 5 && strncmp(key, "bytes", bytes) == 0;
        if (!unit) {
            strbuf_puts(name, first ? "" : " ");
            if (bytes == 2 && strncmp(key, "kv", bytes) == 0)
                strbuf_puts(name, "KV");
            else if (bytes == 4 && strncmp(key, "rope", bytes) == 0)
                strbuf_puts(name, "RoPE");
            else if (bytes == 6 && strncmp(key, "weight", bytes) == 0)
                strbuf_puts(name, "weights");
            else
                strbuf_append(name, key, bytes);
            first = false;
        }
        key += bytes + (key[bytes] == '_');
    }
    if (first)
        strbuf_puts(name, "size");
}

static bool in_bytes(const char *key) {
    return ends_with(key, "bytes") || strstr(key, "bytes_") != NULL;
}

static void append_value(strbuf *text, const char *key, const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_STRING:
        strbuf_puts(text, json_string_value(value));
        return;
    case JSON_INTEGER:
        if (json_integer_value(value) < 0)
            strbuf_printf(text, "%lld", (long long)json_integer_value(value));
        else if (in_bytes(key))
            append_size(text, (uint64_t)json_integer_value(value));
        else
            append_count(text, (uint64_t)json_integer_value(value));
        return;
    case JSON_REAL:
        strbuf_printf(text, "%g", json_real_value(value));
        return;
    case JSON_TRUE:
        strbuf_puts(text, "yes");
        return;
    case JSON_FALSE:
        strbuf_puts(text, "no");
        return;
    case JSON_NULL:
        strbuf_puts(text, "none");
        return;
    case JSON_OBJECT:
    case JSON_ARRAY:
        return;
    }
}

/* The scalars of an object or array on one line: "model.safetensors 10.4 MB". */
static void append_line(strbuf *text, const json_t *value) {
    const char *key;
    json_t *member;
    bool first = true;
    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            strbuf_puts(text, i == 0 ? "" : ", ");
            const json_t *entry = json_array_get(value, i);
            if (json_is_integer(entry)) /* token ids: names, not counts */
                strbuf_printf(text, "%lld", (long long)json_integer_value(entry));
            else
                append_value(text, "", entry);
        }
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, member) {
        strbuf_puts(text, first ? "" : "  ");
        append_value(text, key, member);
        first = false;
    }
}

static void add_row(table *rows, size_t depth, const char *key, strbuf *value) {
    strbuf name = {0};
    append_name(&name, key);
    table_add(rows, "%*s%s", (int)(2 * depth), "", name.data == NULL ? "" : name.data);
    table_add(rows, "%s", value->data == NULL ? "" : value->data);
    strbuf_free(&name);
    strbuf_free(value);
}

static void add_object(table *rows, size_t depth, const json_t *object) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        strbuf text = {0};
        if (json_is_object(value) && depth < 3) {
            add_row(rows, depth, key, &text);
            add_object(rows, depth + 1, value);
        } else if (json_is_array(value) && json_is_object(json_array_get(value, 0))) {
            for (size_t i = 0; i < json_array_size(value); i++) {
                append_line(&text, json_array_get(value, i));
                add_row(rows, depth, i == 0 ? key : "", &text);
            }
        } else if (json_is_array(value)) {
            append_line(&text, value);
            add_row(rows, depth, key, &text);
        } else {
            append_value(&text, key, value);
            add_row(rows, depth, key, &text);
        }
    }
}

static int show(const char *json) {
    json_t *description = json_loads(json, 0, NULL);
    if (!json_is_object(description)) {
        json_decref(description);
        message_error("the model's description is not a JSON object");
        return EXIT_STATUS_FAILURE;
    }
    table rows;
    table_init(&rows, "ll");
    add_object(&rows, 0, description);
    table_print(&rows, stdout, false);
    json_decref(description);
    return output_finish();
}

static int run(const command *self, int argc, char **argv) {
    model_settings settings = {0};
    const option_group groups[] = {
        {"Options", model_specs, sizeof model_specs / sizeof model_specs[0], &settings},
    };
    int status = options_parse(self, groups, 1, &argc, argv);
    if (status >= 0)
        return status;
    if (argc > 1)
        return usage_error(self, "expected one model folder, found %d", argc);
    cento_error error;
    char *path = NULL, *json = NULL;
    if (model_path_find(argc == 1 ? argv[0] : NULL, &path, &error) != CENTO_OK ||
        cento_model_describe(path, settings.context_tokens, &json, &error) != CENTO_OK)
        status = fail(&error);
    else
        status = settings.json ? print_json(json_loads(json, 0, NULL)) : show(json);
    cento_free(json);
    mem_free(path);
    return status;
}

const command model_command = {
    .name = "model",
    .summary = "what a model folder holds, the memory it needs",
    .usage = "[options] [DIR]",
    .details =
        "Reads a model folder's headers, not its weights: architecture, sizes, files, and the memory that "
        "weights and KV take for a context. Without DIR: $CENTO_MODEL, else cento-tiny.",
    .examples = "  cento model\n"
                "  cento model --context 32768 ~/models/Qwen3-0.6B\n",
    .run = run,
};
