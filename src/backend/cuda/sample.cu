/*
 * Drawing tokens from logits on the device; engine/sampler.h has the steps and the definitions, sampler.c is the
 * reference. Two launches:
 *
 *   scan     a block for each slice of a row: the largest logit, the sum of the weights, and the largest logit
 *            of each group of threads. Reads the logits once: 4 bytes × rows × vocabulary is what it must move.
 *   finish   a block for each row. Greedy: the largest of the slices. Temperature alone: the slices' sums say in
 *            which slice the token lies, and only that is read again. Truncated: what may be kept is collected
 *            in shared memory, sorted, and cut and drawn as on the CPU; of a group whose largest logit cannot
 *            be kept nothing is read.
 *
 * Collected are tokens whose logit reaches a bound: for top-k one that k groups reach, and so at least k tokens;
 * for top-p one that the largest of the groups reach which alone make up p, or a weight so small that all of the
 * vocabulary below it would not make up 1 - p; for min-p its own. If they are more than shared memory holds (flat distributions), the weights are spread over
 * buckets by their logarithm: the sums say in which bucket a cut or a draw falls, and only that one is collected
 * and sorted. If even that is too much (ties), or very many of the likeliest are to be counted, the row is
 * searched by radix: a histogram over 11 bits of the order at a time, from the likeliest down.
 *
 * The order of a token is its logit as an integer, then its id, the lowest first: no two are equal. All sums are
 * taken in a fixed order, or of integers (weights as multiples of 2^-40), so that a row gives the same token
 * however often it is drawn. Weights are f32, relative to the largest logit; sums are f64.
 */
#include "sample_values.cuh"

/* ------------------------------------------------------------------------ what is changed --- */

static __device__ __forceinline__ void change(sample_change how, float *row, float *saved) {
    float logit = row[how.token];
    *saved = logit;
    logit = logit > 0 ? __fdiv_rn(logit, how.divisor) : __fmul_rn(logit, how.divisor);
    row[how.token] = __fsub_rn(logit, how.subtracted); /* never fused: it is what the CPU gets */
}

static __global__ void change_kernel(const __grid_constant__ sample_call call) {
    const cuda_sample_row *asked = &call.rows[blockIdx.x];
    float *row = call.logits + (size_t)blockIdx.x * call.vocab_size;
    uint32_t begin = asked->change_begin, middle = begin + asked->row.penalty_count;
    uint32_t end = middle + asked->row.bias_count;
    for (uint32_t i = begin + threadIdx.x; i < middle; i += THREADS)
        change(call.changes[i], row, &call.saved[i]);
    __syncthreads();
    for (uint32_t i = middle + threadIdx.x; i < end; i += THREADS)
        change(call.changes[i], row, &call.saved[i]);
}

static __global__ void restore_kernel(const __grid_constant__ sample_call call) {
    const cuda_sample_row *asked = &call.rows[blockIdx.x];
    float *row = call.logits + (size_t)blockIdx.x * call.vocab_size;
    uint32_t begin = asked->change_begin, middle = begin + asked->row.penalty_count;
    uint32_t end = middle + asked->row.bias_count;
    for (uint32_t i = middle + threadIdx.x; i < end; i += THREADS)
        row[call.changes[i].token] = call.saved[i];
    __syncthreads();
    for (uint32_t i = begin + threadIdx.x; i < middle; i += THREADS)
        row[call.changes[i].token] = call.saved[i];
}

/* ------------------------------------------------------------------------------ the row ----- */

/* A row as one of the two purposes sees it: a token is drawn, or logprobs are told. */
typedef struct row_task {
    const float *logits;
    uint32_t vocab_size, slice_count, row;
    float temperature;
    uint32_t top_k;
    float top_p, min_p;
    double random;
    bool truncated;       /* not all can be drawn: groups are wanted */
    sample_slice *slices; /* (slice_count) */
    float *groups;        /* (slice_count, SAMPLE_GROUPS) */
} row_task;

static __device__ row_task task_of(const sample_call &call, uint32_t place) {
    row_task task;
    task.row = call.listed == nullptr ? place : call.listed[place];
    const sample_row asked = call.rows != nullptr ? call.rows[task.row].row : call.few[task.row];
    bool drawn = call.listed == nullptr;
    task.logits = call.logits + (size_t)task.row * call.vocab_size;
    task.vocab_size = call.vocab_size;
    task.slice_count = call.slice_count;
    task.temperature = drawn ? asked.temperature : 1.0f;
    task.top_k = drawn ? asked.top_k : asked.logprobs;
    task.top_p = drawn ? asked.top_p : 1.0f;
    task.min_p = drawn ? asked.min_p : 0.0f;
    task.random = asked.random;
    task.truncated = task.temperature > 0 && (task.top_k > 0 || task.top_p < 1 || task.min_p > 0);
    task.slices = call.slices + (size_t)place * call.slice_count;
    task.groups = call.groups + (size_t)place * call.slice_count * SAMPLE_GROUPS;
    return task;
}

