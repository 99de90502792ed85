/* Products with many tokens on Hopper's warpgroups (compute capability 9.0 alone). Two warpgroups take 64 rows of the weights
 * each, from their blocks to registers, times as many tokens as a tile has, which come through shared memory in stages of 64
 * elements, in the background. While the tensor cores multiply one stage, the weights of the next are made halves. */
#include "halves.cuh"

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900

enum { THREADS = 256, BYTES = FE_CUDA_STAGE * 2 };
extern __shared__ uchar memory[];

/* A tile of TOKENS rows of 128 bytes; their chunks of 16 stand turned about by the row, as the 128-byte swizzle has it. */
INLINE uint64_t descriptor(const void *tile) {
    uint64_t at = (uint64_t)__cvta_generic_to_shared(tile);
    return (at & 0x3FFFF) >> 4 | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

#define TEN(t) "%" #t "0,%" #t "1,%" #t "2,%" #t "3,%" #t "4,%" #t "5,%" #t "6,%" #t "7,%" #t "8,%" #t "9,"
#define SUM_4(i)   "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SUM_16(i)  SUM_4(i), SUM_4(i + 4), SUM_4(i + 8), SUM_4(i + 12)
#define SUM_64(i)  SUM_16(i), SUM_16(i + 16), SUM_16(i + 32), SUM_16(i + 48)
#define LEFT       "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])

/* d += a · b, 64 × 16 and 16 × TOKENS halves. */
INLINE void multiply(float (&d)[64], const uint32_t *a, uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" TEN() TEN(1) TEN(2) TEN(3) TEN(4)
                     TEN(5) "%60,%61,%62,%63}, {%64,%65,%66,%67}, %68, 1, 1, 1, 0;"
                 : SUM_64(0)
                 : LEFT, "l"(b));
}
INLINE void multiply(float (&d)[128], const uint32_t *a, uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {" TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5)
                     TEN(6) TEN(7) TEN(8) TEN(9) TEN(10) TEN(11) "%120,%121,%122,%123,%124,%125,%126,%127}, "
                                                                 "{%128,%129,%130,%131}, %132, 1, 1, 1, 0;"
                 : SUM_64(0), SUM_64(64)
                 : LEFT, "l"(b));
}
INLINE void multiply_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
INLINE void multiply_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
INLINE void multiply_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

/* What the copies wrote becomes visible to the tensor cores. */
INLINE void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/* The left factors of a stage: elements of two groups of 32 in two rows. */
template <typename T> INLINE void fetch(const uchar *upper, const uchar *lower, uint32_t stage, uint32_t t, eight<T> (&e)[4]) {
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        eight<T>::fetch(upper, 2 * stage + i, t, e[2 * i]);
        eight<T>::fetch(lower, 2 * stage + i, t, e[2 * i + 1]);
    }
}

/* And as its four steps take them. */
template <typename T> INLINE void convert(const eight<T> (&e)[4], uint32_t (&a)[16]) {
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t u[4], v[4];
        e[2 * i].halves(u);
        e[2 * i + 1].halves(v);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            uint32_t *to = a + 8 * i + 4 * j;
            to[0] = u[2 * j], to[1] = v[2 * j], to[2] = u[2 * j + 1], to[3] = v[2 * j + 1];
        }
    }
}

/* Asks for what a row has some stages on, a line of 128 bytes a lane, lest it come from afar. */
template <typename T> INLINE void ask_for(const uchar *row, uint32_t stage, uint32_t stages, uint32_t t) {
    enum { AHEAD = 8 };
    if (t < 2 && stage + AHEAD < stages)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(eight<T>::place(row, 2 * (stage + AHEAD)) + 128 * t));
}

/* The part of a stage that a thread copies: eight threads a row. index: where each row of the tile lies in a, or none. */
template <int TOKENS>
INLINE void copy_stage(const fe_cuda_matmul &p, uchar *tile, const uint32_t *index, uint32_t stage) {
    uint32_t c = threadIdx.x % 8;
#pragma unroll
    for (uint32_t r = threadIdx.x / 8; r < TOKENS; r += THREADS / 8) {
        bool valid = index[r] != UINT32_MAX;
        const __half *from = (const __half *)p.a + (valid ? index[r] : 0) * (uint64_t)p.k + stage * FE_CUDA_STAGE + c * 8;
        copy_async(tile + r * BYTES + (c ^ r % 8) * 16, from, valid);
    }
}

/* Multiplies stage s, its left factors being `a`; meanwhile `next` becomes those of the one behind, in registers of their own, of
 * what e holds; and that of the one behind it is fetched. */
