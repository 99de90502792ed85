/* The products of one token. A block stays on its multiprocessor and makes its own activations: norm and packing. Meanwhile, and
 * before the kernel in front has ended, its warps have their first weights on the way to shared memory: memory is read without a
 * pause from one kernel to the next. A block has rows of the weights side by side. Two of them make a pair (of gate and up one each,
 * where both are wanted), which comes in pieces of 2,048 elements: units that the block's warps take in turn, 64 elements of both
 * rows a lane. The sums of units meet in shared memory. */
#include "ints.cuh"
#include "types.cuh"

#include <cfloat>

enum { WARPS = FE_CUDA_TOKEN_WARPS, THREADS = WARPS * FE_CUDA_WARP, EACH = FE_CUDA_TOKEN_EACH };

/* ---- Activations: chunks of 16 integers as two bytes each; two share a scale ---- */

/* In shared memory: upper bytes, lower bytes; for two chunks their scale d, d · Σx of the first and of the second, and the sum of
 * both. */
struct activations {
    uint4 *upper, *lower;
    float4 *scales;
};

/* Where a chunk of 32 stands, and where the scales of two: turned about so that lanes side by side find theirs in different
 * banks, whichever type's. */
INLINE uint32_t chunk_at(uint32_t c) { return (c & ~31u) | ((c ^ c >> 2) & 1) | (c >> 3 & 3) << 1 | (c >> 1 & 3) << 3; }
INLINE uint32_t scales_at(uint32_t c) { return (c / 2 & ~15u) | (c >> 2 & 7) | (c >> 1 & 1) << 3; }

/* Elements 4 · quad … of the activations; eight lanes side by side have the 32 that share a scale. A number that is none gives
 * NaN. */
INLINE void put_quad(const activations &a, uint32_t quad, float4 x) {
    enum { NOT_FINITE = 0x7F800000 };
    const float each[4] = {x.x, x.y, x.z, x.w};
    uint32_t most = 0, upper = 0, lower = 0, c = quad / 4;
    int sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) most = max(most, __float_as_uint(each[i]) & 0x7FFFFFFF);
    for (int i = 4; i > 0; i /= 2) most = max(most, __shfl_xor_sync(ALL_LANES, most, i));
    float d = __uint_as_float(most) * (1.0f / 16256.0f), inverse = d >= FLT_MIN ? 1.0f / d : 0.0f;
    if (most >= NOT_FINITE) d = NAN;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int value = __float2int_rn(each[i] * inverse), high = (value + 64) >> 7;
        sum += value;
        upper |= (uint32_t)(high & 255) << 8 * i;
        lower |= (uint32_t)((value - high * 128) & 255) << 8 * i;
    }
    for (int i = 2; i > 0; i /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, i);
    int other = __shfl_xor_sync(ALL_LANES, sum, 4);
    ((uint32_t *)(a.upper + chunk_at(c)))[quad % 4] = upper;
    ((uint32_t *)(a.lower + chunk_at(c)))[quad % 4] = lower;
    if (quad % 8 == 0)
        a.scales[scales_at(c)] = make_float4(d, d * (float)sum, d * (float)other, d * (float)(sum + other));
}

/* The activations as they are, or their norm: each block makes all of it, and the first one writes it. What others write while this
 * kernel is there already is not looked for in the first cache. */
INLINE void make_activations(const fe_cuda_token &p, const activations &a, float *parts) {
    uint32_t quads = p.k / 4; /* whole warps of them */
    float4 x[EACH], weight[EACH];
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++)
        if (p.norm && threadIdx.x + j * THREADS < quads)
            weight[j] = ((const float4 *)p.norm)[threadIdx.x + j * THREADS];
    await_others();
    for (uint32_t base = threadIdx.x; base < quads || p.norm; base += EACH * THREADS) {
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++)
            if (base + j * THREADS < quads) x[j] = __ldcg((const float4 *)p.x + base + j * THREADS);
        let_next_begin(); /* not before: what it asks of memory would stand in the activations' way */
        if (p.norm) {
            float squares = 0.0f;
#pragma unroll
            for (uint32_t j = 0; j < EACH; j++)
                if (base + j * THREADS < quads)
                    squares += x[j].x * x[j].x + x[j].y * x[j].y + x[j].z * x[j].z + x[j].w * x[j].w;
            float inverse = 1.0f / sqrtf(block_sum(squares, parts) / (float)p.k + p.eps);
#pragma unroll
            for (uint32_t j = 0; j < EACH; j++) {
                if (base + j * THREADS >= quads) break;
                x[j] = make_float4(x[j].x * inverse * weight[j].x, x[j].y * inverse * weight[j].y,
                                   x[j].z * inverse * weight[j].z, x[j].w * inverse * weight[j].w);
                if (blockIdx.x == 0) ((float4 *)p.normed)[base + j * THREADS] = x[j];
            }
        }
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++)
            if (base + j * THREADS < quads) put_quad(a, base + j * THREADS, x[j]);
        if (p.norm) break; /* all threads, and once */
    }
}

