/* What all kernels use: halves, sums over warps and blocks, the instructions that CUDA C has no name for. */
#ifndef FE_CUDA_DEVICE_CUH
#define FE_CUDA_DEVICE_CUH

#include "shared.h"

#include <cuda_fp16.h>

#define KERNEL(threads)          extern "C" __global__ void __launch_bounds__(threads)
#define KERNEL2(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define INLINE                   static __device__ __forceinline__
#define ALL_LANES                0xFFFFFFFFu
#define LOG2_E                   1.44269504088896340736f

typedef unsigned char uchar;

INLINE uint32_t lane_index() { return threadIdx.x % FE_CUDA_WARP; }
INLINE uint32_t warp_index() { return threadIdx.x / FE_CUDA_WARP; }

INLINE float warp_sum(float x) {
    for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(ALL_LANES, x, i);
    return x;
}

INLINE float warp_max(float x) {
    for (int i = 16; i > 0; i /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, i));
    return x;
}

/* Of all threads of a block of whole warps, the same in each; `parts` holds a float a warp and is free again behind the next
 * barrier. */
INLINE float block_sum(float x, float *parts) {
    x = warp_sum(x);
    if (lane_index() == 0) parts[warp_index()] = x;
    __syncthreads();
    return warp_sum(lane_index() < blockDim.x / FE_CUDA_WARP ? parts[lane_index()] : 0.0f);
}

/* The largest, which is none below 0. */
INLINE float block_max(float x, float *parts) {
    x = warp_max(x);
    if (lane_index() == 0) parts[warp_index()] = x;
    __syncthreads();
    return warp_max(lane_index() < blockDim.x / FE_CUDA_WARP ? parts[lane_index()] : 0.0f);
}

INLINE float4 operator+(float4 x, float4 y) { return make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w); }
INLINE float4 operator*(float4 x, float4 y) { return make_float4(x.x * y.x, x.y * y.y, x.z * y.z, x.w * y.w); }
INLINE float4 operator*(float4 x, float y) { return make_float4(x.x * y, x.y * y, x.z * y, x.w * y); }

/* In a graph the kernel behind may begin as soon as all blocks of this one have: it can fetch weights, and waits here before it
 * reads or writes what others do. Every kernel waits, so that those before have all ended. What others write is not read by
 * __ldg: the cache behind it may hold what was there before. */
INLINE void let_next_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
INLINE void await_others() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
INLINE void begin() {
    let_next_begin();
    await_others();
}

/* As instructions name a place in shared memory. */
INLINE uint32_t shared_at(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

INLINE float half_bits(uint32_t bits) { return __half2float(__ushort_as_half((unsigned short)bits)); }
INLINE uint32_t half2_bits(__half2 x) { return *(const uint32_t *)&x; }
INLINE __half2 bits_half2(uint32_t x) { return *(const __half2 *)&x; }

/* Within an ulp, of what neither is nor becomes subnormal. */
INLINE float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 2^x, within some ulps; 0 where it is subnormal. */
INLINE float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

INLINE float silu(float x) { return x / (1.0f + expf(-x)); }

INLINE float gelu(float x) {
    const float sqrt_2_over_pi = 0.79788456080286535588f;
    return 0.5f * x * (1.0f + tanhf(sqrt_2_over_pi * fmaf(0.044715f * x * x, x, x)));
}

INLINE float gated(uint32_t glu, float gate, float up) {
    return (glu == FE_CUDA_SWIGLU ? silu(gate) : gelu(gate)) * up;
}

/* c += a · b, tiles of 16 × 16 and 16 × 8 halves. With g = lane / 4 and t = lane % 4: a holds rows g and g + 8, columns 2t and
 * 2t + 8 (two each), b rows 2t and 2t + 8 of column g, c rows g and g + 8, columns 2t, two each. */
INLINE void mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four 8 × 8 tiles of halves out of shared memory, transposed; lane i names row i % 8 of tile i / 8. */
INLINE void load_transposed(uint32_t r[4], const void *row) {
    uint32_t at = shared_at(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

/* An 8 × 8 tile of halves in the lanes, transposed: lane 4g + t has columns 2t and 2t + 1 of row g. */
INLINE uint32_t transposed(uint32_t x) {
    uint32_t y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}

/* Sixteen bytes of shared memory, here and now: no register holds them for later. */
INLINE uint4 load_shared(const void *from) {
    uint4 x;
    asm volatile("ld.volatile.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "r"(shared_at(from)));
    return x;
}

/* Sixteen bytes of global memory, not through the first cache; x stays where `in` is false. */
INLINE void load_where(bool in, uint4 &x, const uint4 *from) {
    asm volatile("{\n"
                 ".reg .pred in;\n"
                 "setp.ne.u32 in, %5, 0;\n"
                 "@in ld.global.cg.v4.u32 {%0,%1,%2,%3}, [%4];\n"
                 "}"
                 : "+r"(x.x), "+r"(x.y), "+r"(x.z), "+r"(x.w)
                 : "l"(from), "r"((uint32_t)in));
}

/* 16 bytes to shared memory, in the background; zeros where `valid` is false. */
INLINE void copy_async(void *to, const void *from, bool valid) {
    uint32_t at = shared_at(to), bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory");
}

/* The same where what stands behind it is wanted soon: it comes to the second cache. */
INLINE void copy_ahead(void *to, const void *from) {
    uint32_t at = shared_at(to);
    asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
}

INLINE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> INLINE void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

#endif
