/* Tensor-core instructions of sm_80 and newer, as far as attention_mma.cu uses them. */
#ifndef CENTO_BACKEND_CUDA_ATTENTION_MMA_CUH
#define CENTO_BACKEND_CUDA_ATTENTION_MMA_CUH

#include <cuda_bf16.h>
#include <stdint.h>

static __device__ __forceinline__ uint32_t shared_address(const void *memory) {
    return (uint32_t)__cvta_generic_to_shared(memory);
}

/* 16 bytes into shared memory. */
static __device__ __forceinline__ void copy_async(uint32_t to, const void *from) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from));
}

template <int bytes> static __device__ __forceinline__ void copy_async_small(uint32_t to, const void *from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(bytes));
}

static __device__ __forceinline__ void copy_wait_all(void) {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* Not put off until it is needed, as compilers do with what is only read. */
static __device__ __forceinline__ float4 load_now(const float *from) {
    float4 to;
    asm volatile("ld.global.nc.v4.f32 {%0,%1,%2,%3}, [%4];"
                 : "=f"(to.x), "=f"(to.y), "=f"(to.z), "=f"(to.w)
                 : "l"(from));
    return to;
}

/* Likewise, of what other CTAs write. */
static __device__ __forceinline__ float4 load_shared_now(const float *from) {
    float4 to;
    asm volatile("ld.global.cg.v4.f32 {%0,%1,%2,%3}, [%4];"
                 : "=f"(to.x), "=f"(to.y), "=f"(to.z), "=f"(to.w)
                 : "l"(from)
                 : "memory");
    return to;
}

static __device__ __forceinline__ void store_zeros(uint32_t to) {
    asm volatile("st.shared.v4.b32 [%0], {%1,%1,%1,%1};" ::"r"(to), "r"(0) : "memory");
}

static __device__ __forceinline__ void copy_commit(void) {
    asm volatile("cp.async.commit_group;");
}

template <int pending> static __device__ __forceinline__ void copy_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending));
}

static __device__ __forceinline__ void load_matrices(uint32_t (&to)[4], uint32_t from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from));
}

static __device__ __forceinline__ void load_matrices_transposed(uint32_t (&to)[4], uint32_t from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from));
}

/* sum (16, 8) += a (16, 16) · b (16, 8) */
static __device__ __forceinline__ void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0,
                                                    uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

static __device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Counts up, after everything that this CTA wrote before its last barrier. */
static __device__ __forceinline__ void arrive_at(uint32_t *counter) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}

/* How many have arrived; what they wrote before is seen. */
static __device__ __forceinline__ uint32_t arrivals(const uint32_t *counter) {
    uint32_t arrived;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(arrived) : "l"(counter) : "memory");
    return arrived;
}

/* Counts up too, and from `last` to zero. */
static __device__ __forceinline__ void leave(uint32_t *counter, uint32_t last) {
    asm volatile("red.relaxed.gpu.global.inc.u32 [%0], %1;" ::"l"(counter), "r"(last) : "memory");
}

#endif