template <typename T, int TOKENS>
INLINE void do_stage(const fe_cuda_matmul &p, uchar *tiles, const uint32_t *index, uint32_t s, const uchar *upper,
                     const uchar *lower, float (&sum)[TOKENS / 2], eight<T> (&e)[4], const uint32_t (&a)[16],
                     uint32_t (&next)[16]) {
    uint32_t stages = p.k / FE_CUDA_STAGE;
    copy_wait<FE_CUDA_STAGES - 2>();
    publish();
    __syncthreads();
    uint64_t b = descriptor(tiles + s % FE_CUDA_STAGES * TOKENS * BYTES);
    multiply_begin();
#pragma unroll
    for (int i = 0; i < 4; i++) multiply(sum, a + 4 * i, b + 2 * i);
    multiply_commit();
    uint32_t ahead = s + FE_CUDA_STAGES - 1; /* its place is that of stage s - 1, which all have done with */
    if (ahead < stages) copy_stage<TOKENS>(p, tiles + ahead % FE_CUDA_STAGES * TOKENS * BYTES, index, ahead);
    copy_commit();
    uint32_t t = lane_index() % 4;
    eight<T> later[4];
    fetch<T>(upper, lower, min(s + 2, stages - 1), t, later);
    ask_for<T>(upper, s, stages, t);
    ask_for<T>(lower, s, stages, t);
    convert<T>(e, next);
#pragma unroll
    for (int i = 0; i < 4; i++) e[i] = later[i];
    multiply_wait();
}

/* TOKENS tokens (x) times 128 rows of the weights (y), of expert z: blocks side by side have their weights in common. */
template <typename T, int TOKENS> static __device__ void gemm_wide(const fe_cuda_matmul &p, uint32_t *index) {
    uchar *tiles = memory + (1024 - (uint32_t)__cvta_generic_to_shared(memory) % 1024) % 1024;
    uint32_t first = blockIdx.x * TOKENS, rows = rows_of_c(p);
    if (first >= rows) return;
    uint32_t product = blockIdx.y < p.end[0] ? 0 : blockIdx.y < p.end[1] ? 1 : 2;
    uint32_t tile = blockIdx.y - (product ? p.end[product - 1] : 0), n = p.n[product];
    uint32_t g = lane_index() / 4, t = lane_index() % 4, row = tile * FE_CUDA_WIDE_ROWS + warp_index() * 16 + g;
    const uchar *base = p.w[product] + blockIdx.z * p.w_slice;
    const uchar *upper = base + min(row, n - 1) * p.w_stride[product], *lower = base + min(row + 8, n - 1) * p.w_stride[product];
    uint32_t stages = p.k / FE_CUDA_STAGE;
    for (uint32_t r = threadIdx.x; r < TOKENS; r += THREADS)
        index[r] = first + r < rows ? packed_row(p, row_of_c(p, first + r)) : UINT32_MAX;
    __syncthreads();

    float sum[TOKENS / 2] = {};
    uint32_t a[16], next[16];
    for (uint32_t s = 0; s < FE_CUDA_STAGES - 1; s++) {
        if (s < stages) copy_stage<TOKENS>(p, tiles + s * TOKENS * BYTES, index, s);
        copy_commit();
    }
    eight<T> e[4];
    fetch<T>(upper, lower, 0, t, e);
    convert<T>(e, a);
    fetch<T>(upper, lower, min(1, stages - 1), t, e);
    for (uint32_t s = 0; s < stages; s += 2) {
        do_stage<T, TOKENS>(p, tiles, index, s, upper, lower, sum, e, a, next);
        if (s + 1 < stages) do_stage<T, TOKENS>(p, tiles, index, s + 1, upper, lower, sum, e, next, a);
    }
#pragma unroll
    for (int i = 0; i < TOKENS / 2; i++) {
        uint32_t r = row + (i & 2) * 4, column = i / 4 * 8 + 2 * t + (i & 1);
        if (r >= n || first + column >= rows) continue;
        uint32_t to = row_of_c(p, first + column);
        p.c[product][(uint64_t)to * p.c_stride[product] + r] = sum[i] * p.scales[index[column]];
    }
}

#define GEMM_WIDE_OF(name, T, TOKENS)                                                              \
    KERNEL(THREADS) gemm_wide_##name##_##TOKENS(const __grid_constant__ fe_cuda_matmul p) {        \
        __shared__ uint32_t index[TOKENS];                                                         \
        begin();                                                                                   \
        gemm_wide<T, TOKENS>(p, index);                                                            \
    }
#define GEMM_WIDE(name, T) GEMM_WIDE_OF(name, T, 128) GEMM_WIDE_OF(name, T, 256)
GEMM_WIDE(f16, F16)
FOR_EACH_QUANT(GEMM_WIDE)

/* What the warpgroups give by themselves: one tile, again and again. */
KERNEL(THREADS) peak_wide(const __grid_constant__ fe_cuda_peak p) {
    begin();
    uchar *tile = memory + (1024 - (uint32_t)__cvta_generic_to_shared(memory) % 1024) % 1024;
    float sum[128] = {}, total = 0.0f;
    uint32_t a[16];
    for (uint32_t i = threadIdx.x; i < 256 * BYTES / 4; i += THREADS)
        ((uint32_t *)tile)[i] = 0x3C003800u ^ (i * 2654435761u >> 3 & 0x83FF83FFu);
    for (int i = 0; i < 16; i++) a[i] = 0x3C003800u ^ (threadIdx.x * 2654435761u >> i & 0x83FF83FFu);
    publish();
    __syncthreads();
    uint64_t b = descriptor(tile);
    for (uint32_t round = 0; round < p.rounds; round++) {
        multiply_begin();
#pragma unroll
        for (int i = 0; i < 4; i++) multiply(sum, a + 4 * i, b + 2 * i);
        multiply_commit();
        multiply_wait();
    }
#pragma unroll
    for (int i = 0; i < 128; i++) total += sum[i];
    p.out[blockIdx.x * THREADS + threadIdx.x] = total;
}

#endif
