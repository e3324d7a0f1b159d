/* cento tokenize: text to token ids and back, with any model folder or GGUF vocabulary. */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "input.h"
#include "result.h"
#include "settings.h"
#include "term.h"

typedef struct tokenize_settings {
    const char *model;
    bool ids;
    bool special;
    bool add_special;
    bool decode;
    bool json;
} tokenize_settings;

static const option_spec tokenize_specs[] = {
    {"model", OPTION_TEXT, offsetof(tokenize_settings, model), "DIR|FILE", 0, 0,
     "model folder or .gguf file (default: $CENTO_MODEL, else cento-tiny)"},
    {"ids", OPTION_FLAG, offsetof(tokenize_settings, ids), NULL, 0, 0, "only the ids, on one line"},
    {"special", OPTION_FLAG, offsetof(tokenize_settings, special), NULL, 0, 0,
     "special tokens spelled out in the text become their ids"},
    {"add-special", OPTION_FLAG, offsetof(tokenize_settings, add_special), NULL, 0, 0,
     "with what the model puts before and after a text (BOS, EOS)"},
    {"decode", OPTION_FLAG, offsetof(tokenize_settings, decode), NULL, 0, 0,
     "the other way: the argument lists ids, their text is printed"},
    {"json", OPTION_FLAG, offsetof(tokenize_settings, json), NULL, 0, 0,
     "print {\"tokens\", \"pieces\"}, with --decode {\"text\"}"},
};

/* -------------------------------------------------------------------------------- decode --- */

/* "1 2 3", "[1, 2, 3]", one a line */
static cento_status parse_ids(const char *text, int32_t **ids, size_t *count, cento_error *error) {
    static const char separators[] = " \t\r\n,[]";
    int32_t *found = NULL;
    size_t used = 0, capacity = 0;
    for (text += strspn(text, separators); *text != '\0'; text += strspn(text, separators)) {
        char word[16];
        size_t bytes = strcspn(text, separators);
        snprintf(word, sizeof word, "%.*s", (int)bytes, text);
        int32_t id;
        if (bytes >= sizeof word || !parse_i32(word, &id) || id < 0) {
            mem_free(found);
            return error_set(error, CENTO_INVALID_ARGUMENT, "--decode: expected token ids, found '%.*s'",
                             (int)(bytes < 100 ? bytes : 100), text);
        }
        if (!mem_grow((void **)&found, &capacity, used + 1, sizeof *found)) {
            mem_free(found);
            return error_memory(error, used * sizeof *found);
        }
        found[used++] = id;
        text += bytes;
    }
    *ids = found;
    *count = used;
    return CENTO_OK;
}

static int decode(const cento_tokenizer *tokenizer, const tokenize_settings *settings, const char *text) {
    cento_error error;
    int32_t *ids = NULL;
    size_t count = 0, bytes = 0;
    char *decoded = NULL;
    if (parse_ids(text, &ids, &count, &error) != CENTO_OK)
        return input_fail(&error);
    cento_status status = cento_detokenize(tokenizer, ids, count, false, &decoded, &bytes, &error);
    mem_free(ids);
    if (status != CENTO_OK)
        return fail(&error);
    int exit_status;
    if (settings->json) {
        exit_status = print_json(json_pack("{s:s%}", "text", decoded, bytes));
    } else {
        /* byte for byte; a terminal gets the newline that ends the line */
        output_write(decoded, bytes);
        if (term_is_tty(stdout))
            output_write("\n", 1);
        exit_status = output_finish();
    }
    cento_free(decoded);
    return exit_status;
}

/* -------------------------------------------------------------------------------- encode --- */

static json_t *tokens_to_json(const cento_tokenizer *tokenizer, const int32_t *ids, size_t count) {
    json_t *tokens = json_array(), *pieces = json_array();
    for (size_t i = 0; i < count; i++) {
        size_t bytes = 0;
        const char *spelling = cento_token_spelling(tokenizer, ids[i], &bytes);
        json_array_append_new(tokens, json_integer(ids[i]));
        json_t *piece = spelling == NULL ? NULL : json_stringn(spelling, bytes);
        json_array_append_new(pieces, piece == NULL ? json_null() : piece);
    }
    return json_pack("{s:o, s:o}", "tokens", tokens, "pieces", pieces);
}

/* A spelling on one line: control characters as \n, \t, \xNN. */
static void append_spelling(strbuf *line, const char *spelling, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)spelling[i];
        if (byte == '\n')
            strbuf_puts(line, "\\n");
        else if (byte == '\t')
            strbuf_puts(line, "\\t");
        else if (byte == '\r')
            strbuf_puts(line, "\\r");
        else if (byte < 0x20 || byte == 0x7F)
            strbuf_printf(line, "\\x%02X", byte);
        else
            strbuf_putc(line, (char)byte);
    }
}