/* Weights are 2^((logit - largest) × this). */
static __device__ __forceinline__ float scale_of(const row_task &task) {
    return fminf((float)(LOG2_E / (double)task.temperature), 3e38f); /* 0 × this is 0 */
}

static __device__ __forceinline__ float weight_of(float cleaned, float largest, float scale) {
    return exp2f((cleaned - largest) * scale);
}

/* --------------------------------------------------------------------------------- scan ----- */

template <bool WIDE>
static __global__ void __launch_bounds__(SCAN_THREADS) scan_kernel(const __grid_constant__ sample_call call) {
    __shared__ uint64_t bests[SCAN_THREADS / WARP];
    __shared__ double sums[SCAN_THREADS / WARP];
    row_task task = task_of(call, blockIdx.y);
    uint32_t begin = blockIdx.x * SAMPLE_SLICE, left = task.vocab_size - begin;
    uint32_t count = left < SAMPLE_SLICE ? left : SAMPLE_SLICE, thread = threadIdx.x;
    float4 values[SCAN_LOADS];
#pragma unroll
    for (uint32_t i = 0; i < SCAN_LOADS; i++)
        values[i] = load4<WIDE>(task.logits + begin, 4 * (i * SCAN_THREADS + thread), count);

    float largest = -INFINITY;
    uint32_t token = begin;
#pragma unroll
    for (uint32_t i = 0; i < SCAN_LOADS; i++) {
        float four[4] = {values[i].x, values[i].y, values[i].z, values[i].w};
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) {
            if (four[j] > largest) {
                largest = four[j];
                token = begin + 4 * (i * SCAN_THREADS + thread) + j;
            }
        }
    }
    if (task.truncated) {
        float group = largest;
        for (uint32_t distance = 1; distance < GROUP_LANES; distance *= 2)
            group = fmaxf(group, __shfl_xor_sync(ALL_LANES, group, distance));
        if (thread % GROUP_LANES == 0)
            task.groups[blockIdx.x * SAMPLE_GROUPS + thread / GROUP_LANES] = group;
    }
    uint64_t best = warp_max(largest == -INFINITY ? 0 : order_of(largest, token));
    if (thread % WARP == 0)
        bests[thread / WARP] = best;
    __syncthreads();
    for (uint32_t i = 0; i < SCAN_THREADS / WARP; i++)
        best = bests[i] > best ? bests[i] : best;

    double sum = 0;
    if (task.temperature > 0 && best != 0) {
        float scale = scale_of(task), of_all = order_logit(best), part = 0;
#pragma unroll
        for (uint32_t i = 0; i < SCAN_LOADS; i++)
            part += (weight_of(values[i].x, of_all, scale) + weight_of(values[i].y, of_all, scale)) +
                    (weight_of(values[i].z, of_all, scale) + weight_of(values[i].w, of_all, scale));
        sum = warp_sum((double)part);
        if (thread % WARP == 0)
            sums[thread / WARP] = sum;
        __syncthreads();
        sum = 0;
        for (uint32_t i = 0; i < SCAN_THREADS / WARP; i++)
            sum += sums[i];
    }
    if (thread == 0)
        task.slices[blockIdx.x] = sample_slice{best, sum};
}

/* -------------------------------------------------------------- finish: the slices together -- */

/* What a block of finish has in common. */
typedef struct finish_state {
    uint64_t best;
    double total;          /* of the row's weights */
    double rest;           /* what the draw has left for its slice, in the slice's own weights */
    uint32_t slice;        /* in which the draw ends */
    uint32_t kept;         /* candidates that truncation leaves */
    uint32_t first, last;  /* of tokens or candidates: the first at which the draw ends; the last with a weight */
    uint32_t collected;    /* candidates, also those for which there was no room */
    uint32_t bucket; /* in which a search goes on */
    uint64_t bucket_before;
    uint64_t found, found_through; /* order of the token that ends a search; the sum of weights through it */
    double kept_sum;
    uint32_t spread[2][SPREAD]; /* low and high halves of the buckets' weights */
    union {
        uint64_t candidates[CANDIDATES];
        uint32_t buckets[2][BUCKETS]; /* low and high halves of sums */
        double slice_weights[SAMPLE_SLICES_MAX];
    };
} finish_state;

