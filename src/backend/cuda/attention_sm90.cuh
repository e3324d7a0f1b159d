/*
 * Instructions of sm_90a, as far as attention_sm90.cu uses them: mbarriers, tensor copies, warpgroup
 * products.
 *
 * Tiles of bf16 lie in shared memory as tensor copies with a 128-byte swizzle write them: blocks of 64
 * columns, a row of a block 128 bytes, its 16-byte chunks exchanged by chunk ^= row & 7; blocks begin at
 * multiples of 1024 bytes.
 */
#ifndef CENTO_BACKEND_CUDA_ATTENTION_SM90_CUH
#define CENTO_BACKEND_CUDA_ATTENTION_SM90_CUH

#include "attention_mma.cuh"

/* ---------------------------------------------------------------------------- mbarriers ------ */

static __device__ __forceinline__ void barrier_init(uint64_t *barrier, uint32_t count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
}

static __device__ __forceinline__ void barrier_arrive(uint64_t *barrier) {
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

static __device__ __forceinline__ void barrier_arrive_expect(uint64_t *barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}

static __device__ __forceinline__ void barrier_wait(uint64_t *barrier, uint32_t parity) {
    asm volatile("{ .reg .pred done;\n"
                 "again: mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
                 "@!done bra again; }" ::"r"(shared_address(barrier)),
                 "r"(parity)
                 : "memory");
}

/* Of `threads` threads of a CTA, by number. */
static __device__ __forceinline__ void named_sync(uint32_t number, uint32_t threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

static __device__ __forceinline__ void named_arrive(uint32_t number, uint32_t threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/* What this thread wrote to shared memory is seen by products and copies that follow. */
static __device__ __forceinline__ void fence_async(void) {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

template <int registers> static __device__ __forceinline__ void registers_more(void) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

template <int registers> static __device__ __forceinline__ void registers_less(void) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

/* -------------------------------------------------------------------------------- copies ------ */

static __device__ __forceinline__ void tensor_prefetch(const void *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* The map's box at column x, row y. */
static __device__ __forceinline__ void tensor_copy(uint32_t to, const void *map, int x, int y,
                                                   uint64_t *barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
        "%3}], [%4];" ::"r"(to),
        "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier))
        : "memory");
}

/* ------------------------------------------------------------------------------ products ------ */

/* A tile at `address`; block_bytes from one block of 64 columns to the next, where columns are the product's
 * rows (a transposed operand): else the address of the block is given with each step. */
static __device__ __forceinline__ uint64_t tile_descriptor(uint32_t address, uint32_t block_bytes) {
    return ((uint64_t)1 << 62) | ((uint64_t)(1024 >> 4) << 32) | ((uint64_t)(block_bytes >> 4) << 16) |
           ((address & 0x3FFFF) >> 4);
}

static __device__ __forceinline__ void products_begin(void) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void products_commit(void) {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int pending> static __device__ __forceinline__ void products_wait(void) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/* The registers are read and written here, not before and not behind. */
template <int count> static __device__ __forceinline__ void hold(float (&registers)[count]) {
#pragma unroll
    for (int i = 0; i < count; i++)
        asm volatile("" : "+f"(registers[i])::"memory");
}

#define FLOATS_4(sum, i)  "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3])
#define FLOATS_16(sum, i) FLOATS_4(sum, i), FLOATS_4(sum, i + 4), FLOATS_4(sum, i + 8), FLOATS_4(sum, i + 12)

/* sum (64, N) = a (64, 16) · b (N, 16)ᵀ, added if accumulate; both tiles with rows of 16 of their columns. */
static __device__ __forceinline__ void product_shared(float (&sum)[32], uint64_t a, uint64_t b,
                                                      int accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0; "
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}"
                 ", %32, %33, p, 1, 1, 0, 0; }"
                 : FLOATS_16(sum, 0), FLOATS_16(sum, 16)
                 : "l"(a), "l"(b), "r"(accumulate));
}

static __device__ __forceinline__ void product_shared(float (&sum)[64], uint64_t a, uint64_t b,
                                                      int accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %66, 0; "
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
                 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"
                 ", %64, %65, p, 1, 1, 0, 0; }"
                 : FLOATS_16(sum, 0), FLOATS_16(sum, 16), FLOATS_16(sum, 32), FLOATS_16(sum, 48)
                 : "l"(a), "l"(b), "r"(accumulate));
}

/* sum (64, N) = a (64, 16) in registers · b (16, N): 16 rows of a tile of N columns. */
static __device__ __forceinline__ void product_registers(float (&sum)[32], const uint32_t (&a)[4], uint64_t b,
                                                         int accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; "
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}"
                 ", {%32,%33,%34,%35}, %36, p, 1, 1, 1; }"
                 : FLOATS_16(sum, 0), FLOATS_16(sum, 16)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}

static __device__ __forceinline__ void product_registers(float (&sum)[64], const uint32_t (&a)[4], uint64_t b,
                                                         int accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %69, 0; "
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
                 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"
                 ", {%64,%65,%66,%67}, %68, p, 1, 1, 1; }"
                 : FLOATS_16(sum, 0), FLOATS_16(sum, 16), FLOATS_16(sum, 32), FLOATS_16(sum, 48)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
}

#undef FLOATS_4
#undef FLOATS_16

#endif
