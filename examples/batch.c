/*
 * batch: many questions over one document, computed together.
 *
 *     batch MODEL NOTE.txt QUESTION …
 *
 * Answers come in the order in which they are done. What the questions have in common (system prompt,
 * document) is computed by one of them, held once, and attended to once for all; the figures at the end say
 * so.
 */
#include <cento.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUESTIONS_MAX = 256, NOTE_BYTES_MAX = 1 << 20 };

typedef struct question {
    cento_piece pieces[3];
    const char *text;
} question;

/* Called on this thread for every request that ends; one that has failed has no result. */
static bool print_answer(void *user, size_t index, cento_status status, cento_result **result,
                         const cento_error *error) {
    const question *asked = user;
    if (status == CENTO_OK)
        printf("%s\n    %s\n", asked[index].text, (*result)->text);
    else
        printf("%s\n    (%s: %s)\n", asked[index].text, cento_status_name(status), error->message);
    return true; /* false would cancel the rest */
}

static cento_piece piece_of(cento_kind kind, const char *text) {
    return (cento_piece){.kind = kind, .text = text, .text_bytes = strlen(text)};
}

static cento_status ask_all(cento_engine *engine, const char *note, char **texts, size_t count,
                            cento_error *error) {
    static question questions[QUESTIONS_MAX];
    static cento_request requests[QUESTIONS_MAX];
    for (size_t i = 0; i < count; i++) {
        questions[i].text = texts[i];
        questions[i].pieces[0] = piece_of(CENTO_KIND_SYSTEM, "Answer from the documents.");
        questions[i].pieces[1] = piece_of(CENTO_KIND_CONTEXT, note);
        questions[i].pieces[2] = piece_of(CENTO_KIND_QUERY, texts[i]);
        requests[i] = cento_request_default();
        requests[i].pieces = questions[i].pieces;
        requests[i].piece_count = 3;
        requests[i].completion_tokens_max = 48;
    }
    return cento_generate_batch(engine, requests, count, print_answer, questions, error);
}

int main(int argc, char **argv) {
    if (argc < 4 || argc - 3 > QUESTIONS_MAX) {
        fprintf(stderr, "usage: batch MODEL NOTE.txt QUESTION …\n");
        return 2;
    }
    char *note = calloc(NOTE_BYTES_MAX + 1, 1);
    FILE *file = fopen(argv[2], "rb");
    size_t bytes = file == NULL || note == NULL ? 0 : fread(note, 1, NOTE_BYTES_MAX, file);
    if (file != NULL)
        fclose(file);
    if (bytes == 0) {
        fprintf(stderr, "batch: %s: cannot be read, or is empty\n", argv[2]);
        free(note);
        return 1;
    }
    cento_error error = {CENTO_OK, ""};
    cento_engine *engine = NULL;
    cento_options options = cento_options_default();
    options.model_path = argv[1];
    options.max_sequences = 16;
    cento_status status = cento_open(&options, &engine, &error);
    if (status == CENTO_OK)
        status = ask_all(engine, note, argv + 3, (size_t)argc - 3, &error);
    if (status == CENTO_OK) {
        cento_stats stats;
        cento_engine_stats(engine, &stats);
        printf("%llu of %llu prompt tokens were there or computed by another; KV memory saved at the peak: "
               "%.0f %%\n",
               (unsigned long long)stats.cached_tokens, (unsigned long long)stats.prompt_tokens,
               100 * stats.memory_savings_peak);
    } else {
        fprintf(stderr, "batch: %s\n", error.message);
    }
    cento_close(engine);
    free(note);
    return status == CENTO_OK ? 0 : 1;
}