static __device__ double exact_weight(float cleaned, float largest, const row_task &task) {
    return exp(((double)cleaned - (double)largest) / (double)task.temperature);
}

/* best, and, where there is a temperature, total and the slice in which the draw ends. */
static __device__ void join_slices(const row_task &task, finish_state *state) {
    uint64_t best = 0;
    for (uint32_t i = threadIdx.x; i < task.slice_count; i += THREADS)
        best = task.slices[i].best > best ? task.slices[i].best : best;
    __shared__ uint64_t bests[THREADS / WARP];
    best = warp_max(best);
    if (threadIdx.x % WARP == 0)
        bests[threadIdx.x / WARP] = best;
    __syncthreads();
    for (uint32_t i = 0; i < THREADS / WARP; i++)
        best = bests[i] > best ? bests[i] : best;
    if (task.temperature > 0 && best != 0) {
        for (uint32_t i = threadIdx.x; i < task.slice_count; i += THREADS) {
            sample_slice slice = task.slices[i];
            state->slice_weights[i] =
                slice.best == 0 ? 0 : slice.sum * exact_weight(order_logit(slice.best), order_logit(best), task);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            double total = 0, before = 0, through = 0;
            for (uint32_t i = 0; i < task.slice_count; i++)
                total += state->slice_weights[i];
            double target = task.random * total;
            uint32_t chosen = 0;
            for (uint32_t i = 0; i < task.slice_count; i++) {
                if (!(state->slice_weights[i] > 0))
                    continue;
                chosen = i;
                before = through;
                through += state->slice_weights[i];
                if (through > target)
                    break;
            }
            state->total = total;
            state->slice = chosen;
            state->rest = (target - before) * (task.slices[chosen].sum / state->slice_weights[chosen]);
        }
    }
    if (threadIdx.x == 0) {
        state->best = best;
        state->collected = 0;
        state->kept = state->first = NONE;
        state->last = 0;
    }
    __syncthreads();
}

/* By temperature alone, in the order of ids. */
template <bool WIDE>
static __device__ __noinline__ int32_t draw_plain(const row_task &task, finish_state *state) {
    uint32_t begin = state->slice * SAMPLE_SLICE, left = task.vocab_size - begin;
    uint32_t count = left < SAMPLE_SLICE ? left : SAMPLE_SLICE, mine = threadIdx.x * DRAWN_TOGETHER;
    float largest = order_logit(task.slices[state->slice].best), scale = scale_of(task);
    float weights[DRAWN_TOGETHER];
    double sum = 0;
#pragma unroll
    for (uint32_t i = 0; i < DRAWN_TOGETHER; i += 4) {
        float4 four = load4<WIDE>(task.logits + begin, mine + i, count);
        weights[i] = weight_of(four.x, largest, scale);
        weights[i + 1] = weight_of(four.y, largest, scale);
        weights[i + 2] = weight_of(four.z, largest, scale);
        weights[i + 3] = weight_of(four.w, largest, scale);
    }
#pragma unroll
    for (uint32_t i = 0; i < DRAWN_TOGETHER; i++)
        sum += (double)weights[i];
    double through = block_sum_before(sum);
    uint32_t first = NONE, last = 0;
#pragma unroll
    for (uint32_t i = 0; i < DRAWN_TOGETHER; i++) {
        through += (double)weights[i];
        if (weights[i] > 0)
            last = begin + mine + i;
        if (through > state->rest && weights[i] > 0 && first == NONE)
            first = begin + mine + i;
    }
    atomicMin(&state->first, first);
    atomicMax(&state->last, last);
    __syncthreads();
    /* where rounding leaves something over, the last possible one */
    return (int32_t)(state->first != NONE ? state->first : state->last);
}

/* -------------------------------------------------------------------- finish: candidates ---- */

/* Calls visit(cleaned logit, token) for the row's tokens. */
template <bool WIDE, typename VISIT>
static __device__ __forceinline__ void each_token(const row_task &task, VISIT visit) {
    const uint32_t ahead = WIDE ? 8 : 1; /* loads under way */
    for (uint32_t first = 4 * threadIdx.x; first < task.vocab_size; first += 4 * THREADS * ahead) {
        float4 values[ahead];
#pragma unroll
        for (uint32_t i = 0; i < ahead; i++)
            values[i] = load4<WIDE>(task.logits, first + 4 * THREADS * i, task.vocab_size);
#pragma unroll
        for (uint32_t i = 0; i < ahead; i++) {
            uint32_t token = first + 4 * THREADS * i;
            visit(values[i].x, token);
            visit(values[i].y, token + 1);
            visit(values[i].z, token + 2);
            visit(values[i].w, token + 3);
        }
    }
}

