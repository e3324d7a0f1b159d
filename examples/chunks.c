/*
 * chunks: what can be done with a chunk beside asking about it.
 *
 *     chunks MODEL
 *
 * Registers a document and computes it ahead, pins it, looks at what a prompt that names it would cost, asks,
 * keeps the answer as a chunk of its own, asks on with that, and lists what is there.
 */
#include <cento.h>
#include <stdio.h>
#include <string.h>

#define TRY(call)                                                                                            \
    do {                                                                                                     \
        cento_status try_status = (call);                                                                    \
        if (try_status != CENTO_OK)                                                                          \
            return try_status;                                                                               \
    } while (0)

static const char document[] =
    "Crystalton is a quiet town. It lies in Wernmark and stands on the river Vell.";

static cento_piece text_piece(cento_kind kind, const char *text) {
    return (cento_piece){.kind = kind, .text = text, .text_bytes = strlen(text)};
}

static cento_piece named_piece(cento_kind kind, const char *content_id) {
    return (cento_piece){.kind = kind, .content_id = content_id};
}

static cento_status show_preview(cento_engine *engine, const cento_request *request, cento_error *error) {
    cento_preview *preview = NULL;
    TRY(cento_compose_preview(engine, request, &preview, error));
    printf("a prompt of %u tokens: %u are there, %u to be computed, in %u pages held and %u new\n",
           preview->prompt_tokens, preview->cached_tokens, preview->computed_tokens, preview->pages_held,
           preview->pages_new);
    for (size_t i = 0; i < preview->segment_count; i++) {
        const cento_segment *segment = &preview->segments[i];
        printf("    %-8s %3u tokens at %3u, %3u there (%s)\n",
               segment->kind_is_template ? "template" : cento_kind_name(segment->kind), segment->tokens,
               segment->offset, segment->cached_tokens, cento_source_name(segment->source));
    }
    cento_preview_free(preview);
    return CENTO_OK;
}

/* Two turns; the answer of the first is named by its id in the second. */
static cento_status ask_twice(cento_engine *engine, const char *document_id, cento_error *error) {
    const cento_piece pieces[] = {named_piece(CENTO_KIND_CONTEXT, document_id),
                                  text_piece(CENTO_KIND_QUERY, "Where is Crystalton?")};
    cento_request request = cento_request_default();
    request.pieces = pieces;
    request.piece_count = 2;
    request.mode = CENTO_MODE_INDEPENDENT;
    request.completion_tokens_max = 48;
    request.retain = CENTO_RETAIN_WITHOUT_THINKING; /* there are none here: kept as it is */
    TRY(show_preview(engine, &request, error));
    cento_result *first = NULL, *second = NULL;
    TRY(cento_generate(engine, &request, &first, error));
    printf("%s\n", first->text);

    const cento_piece further[] = {pieces[0], pieces[1], named_piece(CENTO_KIND_OUTPUT, first->output_id),
                                   text_piece(CENTO_KIND_QUERY, "What river does Crystalton stand on?")};
    request.pieces = further;
    request.piece_count = 4;
    cento_status status = cento_generate(engine, &request, &second, error);
    if (status == CENTO_OK)
        printf("%s\n    %u of %u prompt tokens were there\n", second->text, second->usage.cached_tokens,
               second->usage.prompt_tokens);
    cento_result_free(first);
    cento_result_free(second);
    return status;
}

static cento_status list(cento_engine *engine, cento_error *error) {
    cento_chunk_info *infos = NULL;
    size_t count = 0;
    TRY(cento_chunk_list(engine, &infos, &count, error));
    for (size_t i = 0; i < count; i++)
        printf("    %.12s %-8s %3u tokens, %llu uses, %u pins, %llu bytes of KV%s%s\n", infos[i].content_id,
               cento_kind_name(infos[i].kind), infos[i].tokens, (unsigned long long)infos[i].uses,
               infos[i].pins, (unsigned long long)infos[i].kv_bytes, infos[i].label[0] == '\0' ? "" : ": ",
               infos[i].label);
    cento_free(infos);
    return CENTO_OK;
}

static cento_status run(cento_engine *engine, cento_error *error) {
    cento_piece piece = text_piece(CENTO_KIND_CONTEXT, document);
    cento_chunk_info info;
    piece.label = "crystalton.txt";
    TRY(cento_chunk_add(engine, &piece, true, &info, error)); /* true: its KV is computed now */
    TRY(cento_chunk_pin(engine, info.content_id, error));     /* nothing evicts it */
    TRY(ask_twice(engine, info.content_id, error));
    TRY(list(engine, error));
    TRY(cento_chunk_unpin(engine, info.content_id, error));
    TRY(cento_chunk_set_ttl(engine, info.content_id, 3600, error)); /* it goes in an hour, at the latest */
    TRY(cento_chunk_get(engine, info.content_id, &info, error));
    printf("%s goes in %.0f s\n", info.label, info.ttl_s);
    TRY(cento_chunk_remove(engine, info.content_id, error)); /* or now */
    printf("%zu more removed\n", cento_chunk_clear(engine));
    return CENTO_OK;
}

int main(int argc, char **argv) {
    cento_error error = {CENTO_OK, ""};
    cento_engine *engine = NULL;
    cento_options options = cento_options_default();
    options.model_path = argc > 1 ? argv[1] : "models/cento-tiny";
    cento_status status = cento_open(&options, &engine, &error);
    if (status == CENTO_OK)
        status = run(engine, &error);
    if (status != CENTO_OK)
        fprintf(stderr, "chunks: %s\n", error.message);
    cento_close(engine);
    return status == CENTO_OK ? 0 : 1;
}
