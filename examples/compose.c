/*
 * compose: what chunks are for. Asks two questions over the same documents, one of them twice with the
 * documents in another order, and shows how many tokens had to be computed each time.
 *
 *     compose MODEL NOTE.txt …
 *
 * The first request finds nothing and computes every document once, as a chunk of its own
 * (CENTO_MODE_INDEPENDENT). The second has the same chunks at other places: their attention state is not
 * moved or computed again, queries are rotated towards it. The third asks something else over them.
 */
#include <cento.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOTES_MAX = 64, NOTE_BYTES_MAX = 1 << 20 };

typedef struct note {
    char *text; /* owned */
    size_t bytes;
    const char *path;
} note;

/* A whole file without the newline at its end; false when it cannot be read or holds nothing. */
static bool note_read(const char *path, note *read) {
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return false;
    read->path = path;
    read->text = malloc(NOTE_BYTES_MAX);
    read->bytes = read->text == NULL ? 0 : fread(read->text, 1, NOTE_BYTES_MAX, file);
    fclose(file);
    if (read->bytes > 0 && read->text[read->bytes - 1] == '\n')
        read->bytes--;
    return read->bytes > 0;
}

static cento_piece piece_of(cento_kind kind, const char *text, size_t bytes, const char *label) {
    return (cento_piece){.kind = kind, .text = text, .text_bytes = bytes, .label = label};
}

/* Asks one question and prints its row of the table, the answer below it. */
static cento_status ask(cento_engine *engine, const char *title, const note *notes, size_t count,
                        bool backwards, const char *question, cento_error *error) {
    static const char system[] = "Answer from the documents.";
    cento_piece pieces[NOTES_MAX + 2];
    size_t piece_count = 0;
    pieces[piece_count++] = piece_of(CENTO_KIND_SYSTEM, system, strlen(system), NULL);
    for (size_t i = 0; i < count; i++) {
        const note *chosen = &notes[backwards ? count - 1 - i : i];
        pieces[piece_count++] = piece_of(CENTO_KIND_CONTEXT, chosen->text, chosen->bytes, chosen->path);
    }
    pieces[piece_count++] = piece_of(CENTO_KIND_QUERY, question, strlen(question), NULL);

    cento_request request = cento_request_default();
    request.pieces = pieces;
    request.piece_count = piece_count;
    request.mode = CENTO_MODE_INDEPENDENT;
    request.completion_tokens_max = 64;
    cento_result *result = NULL;
    cento_status status = cento_generate(engine, &request, &result, error);
    if (status == CENTO_OK)
        printf("%-36s  %6u  %6u  %8u  %8.1f ms\n    %s\n", title, result->usage.prompt_tokens,
               result->usage.cached_tokens, result->usage.computed_tokens, result->timing.ttft_ms,
               result->text);
    cento_result_free(result);
    return status;
}

static cento_status ask_three(const char *model, const note *notes, size_t count, cento_error *error) {
    static const char where[] = "Where is Crystalton?", known_for[] = "What is Crystalton known for?";
    cento_options options = cento_options_default();
    options.model_path = model;
    cento_engine *engine = NULL;
    cento_status status = cento_open(&options, &engine, error);
    if (status != CENTO_OK)
        return status;
    printf("%-36s  %6s  %6s  %8s  %11s\n", "tokens", "prompt", "reused", "computed", "first token");
    status = ask(engine, where, notes, count, false, where, error);
    if (status == CENTO_OK)
        status = ask(engine, "the same, documents in other order", notes, count, true, where, error);
    if (status == CENTO_OK)
        status = ask(engine, known_for, notes, count, false, known_for, error);
    cento_close(engine);
    return status;
}

int main(int argc, char **argv) {
    if (argc < 3 || argc - 2 > NOTES_MAX) {
        fprintf(stderr, "usage: compose MODEL NOTE.txt …\n");
        return 2;
    }
    note notes[NOTES_MAX] = {{0}};
    size_t count = (size_t)argc - 2;
    cento_error error = {CENTO_OK, ""};
    cento_status status = CENTO_OK;
    for (size_t i = 0; i < count && status == CENTO_OK; i++)
        if (!note_read(argv[2 + i], &notes[i])) {
            snprintf(error.message, sizeof error.message, "%s: cannot be read, or is empty", argv[2 + i]);
            status = CENTO_IO;
        }
    if (status == CENTO_OK)
        status = ask_three(argv[1], notes, count, &error);
    if (status != CENTO_OK)
        fprintf(stderr, "compose: %s\n", error.message);
    for (size_t i = 0; i < count; i++)
        free(notes[i].text);
    return status == CENTO_OK ? 0 : 1;
}