static __device__ __forceinline__ void clear_candidates(finish_state *state) {
    __syncthreads();
    if (threadIdx.x == 0)
        state->collected = 0;
    __syncthreads();
}

static __device__ __forceinline__ void add_candidate(finish_state *state, float cleaned, uint32_t token) {
    if (*(volatile uint32_t *)&state->collected > CANDIDATES)
        return;
    uint32_t place = atomicAdd(&state->collected, 1u);
    if (place < CANDIDATES)
        state->candidates[place] = order_of(cleaned, token);
}

/* Candidates are the tokens that are wanted(cleaned logit, token); false: there is no room for all. */
template <bool WIDE, typename WANTED>
static __device__ __noinline__ bool collect(const row_task &task, finish_state *state, WANTED wanted) {
    clear_candidates(state);
    each_token<WIDE>(task, [&](float cleaned, uint32_t token) {
        if (wanted(cleaned, token))
            add_candidate(state, cleaned, token);
    });
    __syncthreads();
    return state->collected <= CANDIDATES;
}

template <bool WIDE>
static __device__ bool collect_from_order(const row_task &task, uint64_t least, finish_state *state) {
    return collect<WIDE>(task, state,
                         [=](float cleaned, uint32_t token) { return order_of(cleaned, token) >= least; });
}

/* The same for tokens of at least this key: of groups that have none nothing is read. A warp for each group, a
 * load for each lane. */
template <bool WIDE>
static __device__ __noinline__ bool collect_from_key(const row_task &task, uint32_t least, finish_state *state) {
    uint32_t lane = threadIdx.x % WARP, groups = task.slice_count * SAMPLE_GROUPS;
    clear_candidates(state);
    for (uint32_t first = threadIdx.x / WARP * WARP; first < groups; first += THREADS) {
        bool has = first + lane < groups && key_of(task.groups[first + lane]) >= least;
        for (uint32_t left = __ballot_sync(ALL_LANES, has); left != 0; left &= left - 1) {
            uint32_t group = first + __ffs((int)left) - 1, slice = group / SAMPLE_GROUPS;
            uint32_t token = slice * SAMPLE_SLICE + 4 * (lane / GROUP_LANES * SCAN_THREADS +
                                                         group % SAMPLE_GROUPS * GROUP_LANES + lane % GROUP_LANES);
            float4 four = load4<WIDE>(task.logits, token, task.vocab_size);
            float values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                if (key_of(values[i]) >= least)
                    add_candidate(state, values[i], token + i);
            }
            if (*(volatile uint32_t *)&state->collected > CANDIDATES)
                break;
        }
    }
    __syncthreads();
    return state->collected <= CANDIDATES;
}

/* The likeliest first. Bitonic. */
static __device__ __noinline__ void sort_candidates(finish_state *state, uint32_t *padded) {
    uint32_t count = 2;
    while (count < state->collected)
        count *= 2;
    for (uint32_t i = state->collected + threadIdx.x; i < count; i += THREADS)
        state->candidates[i] = 0;
    __syncthreads();
    for (uint32_t run = 2; run <= count; run *= 2) {
        for (uint32_t distance = run / 2; distance > 0; distance /= 2) {
            for (uint32_t i = threadIdx.x; i < count / 2; i += THREADS) {
                uint32_t low = 2 * i - (i & (distance - 1)), high = low + distance;
                uint64_t a = state->candidates[low], b = state->candidates[high];
                if ((a < b) == ((low & run) == 0)) {
                    state->candidates[low] = b;
                    state->candidates[high] = a;
                }
            }
            __syncthreads();
        }
    }
    *padded = count;
}

/* The key of the least logit whose weight has at least this natural logarithm. */
static __device__ uint32_t key_of_log_weight(const row_task &task, double log_weight, const finish_state *state) {
    double least = (double)order_logit(state->best) + (double)task.temperature * log_weight;
    uint32_t key = key_of(clean(__double2float_ru(least)));
    return key > 0 ? key : 1;
}

/* ------------------------------------------------------------ finish: buckets of weights ----- */

