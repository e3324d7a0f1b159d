/*
 * Options that several commands share, and how they become what cento.h wants: opening an engine, the
 * fields of a request.
 */
#ifndef CENTO_CLI_SETTINGS_H
#define CENTO_CLI_SETTINGS_H

#include "cento.h"
#include "options.h"

/* --------------------------------------------------------------------------- the engine --- */

typedef struct engine_settings {
    const char *model;
    const char *device;
    const char *attention;
    uint32_t threads;
    int compute_dtype; /* a cento_dtype */
    uint32_t context_tokens;
    uint32_t kv_pool_tokens;
    uint32_t page_tokens;
    int kv_dtype; /* a cento_kv_dtype */
    uint32_t max_sequences, max_batched_tokens, max_waiting;
    uint32_t cascade_levels;
    bool no_cascade, no_reuse, deterministic;
    float chunk_page_ratio;
    bool no_chunk_page_borrow;
    uint32_t chunk_registry_size;
    uint64_t chunk_bytes_max;
    float gpu_memory_utilization;
} engine_settings; /* 0: the library's default */

extern const option_spec engine_specs[];
extern const size_t engine_spec_count;

/* What cento_open takes, but for the model's path and the progress. Returns -1 or the exit status. */
int engine_options_from(const command *self, const engine_settings *settings, cento_options *options);
/* Opens the model, with a progress bar on a terminal. model_path, if not NULL, gets the folder's path
 * (mem_free). Returns -1, else the exit status: the message is printed then. */
int engine_open(const command *self, const engine_settings *settings, cento_engine **engine,
                char **model_path);

/* --------------------------------------------------------------------------- a request --- */

typedef struct mode_settings {
    const char *mode; /* NULL: exact */
    bool anchored;
} mode_settings;

extern const option_spec mode_specs[];
extern const size_t mode_spec_count;

/* Fields that were not given hold NOT_GIVEN or NAN; they come from cento_request_default() or, with
 * model_sampling, from the model. */
#define NOT_GIVEN UINT32_MAX
typedef struct sampling_settings {
    bool model_sampling;
    float temperature, top_p, min_p;
    uint32_t top_k;
    float repetition_penalty, presence_penalty, frequency_penalty;
    option_list logit_bias;
    option_u64 seed;
    uint32_t max_tokens;
    option_list stop;
    option_list stop_tokens;
    bool ignore_eos;
} sampling_settings;

extern const option_spec sampling_specs[];
extern const size_t sampling_spec_count;

sampling_settings sampling_settings_default(void);
void sampling_settings_free(sampling_settings *settings);

/* A request with the arrays it points to; pieces are the caller's. */
typedef struct request_frame {
    cento_request request;
    cento_logit_bias *logit_bias; /* owned, as are the next two */
    const char **stop;
    int32_t *stop_tokens;
} request_frame;

/* Fills in mode, sampling and limits. Checks everything that can be checked without a model when engine is
 * NULL; called again with the engine once it is open. Returns -1 or the exit status. */
int request_frame_init(const command *self, const mode_settings *mode, const sampling_settings *sampling,
                       cento_engine *engine, request_frame *frame);
void request_frame_free(request_frame *frame);

/* "exact", "independent", "link:16" */
void mode_text(cento_mode mode, uint32_t link_tokens, char *text, size_t text_bytes);

#endif