/* ---- Weights ---- */

INLINE uint32_t pairs(const fe_cuda_token &p) { return p.end[FE_CUDA_PRODUCTS - 1]; }
INLINE uint32_t product_of(const fe_cuda_token &p, uint32_t pair) {
    return pair < p.end[0] ? 0 : pair < p.end[1] ? 1 : 2;
}
INLINE uint32_t first_of(const fe_cuda_token &p, uint32_t product) { return product ? p.end[product - 1] : 0; }

/* A unit: number `piece` of a pair's. The next one of the same warp is WARPS units on. */
struct place {
    uint32_t pair, piece;
};
INLINE void advance(place &l, uint32_t pieces) {
    l.piece += WARPS;
    while (l.piece >= pieces) {
        l.piece -= pieces;
        l.pair++;
    }
}

/* Has a unit's two rows come to a stage, which the warp has done with; past the end of the weights the last row comes again. */
template <typename K>
INLINE void ask(const fe_cuda_token &p, const place &l, uint32_t end, uchar *stage, uint64_t once) {
    if (l.pair < end) {
        uint32_t product = K::MIXED                     ? product_of(p, l.pair)
                           : l.pair < p.end[0] || p.glu ? 0
                           : l.pair < p.end[1]          ? 1
                                                        : 2;
        uint32_t row = l.pair - first_of(p, product), piece = K::piece(p, product), at = l.piece * piece;
        uint32_t bytes = min(piece, p.row_bytes[product] - at);
        if (!p.glu) row *= 2;
        const uchar *first = p.w[product] + row * p.w_stride[product] + at;
        const uchar *second =
            p.glu ? p.w[1] + row * p.w_stride[1] + at : first + (row + 1 < p.n[product] ? p.w_stride[product] : 0);
#pragma unroll 1
        for (uint32_t i = lane_index() * 16; i < bytes; i += FE_CUDA_WARP * 16) {
            copy_once(stage + i, first + i, once);
            copy_once(stage + piece + i, second + i, once);
        }
    }
    copy_commit();
}

/* Until the oldest of a warp's stages has come. */
INLINE void wait_for_oldest(uint32_t stages) {
    if (stages == 2)
        copy_wait<1>();
    else
        copy_wait<FE_CUDA_TOKEN_STAGES - 1>();
    __syncwarp();
}

/* ---- Products ---- */

/* Both bytes of 16 activations times as many of two rows' weights, added up: exact. */
INLINE void dot(int (&upper)[2], int (&lower)[2], const uint32_t *q0, const uint32_t *q1, const uint4 &high,
                const uint4 &low) {
    const uint32_t h[4] = {high.x, high.y, high.z, high.w}, l[4] = {low.x, low.y, low.z, low.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        upper[0] = __dp4a((int)q0[i], (int)h[i], upper[0]);
        upper[1] = __dp4a((int)q1[i], (int)h[i], upper[1]);
        lower[0] = __dp4a((int)q0[i], (int)l[i], lower[0]);
        lower[1] = __dp4a((int)q1[i], (int)l[i], lower[1]);
    }
}