/* A weight as a multiple of 2^-40. */
static __device__ __forceinline__ uint64_t fixed_weight(float cleaned, float largest, float scale) {
    return __float2ull_rn(weight_of(cleaned, largest, scale) * (float)(1ull << WEIGHT_BITS));
}

/* To a sum in two halves; in any order, it is the same in the end. */
static __device__ __forceinline__ void add_in_halves(uint32_t *low, uint32_t *high, uint64_t added) {
    uint32_t was = atomicAdd(low, (uint32_t)added);
    uint32_t carried = (uint32_t)(added >> 32) + (was + (uint32_t)added < was);
    if (carried > 0)
        atomicAdd(high, carried);
}

/* The bucket of a weight, the largest first; SPREAD: it does not count. */
static __device__ __forceinline__ uint32_t spread_of(float cleaned, float largest, float scale) {
    float distance = (largest - cleaned) * scale * ((float)SPREAD / (float)WEIGHT_BITS);
    return distance < (float)SPREAD ? (uint32_t)distance : SPREAD;
}

static __device__ __forceinline__ void clear_spread(finish_state *state) {
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < SPREAD; i += THREADS)
        state->spread[0][i] = state->spread[1][i] = 0;
    __syncthreads();
}

/* The bucket with which the sum of the buckets comes to more than `target` (and state->bucket_before: what is
 * before it); NONE if it never does. */
static __device__ __noinline__ uint32_t find_bucket(uint64_t target, finish_state *state) {
    const uint32_t each = SPREAD / THREADS;
    uint64_t sums[each], sum = 0;
    __syncthreads();
    if (threadIdx.x == 0)
        state->bucket = NONE;
#pragma unroll
    for (uint32_t i = 0; i < each; i++) {
        uint32_t bucket = threadIdx.x * each + i;
        sums[i] = (uint64_t)state->spread[1][bucket] << 32 | state->spread[0][bucket];
        sum += sums[i];
    }
    uint64_t through = block_sum_before((unsigned long long)sum);
#pragma unroll
    for (uint32_t i = 0; i < each; i++) {
        if (through <= target && through + sums[i] > target) {
            state->bucket = threadIdx.x * each + i;
            state->bucket_before = through;
        }
        through += sums[i];
    }
    __syncthreads();
    return state->bucket;
}

/* A key that so many groups, or groups with such a sum of their largest weights, reach; as a rule there is little
 * above it that they do not tell of. 0: not so many have a weight that counts. */
static __device__ __noinline__ uint32_t key_of_groups(const row_task &task, bool weights, uint64_t target,
                                                      finish_state *state) {
    float largest = order_logit(state->best), scale = scale_of(task);
    clear_spread(state);
    for (uint32_t i = threadIdx.x; i < task.slice_count * SAMPLE_GROUPS; i += THREADS) {
        float group = task.groups[i];
        uint32_t bucket = spread_of(group, largest, scale);
        if (bucket < SPREAD)
            add_in_halves(&state->spread[0][bucket], &state->spread[1][bucket],
                          weights ? fixed_weight(group, largest, scale) : 1);
    }
    uint32_t bucket = find_bucket(target, state);
    if (bucket == NONE)
        return 0;
    double octaves = ((double)bucket + 1.01) * ((double)WEIGHT_BITS / (double)SPREAD);
    return key_of_log_weight(task, -octaves / LOG2_E, state);
}

/* ------------------------------------------------------------------------ finish: radix ----- */

/* The order of the first token, from the likeliest down, through which the count of tokens, or the sum of their
 * fixed weights, is more than `target`; there must be one. */
