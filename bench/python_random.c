/* See python_random.h. */
#include "bench/python_random.h"

enum { STATE_WORDS = 624, MIDDLE = 397 };

static void init_genrand(uint32_t *state, uint32_t seed) {
    state[0] = seed;
    for (uint32_t i = 1; i < STATE_WORDS; i++)
        state[i] = 1812433253u * (state[i - 1] ^ state[i - 1] >> 30) + i;
}

/* init_by_array with the one key `seed`. */
void python_random_seed(python_random *random, uint32_t seed) {
    uint32_t *state = random->state, i = 1;
    init_genrand(state, 19650218);
    for (uint32_t k = 0; k < STATE_WORDS; k++) {
        state[i] = (state[i] ^ (state[i - 1] ^ state[i - 1] >> 30) * 1664525u) + seed;
        if (++i == STATE_WORDS) {
            state[0] = state[STATE_WORDS - 1];
            i = 1;
        }
    }
    for (uint32_t k = 1; k < STATE_WORDS; k++) {
        state[i] = (state[i] ^ (state[i - 1] ^ state[i - 1] >> 30) * 1566083941u) - i;
        if (++i == STATE_WORDS) {
            state[0] = state[STATE_WORDS - 1];
            i = 1;
        }
    }
    state[0] = 0x80000000u;
    random->index = STATE_WORDS;
}

static void twist(uint32_t *state) {
    for (uint32_t i = 0; i < STATE_WORDS; i++) {
        uint32_t bits = (state[i] & 0x80000000u) | (state[(i + 1) % STATE_WORDS] & 0x7FFFFFFFu);
        state[i] = state[(i + MIDDLE) % STATE_WORDS] ^ bits >> 1 ^ (bits & 1 ? 0x9908B0DFu : 0);
    }
}

static uint32_t draw(python_random *random) {
    if (random->index == STATE_WORDS) {
        twist(random->state);
        random->index = 0;
    }
    uint32_t value = random->state[random->index++];
    value ^= value >> 11;
    value ^= value << 7 & 0x9D2C5680u;
    value ^= value << 15 & 0xEFC60000u;
    return value ^ value >> 18;
}

uint32_t python_randint(python_random *random, uint32_t low, uint32_t high) {
    uint32_t range = high - low + 1, bits = 0;
    while (range >> bits != 0)
        bits++;
    for (;;) {
        uint32_t value = draw(random) >> (32 - bits);
        if (value < range)
            return low + value;
    }
}