/* Two units of a row, the second MATE behind the first: which have scales or bits in common. */
template <typename T> INLINE void two_units(const uchar *row, uint32_t unit, unit32 (&w)[2]) {
    enum { ONE = T::UNITS == 1 };
    uint32_t block = ONE ? 2 * unit : unit / 4, v = ONE ? 0 : T::first_of_two(unit % 4);
    T::unit(row + block * T::BYTES, v, w[0]);
    T::unit(row + (block + (ONE ? 1 : 0)) * T::BYTES, v + (ONE ? 0 : T::MATE), w[1]);
}

/* The chunk of run `run` of a lane's unit `i`. */
template <typename T> INLINE uint32_t chunk_of_run(uint32_t unit, int i, int run) {
    enum { ONE = T::UNITS == 1, IN_BLOCK = T::BLOCK / FE_CUDA_CHUNK };
    if (ONE) return (2 * unit + i) * IN_BLOCK + run;
    return unit / 4 * IN_BLOCK + (T::start(T::first_of_two(unit % 4) + i * T::MATE) + run * T::GAP) / FE_CUDA_CHUNK;
}

/* A piece of two rows of T; at: of its first byte in the row, whose chunk is the first of 128. */
template <typename T>
INLINE void multiply(const activations &a, const uchar *stage, uint32_t apart, uint32_t bytes, uint32_t at,
                     float (&sum)[2]) {
    uint32_t unit = lane_index(), from = at / T::BYTES * (T::BLOCK / FE_CUDA_CHUNK);
    if (unit * (T::UNITS == 1 ? 2 * T::BYTES : T::BYTES / 4) >= bytes) return;
    const uint4 *a_upper = a.upper + from, *a_lower = a.lower + from;
    const float4 *a_scales = a.scales + from / 2;
    unit32 w[2][2];
#pragma unroll
    for (int r = 0; r < 2; r++) two_units<T>(stage + r * apart, unit, w[r]);
#pragma unroll
    for (int run = 0; run < 2; run++) {
        int upper[2] = {}, lower[2] = {};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t c = chunk_of_run<T>(unit, i, run);
            dot(upper, lower, w[0][i].q + 4 * run, w[1][i].q + 4 * run, a_upper[chunk_at(c)], a_lower[chunk_at(c)]);
            if (T::JOINED && i == 0) continue;
            float4 scale = a_scales[scales_at(c)];
            float offsets = T::JOINED ? scale.w : c % 2 ? scale.z : scale.y;
#pragma unroll
            for (int r = 0; r < 2; r++) {
                sum[r] = fmaf(w[r][i].scale[run] * scale.x, (float)(upper[r] * 128 + lower[r]), sum[r]);
                sum[r] = fmaf(w[r][i].offset[run], offsets, sum[r]);
                upper[r] = lower[r] = 0;
            }
        }
    }
}

/* Of one type, or of any. */
template <typename T> struct of_type {
    enum { MIXED = 0 };
    static __device__ __forceinline__ uint32_t piece(const fe_cuda_token &, uint32_t) {
        return FE_CUDA_TOKEN_PIECE / T::BLOCK * T::BYTES;
    }
    static __device__ __forceinline__ void multiply_piece(uint32_t, const activations &a, const uchar *stage,
                                                          uint32_t apart, uint32_t bytes, uint32_t at,
                                                          float (&sum)[2]) {
        multiply<T>(a, stage, apart, bytes, at, sum);
    }
};
struct of_any {
    enum { MIXED = 1 };
    static __device__ __forceinline__ uint32_t piece(const fe_cuda_token &p, uint32_t product) {
        return p.piece_bytes[product];
    }
    static __device__ __forceinline__ void multiply_piece(uint32_t type, const activations &a, const uchar *stage,
                                                          uint32_t apart, uint32_t bytes, uint32_t at,
                                                          float (&sum)[2]) {
        switch (type) {
#define CASE(name) \
    case FE_CUDA_TYPE_##name: multiply<name>(a, stage, apart, bytes, at, sum); break;
            FE_CUDA_QUANTS(CASE)
#undef CASE
        }
    }
};

/* Lanes 0 … 15 get the first row's sum, the others the second's. */
INLINE float sum_of_row(const float (&sum)[2]) {
    bool second = lane_index() >= 16;
    float x = (second ? sum[1] : sum[0]) + __shfl_xor_sync(ALL_LANES, second ? sum[0] : sum[1], 16);
    for (int i = 8; i > 0; i /= 2) x += __shfl_xor_sync(ALL_LANES, x, i);
    return x;
}

