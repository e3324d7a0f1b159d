/*
 * stream: two requests at once, each shown as its text comes, from one thread.
 *
 *     stream MODEL QUESTION QUESTION
 *
 * cento_submit returns at once. cento_poll calls on_delta with what has come since, and never waits;
 * cento_wait does the same for a while. A server would sleep until on_ready wakes it, instead.
 */
#include <cento.h>
#include <stdio.h>
#include <string.h>

static bool print_delta(void *user, const cento_delta *delta) {
    if (delta->text_bytes > 0)
        printf("%s| %s\n", (const char *)user, delta->text);
    return true; /* false would cancel the request */
}

static cento_status submit(cento_engine *engine, const char *question, char *name,
                           cento_generation **generation, cento_error *error) {
    static const char document[] =
        "Crystalton is a quiet town. It lies in Wernmark and stands on the river Vell.";
    const cento_piece pieces[] = {
        {.kind = CENTO_KIND_CONTEXT, .text = document, .text_bytes = strlen(document)},
        {.kind = CENTO_KIND_QUERY, .text = question, .text_bytes = strlen(question)},
    };
    cento_request request = cento_request_default();
    request.pieces = pieces; /* copied, as all of the request */
    request.piece_count = 2;
    request.completion_tokens_max = 48;
    request.on_delta = print_delta;
    request.on_delta_user = name;
    return cento_submit(engine, &request, generation, error);
}

static cento_status print_result(cento_generation *generation, const char *name, cento_error *error) {
    cento_result *result = NULL;
    cento_status status = cento_generation_result(generation, &result, error);
    if (status == CENTO_OK)
        printf("%s: %s (%s, %u of %u prompt tokens were there)\n", name, result->text,
               cento_finish_name(result->finish), result->usage.cached_tokens, result->usage.prompt_tokens);
    cento_result_free(result);
    return status;
}

static cento_status run(cento_engine *engine, char **questions, cento_error *error) {
    static char names[2][2] = {"1", "2"};
    cento_generation *generations[2] = {NULL, NULL};
    cento_status status = submit(engine, questions[0], names[0], &generations[0], error);
    if (status == CENTO_OK)
        status = submit(engine, questions[1], names[1], &generations[1], error);
    for (int ended = 0; status == CENTO_OK && ended < 2;) {
        ended = cento_wait(generations[0], 1); /* a millisecond at most */
        ended += cento_poll(generations[1]);
    }
    for (int i = 0; i < 2; i++) {
        if (status == CENTO_OK)
            status = print_result(generations[i], names[i], error);
        cento_generation_free(generations[i]); /* cancels what has not ended */
    }
    return status;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: stream MODEL QUESTION QUESTION\n");
        return 2;
    }
    cento_error error = {CENTO_OK, ""};
    cento_engine *engine = NULL;
    cento_options options = cento_options_default();
    options.model_path = argv[1];
    cento_status status = cento_open(&options, &engine, &error);
    if (status == CENTO_OK)
        status = run(engine, argv + 2, &error);
    if (status != CENTO_OK)
        fprintf(stderr, "stream: %s\n", error.message);
    cento_close(engine);
    return status == CENTO_OK ? 0 : 1;
}
