/*
 * A random step of many sequences, for tests of plans and of attention. Groups share runs in any way, not
 * only as trees: a path of runs that continue each other, chunks at any offset and in any order, the same
 * chunk twice, the first tokens of a chunk computed again (link), runs of no token and of one, rows in the
 * middle of what they see, rows that belong to no group.
 */
#ifndef CENTO_TESTS_RANDOM_STEP_H
#define CENTO_TESTS_RANDOM_STEP_H

#include <string.h>

#include "cascade/cascade_plan.h"
#include "random.h"

enum {
    STEP_TOKENS = 8192, /* of the pool */
    STEP_PAGES_MAX = STEP_TOKENS / 16,
    STEP_RUNS_MAX = 96,
    STEP_PATH = 3,   /* the first runs continue each other */
    STEP_SHARED = 9, /* and these are chunks */
    STEP_GROUPS_MAX = 12,
    STEP_SPANS_MAX = 192,
    STEP_ROWS_MAX = 512,
};

typedef struct step_run {
    uint32_t page_begin; /* in random_step.pages */
    uint32_t tokens;
} step_run;

typedef struct random_step {
    uint32_t page_tokens, page_count;
    uint32_t pages[STEP_PAGES_MAX]; /* a permutation; runs take them from the front */
    uint32_t pages_used;
    step_run runs[STEP_RUNS_MAX];
    uint32_t run_count;
    row_group groups[STEP_GROUPS_MAX];
    kv_span spans[STEP_SPANS_MAX];
    uint32_t positions[STEP_ROWS_MAX];
    plan_input input; /* heads_per_kv and window are the caller's */
} random_step;

static inline uint32_t step_length(void) {
    static const uint32_t most[] = {1, 2, 40, 200, 600, 1300};
    return random_below(most[random_below(6)] + 1);
}

static inline uint32_t step_add_run(random_step *step, uint32_t tokens) {
    uint32_t room = (step->page_count - step->pages_used) * step->page_tokens;
    tokens = tokens < room ? tokens : room;
    step->runs[step->run_count] = (step_run){step->pages_used, tokens};
    step->pages_used += (tokens + step->page_tokens - 1) / step->page_tokens;
    return step->run_count++;
}

static inline void step_add_span(random_step *step, uint32_t run, uint32_t token_begin, uint32_t *position,
                                 int64_t origin, bool continues) {
    uint32_t token_end = step->runs[run].tokens;
    step->spans[step->input.span_count++] = (kv_span){
        .pages = step->pages + step->runs[run].page_begin,
        .token_begin = token_begin,
        .token_end = token_end,
        .position = *position,
        .rotation_origin = origin,
        .continues = continues,
    };
    *position += token_end - token_begin;
}

static inline void step_add_chunk(random_step *step, uint32_t *position) {
    uint32_t run = STEP_PATH + random_below(STEP_SHARED - STEP_PATH), begin = 0;
    int64_t origin = random_below(4) == 0 ? 0 : (int64_t)*position;
    if (random_below(3) == 0 && step->runs[run].tokens > 0) {
        begin = random_below(step->runs[run].tokens < 20 ? step->runs[run].tokens : 20);
        step_add_span(step, step_add_run(step, begin), 0, position, 0, false);
    }
    step_add_span(step, run, begin, position, origin, false);
}

static inline void step_add_group(random_step *step) {
    plan_input *input = &step->input;
    row_group *group = &step->groups[input->group_count++];
    uint32_t position = random_below(4) == 0 ? random_below(50) : 0;
    group->span_begin = input->span_count;
    for (uint32_t i = 0, depth = random_below(STEP_PATH + 1); i < depth; i++)
        step_add_span(step, i, 0, &position, 0, i > 0);
    for (uint32_t i = 0, count = random_below(5); i < count; i++)
        step_add_chunk(step, &position);
    uint32_t rows = random_below(5) < 3 ? 1 : 1 + random_below(40);
    step_add_span(step, step_add_run(step, rows + random_below(30)), 0, &position, 0, false);
    group->span_count = input->span_count - group->span_begin;
    if (random_below(8) == 0)
        step->positions[input->row_count++] = 0; /* in no group */
    group->row_begin = input->row_count;
    group->row_count = rows;
    bool anywhere = random_below(10) == 0;
    uint32_t at = anywhere ? random_below(position + 1) : position > rows ? position - rows : 0;
    for (uint32_t i = 0; i < rows; i++) {
        step->positions[input->row_count++] = at;
        at += anywhere ? random_below(3) : 1;
    }
}

static inline void random_step_create(random_step *step, uint32_t groups_max) {
    memset(step, 0, sizeof *step);
    step->page_tokens = 16u << random_below(3);
    step->page_count = STEP_TOKENS / step->page_tokens;
    for (uint32_t i = 0; i < step->page_count; i++)
        step->pages[i] = i;
    for (uint32_t i = step->page_count - 1; i > 0; i--) {
        uint32_t j = random_below(i + 1), page = step->pages[i];
        step->pages[i] = step->pages[j];
        step->pages[j] = page;
    }
    for (uint32_t i = 0; i < STEP_SHARED; i++)
        step_add_run(step, step_length());
    step->input = (plan_input){.groups = step->groups, .spans = step->spans, .positions = step->positions};
    for (uint32_t i = 0, count = 1 + random_below(groups_max); i < count; i++)
        step_add_group(step);
}

#endif