template <bool WIDE>
static __device__ __noinline__ uint64_t search(const row_task &task, bool weights, uint64_t target, finish_state *state) {
    float largest = order_logit(state->best), scale = scale_of(task);
    uint64_t found = 0, before = 0;
    uint32_t id_bits = 32 - __clz(task.vocab_size), shift = 64;
    while (shift > 0) {
        if (shift == 32) { /* the upper bits of ids are the same for all */
            found |= 0xFFFFFFFFu << id_bits;
            shift = id_bits;
        }
        uint32_t left = shift > 32 ? shift - 32 : shift; /* bits of the logit or of the id */
        uint32_t bits = left < RADIX_BITS ? left : RADIX_BITS, next = shift - bits;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < BUCKETS; i += THREADS)
            state->buckets[0][i] = state->buckets[1][i] = 0;
        if (threadIdx.x == 0)
            state->bucket = 0;
        __syncthreads();
        each_token<WIDE>(task, [&](float cleaned, uint32_t token) {
            uint64_t order = order_of(cleaned, token);
            if (cleaned == -INFINITY || (shift < 64 && (order ^ found) >> shift != 0))
                return;
            uint32_t bucket = (uint32_t)(order >> next) & ((1u << bits) - 1);
            if (weights)
                add_in_halves(&state->buckets[0][bucket], &state->buckets[1][bucket],
                              fixed_weight(cleaned, largest, scale));
            else
                atomicAdd(&state->buckets[0][bucket], 1u);
        });
        __syncthreads();
        const uint32_t each = BUCKETS / THREADS;
        uint64_t sums[each], sum = 0;
#pragma unroll
        for (uint32_t i = 0; i < each; i++) { /* from the likeliest down */
            uint32_t bucket = BUCKETS - 1 - (threadIdx.x * each + i);
            sums[i] = (uint64_t)state->buckets[1][bucket] << 32 | state->buckets[0][bucket];
            sum += sums[i];
        }
        uint64_t through = before + block_sum_before((unsigned long long)sum);
#pragma unroll
        for (uint32_t i = 0; i < each; i++) {
            if (through <= target && through + sums[i] > target) {
                state->bucket = BUCKETS - 1 - (threadIdx.x * each + i);
                state->bucket_before = through;
            }
            through += sums[i];
        }
        __syncthreads();
        found |= (uint64_t)state->bucket << next;
        before = state->bucket_before;
        shift = next;
    }
    return found;
}

/* Of all tokens of at least this order. */
template <bool WIDE>
static __device__ __noinline__ uint64_t fixed_sum(const row_task &task, uint64_t least, const finish_state *state) {
    float largest = order_logit(state->best), scale = scale_of(task);
    unsigned long long sum = 0;
    each_token<WIDE>(task, [&](float cleaned, uint32_t token) {
        if (cleaned != -INFINITY && order_of(cleaned, token) >= least)
            sum += fixed_weight(cleaned, largest, scale);
    });
    return block_sum(sum);
}

/* ------------------------------------------------------------------ finish: spread ----------- */

/* Fills the buckets; returns the sum of all. */
template <bool WIDE>
static __device__ __noinline__ uint64_t spread_weights(const row_task &task, finish_state *state) {
    float largest = order_logit(state->best), scale = scale_of(task);
    unsigned long long sum = 0;
    clear_spread(state);
    each_token<WIDE>(task, [&](float cleaned, uint32_t) {
        uint32_t bucket = spread_of(cleaned, largest, scale);
        if (bucket == SPREAD)
            return;
        uint64_t weight = fixed_weight(cleaned, largest, scale);
        add_in_halves(&state->spread[0][bucket], &state->spread[1][bucket], weight);
        sum += weight;
    });
    return block_sum(sum);
}

/* As `search` by weights, for a target below the sum of the buckets: state->found, found_through. */
template <bool WIDE>
static __device__ __noinline__ void search_spread(const row_task &task, uint64_t target,
                                                  finish_state *state) {
    const uint32_t held_each = CANDIDATES / THREADS;
    float largest = order_logit(state->best), scale = scale_of(task);
    uint32_t wanted = find_bucket(target, state), padded;
    bool room = collect<WIDE>(task, state, [=](float cleaned, uint32_t) {
        return spread_of(cleaned, largest, scale) == wanted;
    });
    if (!room) {
        uint64_t found = search<WIDE>(task, true, target, state);
        uint64_t found_through = fixed_sum<WIDE>(task, found, state);
        if (threadIdx.x == 0) {
            state->found = found;
            state->found_through = found_through;
        }
        __syncthreads();
        return;
    }
    sort_candidates(state, &padded);
    uint64_t weights[held_each];
    uint32_t begin = threadIdx.x * held_each;
    uint64_t sum = 0;
#pragma unroll
    for (uint32_t i = 0; i < held_each; i++) {
        bool held = begin + i < state->collected;
        weights[i] = held ? fixed_weight(order_logit(state->candidates[begin + i]), largest, scale) : 0;
        sum += weights[i];
    }
    uint64_t through = state->bucket_before + block_sum_before((unsigned long long)sum);
#pragma unroll
    for (uint32_t i = 0; i < held_each; i++) {
        if (through <= target && through + weights[i] > target) {
            state->found = state->candidates[begin + i];
            state->found_through = through + weights[i];
        }
        through += weights[i];
    }
    __syncthreads();
}