/* The result of row `row` of pair `pair`, whose units' sums are `units`; a thread has one of both rows, or the gated product of
 * them. */
INLINE void finish(const fe_cuda_token &p, uint32_t pair, uint32_t row, uint32_t pieces, const float (*units)[2],
                   float residual) {
    uint32_t product = product_of(p, pair), first = pair - first_of(p, product), at = p.glu ? first : 2 * first + row;
    float sum[2] = {};
    for (uint32_t i = 0; i < pieces; i++) {
        sum[0] += units[i][row];
        if (p.glu) sum[1] += units[i][1];
    }
    if (at >= p.n[product]) return;
    p.c[product][at] = p.glu ? gated(p.glu, sum[0], sum[1]) : sum[0];
    if (p.residual) p.sum[at] = residual + sum[0];
}

/* A round is of so many pairs that a thread has a row at most. */
template <typename K> static __device__ void token(const fe_cuda_token &p) {
    extern __shared__ uint4 memory[];
    __shared__ float parts[FE_CUDA_WARP], sums[FE_CUDA_TOKEN_UNITS][2];
    uint32_t rounded = (p.k + 511) / 512 * 512; /* chunks of 32 are turned about together */
    activations a = {memory, memory + rounded / 16, (float4 *)(memory + rounded / 8)};
    uchar *ring = (uchar *)(memory + rounded / 8 + rounded / 32) + warp_index() * p.stages * p.stage_bytes;
    uint64_t once = read_once();
    uint32_t pieces = (p.k + FE_CUDA_TOKEN_PIECE - 1) / FE_CUDA_TOKEN_PIECE;
    uint32_t begin = (uint64_t)pairs(p) * blockIdx.x / gridDim.x,
             end = (uint64_t)pairs(p) * (blockIdx.x + 1) / gridDim.x;
    place ahead = {begin, warp_index()}, now;
    while (ahead.piece >= pieces) {
        ahead.piece -= pieces;
        ahead.pair++;
    }
    now = ahead;
#pragma unroll 1
    for (uint32_t i = 0; i < p.stages; i++) {
        ask<K>(p, ahead, end, ring + i * p.stage_bytes, once);
        advance(ahead, pieces);
    }
    make_activations(p, a, parts);
    __syncthreads();
    uint32_t most = min(THREADS / 2, FE_CUDA_TOKEN_UNITS / pieces), stage = 0;
    for (uint32_t first = begin; first < end; first += most) {
        uint32_t last = min(first + most, end), pair = first + threadIdx.x / (p.glu ? 1 : 2),
                 row = p.glu ? 0 : threadIdx.x % 2;
        float residual = 0.0f;
        if (p.residual && pair < last && 2 * pair + row < p.n[0]) residual = __ldcg(p.residual + 2 * pair + row);
        for (; now.pair < last; advance(now, pieces)) {
            uint32_t product = K::MIXED ? product_of(p, now.pair) : 0, piece = K::piece(p, product);
            uint32_t at = now.piece * piece;
            uchar *from = ring + stage * p.stage_bytes;
            float sum[2] = {};
            wait_for_oldest(p.stages);
            K::multiply_piece(p.type[product], a, from, piece, min(piece, p.row_bytes[product] - at), at, sum);
            __syncwarp();
            ask<K>(p, ahead, end, from, once);
            advance(ahead, pieces);
            stage = stage + 1 == p.stages ? 0 : stage + 1;
            float total = sum_of_row(sum);
            if (lane_index() % 16 == 0) sums[(now.pair - first) * pieces + now.piece][lane_index() / 16] = total;
        }
        __syncthreads();
        if (pair < last) finish(p, pair, row, pieces, sums + (pair - first) * pieces, residual);
        __syncthreads();
    }
}

#define TOKEN(name, T) \
    KERNEL2(THREADS, 2) token_##name(const __grid_constant__ fe_cuda_token p) { token<of_type<T>>(p); }
FOR_EACH_QUANT(TOKEN)
KERNEL2(THREADS, 2) token_any(const __grid_constant__ fe_cuda_token p) { token<of_any>(p); }
