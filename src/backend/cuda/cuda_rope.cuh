/* Rotary angles in a kernel: position × inv_freq reduced in f64, then cos and sin of it in f32. As exact as
 * f32 is, at any position. */
#ifndef CENTO_BACKEND_CUDA_CUDA_ROPE_CUH
#define CENTO_BACKEND_CUDA_CUDA_ROPE_CUH

/* turn: inv_freq / π. What remains after whole turns lies in [-1, 1]. */
static __device__ __forceinline__ void rope_cos_sin(double position, double turn, float factor, float *cosine,
                                                    float *sine) {
    double half_turns = position * turn;
    half_turns -= 2.0 * rint(0.5 * half_turns);
    sincospif((float)half_turns, sine, cosine);
    *cosine *= factor;
    *sine *= factor;
}

#endif
