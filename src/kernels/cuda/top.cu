/* The largest of a row, in order. A row is divided among blocks; each finds the largest of its part, and the one that is done last those of
 * all parts. Of a part every thread has its own largest first: FE_CUDA_TOP elements at least are no smaller than the FE_CUDA_TOP-th of
 * these, and they are so few that they are sorted. */
#include "device.cuh"

#include <cfloat>

enum { THREADS = FE_CUDA_WIDE, TOP = FE_CUDA_TOP, ROOM = TOP * FE_CUDA_TOP_EACH };
typedef unsigned long long key; /* a number in the order of the floats, then the index, the lower the larger; 0: none */

INLINE key key_of(float x, uint32_t index) {
    if (!(x > -INFINITY)) return 0;
    uint32_t bits = __float_as_uint(fminf(x, FLT_MAX) + 0.0f); /* both zeros are one */
    bits ^= bits >> 31 ? 0xFFFFFFFF : 0x80000000;
    return (key)bits << 32 | ~index;
}
INLINE float value_of(key k) {
    uint32_t bits = (uint32_t)(k >> 32);
    return __uint_as_float(bits >> 31 ? bits ^ 0x80000000 : ~bits);
}

struct elements {
    const float *x;
    uint32_t first;
    __device__ key operator()(uint32_t i) const { return key_of(x[i], first + i); }
};
struct found {
    const key *keys;
    __device__ key operator()(uint32_t i) const { return __ldcg(keys + i); }
};

/* keys[0 … n-1], n a power of two, the largest first. */
INLINE void sort(key *keys, uint32_t n) {
    for (uint32_t size = 2; size <= n; size *= 2)
        for (uint32_t apart = size / 2; apart > 0; apart /= 2) {
            __syncthreads();
            for (uint32_t i = threadIdx.x; i < n / 2; i += THREADS) {
                uint32_t low = 2 * i - i % apart, high = low + apart;
                key a = keys[low], b = keys[high];
                if ((a < b) == !(low & size)) keys[low] = b, keys[high] = a;
            }
        }
    __syncthreads();
}

/* keys[0 … TOP-1] become the largest of what `get` gives for 0 … n-1; n is THREADS · FE_CUDA_TOP_EACH at most. */
template <typename GET> INLINE void select(key *keys, uint32_t n, GET get) {
    __shared__ uint32_t count;
    key own = 0;
    for (uint32_t i = threadIdx.x; i < n; i += THREADS) own = max(own, get(i));
    keys[threadIdx.x] = own;
    sort(keys, THREADS);
    key least = max(keys[TOP - 1], (key)1);
    __syncthreads();
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    if (own >= least)
        for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
            key k = get(i);
            if (k >= least) keys[atomicAdd(&count, 1)] = k;
        }
    __syncthreads();
    uint32_t all = count, size = TOP;
    while (size < all) size *= 2;
    for (uint32_t i = all + threadIdx.x; i < size; i += THREADS) keys[i] = 0;
    sort(keys, size);
}

/* x: parts of a row, y: rows. */
KERNEL(THREADS) top(const __grid_constant__ fe_cuda_top p) {
    __shared__ key keys[ROOM];
    __shared__ bool last;
    begin();
    uint32_t begin = (uint64_t)p.cols * blockIdx.x / gridDim.x, end = (uint64_t)p.cols * (blockIdx.x + 1) / gridDim.x;
    select(keys, end - begin, elements{p.x + (uint64_t)blockIdx.y * p.x_stride + begin, begin});
    key *parts = (key *)p.parts + (uint64_t)blockIdx.y * gridDim.x * TOP;
    if (gridDim.x > 1) {
        if (threadIdx.x < TOP) parts[blockIdx.x * TOP + threadIdx.x] = keys[threadIdx.x];
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            last = atomicAdd(p.counts + blockIdx.y, 1) == gridDim.x - 1;
            if (last) p.counts[blockIdx.y] = 0;
            __threadfence();
        }
        __syncthreads();
        if (!last) return;
        select(keys, gridDim.x * TOP, found{parts});
    }
    float *out = p.out + (uint64_t)blockIdx.y * p.out_stride;
    if (threadIdx.x >= TOP) return;
    key k = keys[threadIdx.x];
    out[threadIdx.x] = k ? value_of(k) : -INFINITY;
    out[TOP + threadIdx.x] = k ? (float)~(uint32_t)k : -1.0f;
}