/* Truncation and draw where too much may be kept to be sorted. */
template <bool WIDE>
static __device__ __noinline__ int32_t draw_searched(const row_task &task, finish_state *state) {
    uint64_t least = (uint64_t)1 << 32, total = spread_weights<WIDE>(task, state), sum = total;
    if (task.top_k > 0) {
        uint32_t finite = 0;
        each_token<WIDE>(task, [&](float cleaned, uint32_t) { finite += cleaned != -INFINITY; });
        if (task.top_k < block_sum(finite)) {
            least = search<WIDE>(task, false, task.top_k - 1, state);
            sum = fixed_sum<WIDE>(task, least, state);
        }
    }
    if (task.top_p < 1) {
        uint64_t enough = (uint64_t)((double)task.top_p * (double)sum);
        search_spread<WIDE>(task, enough > 0 ? enough - 1 : 0, state);
        if (state->found > least) {
            least = state->found;
            sum = state->found_through;
        }
    }
    if (task.min_p > 0) {
        uint64_t reached = (uint64_t)key_of_log_weight(task, log((double)task.min_p), state) << 32;
        if (reached > least)
            sum = fixed_sum<WIDE>(task, reached, state);
    }
    uint64_t target = (uint64_t)(task.random * (double)sum), last = (sum < total ? sum : total) - 1;
    search_spread<WIDE>(task, target < last ? target : last, state);
    return (int32_t)order_token(state->found);
}

/* ------------------------------------------------------------------ finish: sorted ----------- */

/* Truncation and draw among sorted candidates, which are all that may be kept. */
static __device__ __noinline__ int32_t draw_sorted(const row_task &task, uint32_t padded, finish_state *state) {
    const uint32_t each_max = CANDIDATES / THREADS;
    uint32_t each = padded > THREADS ? padded / THREADS : 1, begin = threadIdx.x * each;
    uint32_t limit = task.top_k > 0 && task.top_k < state->collected ? task.top_k : state->collected;
    float largest = order_logit(state->best);
    double weights[each_max], sum = 0;
#pragma unroll
    for (uint32_t i = 0; i < each_max; i++) {
        bool mine = i < each && begin + i < limit;
        weights[i] = mine ? exact_weight(order_logit(state->candidates[begin + i]), largest, task) : 0;
        sum += weights[i];
    }
    double before = block_sum_before(sum), enough = INFINITY;
    if (task.top_p < 1) {
        double limited = block_sum(sum);
        enough = (double)task.top_p * (task.top_k > 0 ? limited : state->total);
    }
    double through = before;
    uint32_t cut = NONE; /* the first that is not kept */
#pragma unroll
    for (uint32_t i = 0; i < each_max; i++) {
        bool mine = i < each && begin + i < limit;
        if (mine && !(through < enough && weights[i] >= (double)task.min_p) && cut == NONE)
            cut = begin + i;
        through += weights[i];
    }
    atomicMin(&state->kept, cut < limit ? cut : limit);
    __syncthreads();
    uint32_t kept = state->kept;
    through = before;
#pragma unroll
    for (uint32_t i = 0; i < each_max; i++) {
        through += weights[i];
        if (i < each && begin + i + 1 == kept)
            state->kept_sum = through;
    }
    __syncthreads();
    double target = task.random * state->kept_sum;
    uint32_t first = NONE, last = 0;
    through = before;
#pragma unroll
    for (uint32_t i = 0; i < each_max; i++) {
        through += weights[i];
        if (i >= each || begin + i >= kept)
            continue;
        if (through > target && first == NONE)
            first = begin + i;
        if (weights[i] > 0)
            last = begin + i;
    }
    atomicMin(&state->first, first);
    atomicMax(&state->last, last);
    __syncthreads();
    /* where rounding leaves something over, the last possible one */
    return (int32_t)order_token(state->candidates[state->first != NONE ? state->first : state->last]);
}

template <bool WIDE>
static __device__ int32_t draw_truncated(const row_task &task, finish_state *state) {
    uint32_t least, padded;
    if (task.top_k > 0) {
        least = key_of_groups(task, false, task.top_k - 1, state);
        if (least == 0) /* what weighs less never comes */
            least = key_of_log_weight(task, -(double)WEIGHT_BITS / LOG2_E, state);
    } else {
        double share = 0, total = state->total;
        uint32_t groups = 0;
        if (task.top_p < 1) { /* a little more or less, for rounding */
            share = 0.999 * (1.0 - (double)task.top_p) * total / task.vocab_size;
            double enough = 1.00001 * (double)task.top_p * total;
            groups = key_of_groups(task, true, (uint64_t)(enough * (double)(1ull << WEIGHT_BITS)), state);
        }
        least = key_of_log_weight(task, log(fmax(share, 0.999 * (double)task.min_p)), state);
        least = groups > least ? groups : least;
    }
    bool room = collect_from_key<WIDE>(task, least, state);
    if (!room && task.top_k > 0 && task.top_k <= CANDIDATES)
        room = collect_from_order<WIDE>(task, search<WIDE>(task, false, task.top_k - 1, state), state);
    if (!room)
        return draw_searched<WIDE>(task, state);
    sort_candidates(state, &padded);
    return draw_sorted(task, padded, state);
}