static void print_tokens(const cento_tokenizer *tokenizer, const tokenize_settings *settings,
                         const int32_t *ids, size_t count) {
    strbuf text = {0};
    for (size_t i = 0; i < count; i++) {
        if (settings->ids) {
            strbuf_printf(&text, "%s%d", i == 0 ? "" : " ", ids[i]);
            continue;
        }
        size_t bytes = 0;
        const char *spelling = cento_token_spelling(tokenizer, ids[i], &bytes);
        strbuf_printf(&text, "%7d  ", ids[i]);
        append_spelling(&text, spelling == NULL ? "" : spelling, spelling == NULL ? 0 : bytes);
        strbuf_putc(&text, '\n');
    }
    if (settings->ids)
        strbuf_putc(&text, '\n');
    if (!text.failed)
        output_write(text.data == NULL ? "" : text.data, text.bytes);
    strbuf_free(&text);
    if (!settings->ids && term_is_tty(stdout))
        printf("%s%zu tokens%s\n", style(stdout, STYLE_DIM), count, style(stdout, STYLE_PLAIN));
}

static int encode(const cento_tokenizer *tokenizer, const tokenize_settings *settings,
                  const input_text *text) {
    cento_error error;
    int32_t *ids = NULL;
    size_t count = 0;
    if (cento_tokenize(tokenizer, text->text, text->bytes, settings->add_special, settings->special, &ids,
                       &count, &error) != CENTO_OK)
        return fail(&error);
    int status;
    if (settings->json) {
        status = print_json(tokens_to_json(tokenizer, ids, count));
    } else {
        print_tokens(tokenizer, settings, ids, count);
        status = output_finish();
    }
    cento_free(ids);
    return status;
}

/* --------------------------------------------------------------------------- the command --- */

/* The one text to work on; several arguments of --decode are ids of one list. */
static int read_argument(const tokenize_settings *settings, int argc, char **argv, input_text *text) {
    cento_error error;
    if (!settings->decode || argc == 1) {
        cento_status status = input_read("TEXT", argv[0], INPUT_NEWLINE_KEEP, text, &error);
        return status == CENTO_OK ? -1 : input_fail(&error);
    }
    strbuf joined = {0};
    for (int i = 0; i < argc; i++)
        strbuf_printf(&joined, "%s ", argv[i]);
    text->bytes = joined.bytes;
    text->text = strbuf_take(&joined, NULL);
    if (text->text != NULL)
        return -1;
    message_error("out of memory");
    return EXIT_STATUS_FAILURE;
}

static int run(const command *self, int argc, char **argv) {
    tokenize_settings settings = {0};
    const option_group groups[] = {
        {"Options", tokenize_specs, sizeof tokenize_specs / sizeof tokenize_specs[0], &settings},
    };
    int status = options_parse(self, groups, 1, &argc, argv);
    if (status >= 0)
        return status;
    if (argc == 0)
        return usage_error(self, settings.decode ? "expected token ids" : "expected a text");
    if (argc > 1 && !settings.decode)
        return usage_error(self, "expected one text, found %d; quote a text that has blanks", argc);
    if (settings.decode && (settings.ids || settings.special || settings.add_special))
        return usage_error(self, "--decode goes with none of --ids, --special, --add-special");
    input_text text = {0};
    status = read_argument(&settings, argc, argv, &text);
    if (status >= 0)
        return status;
    cento_error error;
    char *path = NULL;
    cento_tokenizer *tokenizer = NULL;
    if (model_path_find(settings.model, &path, &error) != CENTO_OK ||
        cento_tokenizer_open(path, &tokenizer, &error) != CENTO_OK)
        status = fail(&error);
    else if (settings.decode)
        status = decode(tokenizer, &settings, text.text);
    else
        status = encode(tokenizer, &settings, &text);
    cento_tokenizer_close(tokenizer);
    mem_free(path);
    input_text_free(&text);
    return status;
}

const command tokenize_command = {
    .name = "tokenize",
    .summary = "show a text's tokens, or the text of tokens",
    .usage = "[options] TEXT|@FILE|-",
    .details =
        "Shows the token ids of a text and their spellings in the vocabulary, or with --decode the text of "
        "ids. @FILE and - are taken byte for byte, a newline at the end included.",
    .examples = "  cento tokenize \"Where is Crystalton?\"\n"
                "  cento tokenize --ids @a.txt | cento tokenize --decode -\n"
                "  cento tokenize --model vocab.gguf --json \"Hello\"\n",
    .run = run,
};
