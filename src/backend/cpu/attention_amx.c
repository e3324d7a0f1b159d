/* Attention with AMX; see attention_amx_body.h. Compiled with the flags of cmake/isa.cmake. */
#include "attention_amx.h"

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512BF16__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_TILE_DATA  18

/* All tile registers alike: 16 rows of 64 bytes. */
static const struct tile_configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_configuration __attribute__((aligned(64))) = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

/* The compiler does not know that tile loads and stores touch memory. */
#define TILE_FENCE()               __asm__ volatile("" ::: "memory")
#define TILES_BEGIN()              _tile_loadconfig(&tile_configuration)
#define TILES_END()                _tile_release()
#define TILE_ZERO(t)               _tile_zero(t)
#define TILE_LOAD(t, from, stride) _tile_loadd(t, from, stride)
#define TILE_STORE(t, to, stride)  _tile_stored(t, to, stride)
#define TILE_DOT(sum, a, b)        _tile_dpbf16ps(sum, a, b)

#include "attention_amx_body.h"

static const attention_kernels kernels = {
    .keys = KEYS,
    .width = STEP,
    .scratch_bytes = scratch_bytes,
    .pack_queries = pack_queries,
    .attend_block = attend_block,
    .read_state = read_state,
};

const attention_kernels *attention_amx(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16"))
        return NULL;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILE_DATA) == 0 ? &kernels : NULL;
}
#else
const attention_kernels *attention_amx(void) {
    return NULL;
}
#endif