/* ---------------------------------------------------------------------------- logprobs ------- */

/* The likeliest `count` tokens stand first among the candidates; there may be fewer. */
template <bool WIDE>
static __device__ __noinline__ void find_likeliest(const row_task &task, uint32_t count, finish_state *state) {
    uint32_t padded;
    uint32_t least = key_of_groups(task, false, count - 1, state);
    if (!collect_from_key<WIDE>(task, least > 0 ? least : 1, state))
        collect_from_order<WIDE>(task, search<WIDE>(task, false, count - 1, state), state);
    sort_candidates(state, &padded);
}

template <bool WIDE>
static __device__ void tell_logprobs(const row_task &task, const sample_call &call, finish_state *state) {
    cento_token_logprob *to = call.read_logprobs + (size_t)task.row * (1 + call.logprobs_max);
    uint32_t count = task.top_k, place = threadIdx.x;
    int32_t chosen = call.tokens[task.row];
    if (state->best == 0)
        return;
    double log_sum = (double)order_logit(state->best) + log(state->total);
    find_likeliest<WIDE>(task, count, state);
    if (place < count && place < state->collected) {
        uint64_t order = state->candidates[place];
        to[1 + place].token = (int32_t)order_token(order);
        to[1 + place].logprob = (float)((double)order_logit(order) - log_sum);
    }
    if (place != 0)
        return;
    to[0].token = chosen;
    to[0].logprob = chosen < 0 ? -INFINITY : (float)((double)clean(task.logits[chosen]) - log_sum);
    uint32_t told = state->collected; /* then those that cannot be drawn, by their ids */
    for (uint32_t token = 0; told < count && token < task.vocab_size; token++) {
        if (clean(task.logits[token]) != -INFINITY)
            continue;
        to[1 + told].token = (int32_t)token;
        to[1 + told++].logprob = -INFINITY;
    }
}

/* ------------------------------------------------------------------------------- finish ----- */

template <bool WIDE>
static __global__ void __launch_bounds__(THREADS, 2) finish_kernel(const __grid_constant__ sample_call call) {
    __shared__ finish_state state;
    row_task task = task_of(call, blockIdx.x);
    join_slices(task, &state);
    if (call.listed != nullptr) {
        tell_logprobs<WIDE>(task, call, &state);
        return;
    }
    int32_t token;
    if (state.best == 0)
        token = -1;
    else if (task.temperature == 0)
        token = (int32_t)order_token(state.best);
    else if (task.truncated)
        token = draw_truncated<WIDE>(task, &state);
    else
        token = draw_plain<WIDE>(task, &state);
    if (threadIdx.x == 0)
        call.tokens[task.row] = call.read_tokens[task.row] = token;
}

/* ----------------------------------------------------------------------------- launches ------ */

extern "C" cudaError_t sample_change_logits(const sample_call *call, cudaStream_t stream) {
    change_kernel<<<call->row_count, THREADS, 0, stream>>>(*call);
    return cudaGetLastError();
}

extern "C" cudaError_t sample_restore_logits(const sample_call *call, cudaStream_t stream) {
    restore_kernel<<<call->row_count, THREADS, 0, stream>>>(*call);
    return cudaGetLastError();
}

extern "C" cudaError_t sample_rows(const sample_call *call, cudaStream_t stream) {
    uint32_t rows = call->listed == nullptr ? call->row_count : call->listed_count;
    dim3 slices(call->slice_count, rows);
    if (call->vocab_size % 4 == 0 && (uintptr_t)call->logits % 16 == 0) {
        scan_kernel<true><<<slices, SCAN_THREADS, 0, stream>>>(*call);
        finish_kernel<true><<<rows, THREADS, 0, stream>>>(*call);
    } else {
        scan_kernel<false><<<slices, SCAN_THREADS, 0, stream>>>(*call);
        finish_kernel<false><<<rows, THREADS, 0, stream>>>(*call);
    }
    return cudaGetLastError();
}
