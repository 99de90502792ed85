/* The products of one token. A block stays on its multiprocessor and makes its own activations: norm and packing. Meanwhile, and
 * before the kernel in front has ended, its warps have their first weights on the way to shared memory: memory is read without a
 * pause from one kernel to the next. Two rows of the weights side by side are a pair (of gate and up one each, where both are wanted), which
 * comes in pieces of 2,048 elements. Blocks take pairs in turn, so that all of them read side by side; the pieces of a block's pairs are
 * units, of which each of its warps has as many, one behind the other. Where a pair is shared by warps, their sums meet in shared
 * memory. */
#include "pieces.cuh"

#include <cfloat>

enum {
    WARPS = FE_CUDA_TOKEN_WARPS,
    THREADS = WARPS * FE_CUDA_WARP,
    EACH = FE_CUDA_TOKEN_EACH,
    NORMED = FE_CUDA_TOKEN_NORMED
};

/* ---- Activations ---- */

/* The lowest bytes of four numbers. */
INLINE uint32_t four_bytes(const uint32_t *x) {
    return __byte_perm(__byte_perm(x[0], x[1], 0x0040), __byte_perm(x[2], x[3], 0x0040), 0x5410);
}

/* Where a thread puts its activations: elements 4 · threadIdx.x …, and further ones THREADS times as many on, as `turn` counts. */
struct places {
    uint32_t *to; /* upper bytes; the lower ones stand GROUP bytes behind them */
    int *sums;
    float *scales;

    __device__ __forceinline__ places(const activations &a) {
        uint32_t c = threadIdx.x / 4, group = c / GROUP_CHUNKS, at = chunk_at(c % GROUP_CHUNKS);
        to = (uint32_t *)(a.bytes + group * GROUP_BYTES + at * FE_CUDA_CHUNK) + threadIdx.x % 4;
        sums = a.sums + group * GROUP_CHUNKS + at;
        scales = a.scales + warp_index();
    }

    /* A warp has 128 elements. A number that is none gives NaN. */
    __device__ __forceinline__ void put(uint32_t turn, float4 x) const {
        enum { NOT_FINITE = 0x7F800000, MOST = 127 * 128 };
        const float each[4] = {x.x, x.y, x.z, x.w};
        uint32_t most = 0, bits[4];
#pragma unroll
        for (int i = 0; i < 4; i++) most = max(most, __float_as_uint(each[i]) & 0x7FFFFFFF);
        most = __reduce_max_sync(ALL_LANES, most);
        float d = __uint_as_float(most) * (1.0f / MOST), inverse = d >= FLT_MIN ? reciprocal(d) : 0.0f;
        if (most >= NOT_FINITE) d = NAN;
            /* of a float that is 1.5 · 2²³ and an integer the lowest bits are the integer's */
#pragma unroll
        for (int i = 0; i < 4; i++) bits[i] = __float_as_uint(fmaf(each[i], inverse, 12582912.0f));
        int sum = (int)(bits[0] + bits[1] + bits[2] + bits[3] - 4u * 0x4B400000u);
        for (int i = 2; i > 0; i /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, i);
        to[turn * THREADS * 2 + GROUP / 4] = four_bytes(bits) & 0x7F7F7F7F;
#pragma unroll
        for (int i = 0; i < 4; i++) bits[i] >>= 7;
        to[turn * THREADS * 2] = four_bytes(bits);
        if (threadIdx.x % 4 == 0) sums[turn * THREADS / 4] = sum;
        if (lane_index() == 0) scales[turn * WARPS] = d;
    }
};

/* The activations as they are, or what their norm makes of them but for the factor that all share, which is returned: the results
 * are multiplied by it. Each block makes all of it; the first one writes the norm. What others write while this kernel is there
 * already is not looked for in the first cache. */
INLINE float make_activations(const fe_cuda_token &p, const activations &a, float *parts) {
    const places to(a);
    uint32_t turns = (p.k / 4 - warp_index() * FE_CUDA_WARP + THREADS - 1) / THREADS; /* of whole warps */
    if (warp_index() * FE_CUDA_WARP >= p.k / 4) turns = 0;
    float4 x[2 * NORMED], *const weight = x + NORMED; /* or more of x, where there is no norm */
    float squares = 0.0f;
#pragma unroll
    for (uint32_t j = 0; j < NORMED; j++)
        if (p.norm && j < turns) weight[j] = ((const float4 *)p.norm)[threadIdx.x + j * THREADS];
    await_others();
#pragma unroll 1
    for (uint32_t turn = 0; turn < turns; turn += EACH) {
        const float4 *from = (const float4 *)p.x + threadIdx.x + turn * THREADS;
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++)
            if (turn + j < turns) x[j] = __ldcg(from + j * THREADS);
        if (turn == 0) let_next_begin(); /* not before: what it asks of memory would stand in the activations' way */
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            if (turn + j >= turns) break;
            if (j < NORMED && p.norm) {
                squares += x[j].x * x[j].x + x[j].y * x[j].y + x[j].z * x[j].z + x[j].w * x[j].w;
                x[j] = x[j] * weight[j];
            }
            to.put(turn + j, x[j]);
        }
    }
    if (!turns) let_next_begin();
    if (!p.norm) {
        __syncthreads();
        return 1.0f;
    }
    float inverse = 1.0f / sqrtf(block_sum(squares, parts) / (float)p.k + p.eps);
    if (blockIdx.x == 0)
#pragma unroll
        for (uint32_t j = 0; j < NORMED; j++)
            if (j < turns) ((float4 *)p.normed)[threadIdx.x + j * THREADS] = x[j] * inverse;
    return inverse;
}

/* ---- Of one type, or of any ---- */

template <typename T> struct of_type {
    enum { MIXED = 0 };
    static __device__ __forceinline__ uint32_t piece(const fe_cuda_token &, uint32_t) {
        return FE_CUDA_TOKEN_PIECE / T::BLOCK * T::BYTES;
    }
    /* A lane has bytes of 64 elements in the first `bytes`. */
    static __device__ __forceinline__ bool has(const fe_cuda_token &, uint32_t, uint32_t bytes) {
        return lane_index() * (FE_CUDA_TOKEN_LANE * T::BYTES / T::BLOCK) < bytes;
    }
    static __device__ __forceinline__ void multiply(uint32_t, const activations &a, const uchar *rows, uint32_t apart,
                                                    uint32_t piece, float (&sum)[2]) {
        piece_of<T>::multiply(a, rows, apart, piece, sum);
    }
};
struct of_any {
    enum { MIXED = 1 };
    static __device__ __forceinline__ uint32_t piece(const fe_cuda_token &p, uint32_t product) {
        return p.piece_bytes[product];
    }
    static __device__ __forceinline__ bool has(const fe_cuda_token &p, uint32_t product, uint32_t bytes) {
        return lane_index() * (p.piece_bytes[product] / FE_CUDA_WARP) < bytes;
    }
    static __device__ __forceinline__ void multiply(uint32_t type, const activations &a, const uchar *rows,
                                                    uint32_t apart, uint32_t piece, float (&sum)[2]) {
        switch (type) {
#define CASE(name) \
    case FE_CUDA_TYPE_##name: piece_of<name>::multiply(a, rows, apart, piece, sum); break;
            FE_CUDA_QUANTS(CASE)
#undef CASE
        }
    }
};

/* ---- Weights ---- */

INLINE uint32_t pairs(const fe_cuda_token &p) { return p.end[FE_CUDA_PRODUCTS - 1]; }
INLINE uint32_t product_of(const fe_cuda_token &p, uint32_t pair) {
    return pair < p.end[0] ? 0 : pair < p.end[1] ? 1 : 2;
}
/* The pair that is a block's number `own`: all of them read weights side by side at any time. */
INLINE uint32_t pair_of(uint32_t own) { return own * gridDim.x + blockIdx.x; }
INLINE uint32_t first_of(const fe_cuda_token &p, uint32_t product) { return product ? p.end[product - 1] : 0; }

/* The first of a block's `units` units that is one of a warp, and the warp that has a unit; of_units: 1 / units, about. */
INLINE uint32_t first_unit(uint32_t units, uint32_t warp) { return units * warp / WARPS; }
INLINE uint32_t warp_of(float of_units, uint32_t unit) {
    return (uint32_t)(((float)(unit * WARPS + WARPS) - 0.5f) * of_units);
}

/* The units that a warp is still to ask for, and what its lane takes of the next one. */
struct cursor {
    const uchar *first; /* of its first row; the second one is `apart` further */
    uint64_t apart;
    uint32_t skip;                      /* skip: from the end of a row to the next pair's */
    uint32_t units, pair, piece, until; /* until: the pair before which the next one is found by `skip` */
    uint32_t piece_bytes, row_bytes;    /* row_bytes: what is left of a row */
};

/* To piece number `piece` of the pair. A second row that there is none of is the first one. */
template <typename K> INLINE void aim(const fe_cuda_token &p, cursor &c) {
    uint32_t product = product_of(p, c.pair), start = first_of(p, product), within = c.pair - start;
    uint32_t rows = p.glu ? 1 : 2, whole = p.n[product] / rows;
    uint64_t stride = p.w_stride[product];
    c.piece_bytes = K::piece(p, product);
    c.row_bytes = p.row_bytes[product] - c.piece * c.piece_bytes;
    c.first = p.w[product] + within * rows * stride + c.piece * c.piece_bytes + lane_index() * 16;
    c.apart = p.glu ? p.w[1] - p.w[0] : within < whole ? stride : 0;
    c.skip = (uint32_t)(gridDim.x * rows * stride) - p.row_bytes[product];
    c.until = start + whole;
}

/* Has a unit come to a stage, which the warp has done with; past the last one nothing comes. */
template <typename K> INLINE void ask(const fe_cuda_token &p, cursor &c, uint32_t pieces, uchar *stage) {
    enum { STEP = 16 * FE_CUDA_WARP, STEPS = (FE_CUDA_TOKEN_PIECE * 34 / 32 + STEP - 1) / STEP };
    if (c.units) {
        uint32_t piece = K::MIXED ? c.piece_bytes : K::piece(p, 0), bytes = min(piece, c.row_bytes);
        uchar *to = stage + lane_index() * 16;
        const uchar *second = c.first + c.apart;
#pragma unroll
        for (uint32_t i = 0; i < STEPS; i++) {
            if (i * STEP >= (K::MIXED ? bytes : piece)) break;
            if (lane_index() * 16 + i * STEP >= bytes) continue;
            copy_async(to + i * STEP, c.first + i * STEP, true);
            copy_async(to + piece + i * STEP, second + i * STEP, true);
        }
        c.first += bytes;
        c.row_bytes -= bytes;
        c.units--;
        if (++c.piece == pieces) {
            c.piece = 0;
            c.pair += gridDim.x;
            if (c.pair < c.until) {
                c.first += c.skip;
                c.row_bytes = p.row_bytes[K::MIXED ? product_of(p, c.pair) : 0];
            } else if (c.units) {
                aim<K>(p, c);
            }
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

/* ---- Sums ---- */

/* Lanes 0 … 15 get the first row's sum, the others the second's. */
INLINE float sum_of_row(const float (&sum)[2]) {
    bool second = lane_index() >= 16;
    float x = (second ? sum[1] : sum[0]) + __shfl_xor_sync(ALL_LANES, second ? sum[0] : sum[1], 16);
    for (int i = 8; i > 0; i /= 2) x += __shfl_xor_sync(ALL_LANES, x, i);
    return x;
}

/* Thread number i's row of the block's pairs: of both it has one, or the gated product of them. Which product's, else none. */
INLINE bool row_of(const fe_cuda_token &p, uint32_t i, uint32_t &product, uint32_t &row) {
    uint32_t pair = pair_of(p.glu ? i : i / 2);
    product = product_of(p, pair);
    row = pair - first_of(p, product);
    if (!p.glu) row = 2 * row + i % 2;
    return row < p.n[product];
}

/* The results of a block's pairs. A warp's sums of a pair stand at the pair's number and its own: each warp but the first may share
 * its first pair with those before it. */
INLINE void finish(const fe_cuda_token &p, uint32_t own, uint32_t pieces, const float2 *sums, float factor,
                   float residual) {
    uint32_t each = p.glu ? 1 : 2, product, row;
    float of_units = reciprocal((float)(own * pieces));
    for (uint32_t i = threadIdx.x; i < own * each; i += THREADS) {
        uint32_t pair = i / each, last = warp_of(of_units, pair * pieces + pieces - 1);
        float sum[2] = {};
        for (uint32_t warp = warp_of(of_units, pair * pieces); warp <= last; warp++) {
            float2 both = sums[pair + warp];
            sum[0] += both.x;
            sum[1] += both.y;
        }
        sum[0] *= factor;
        sum[1] *= factor;
        if (!row_of(p, i, product, row)) continue;
        float x = p.glu ? gated(p.glu, sum[0], sum[1]) : i % 2 ? sum[1] : sum[0];
        p.c[product][row] = x;
        if (p.residual) p.sum[row] = (i < THREADS ? residual : __ldcg(p.residual + row)) + x;
    }
}

/* What a block has in shared memory: activations, sums of pairs, stages of weights. */
template <typename K> static __device__ void token(const fe_cuda_token &p) {
    extern __shared__ uint4 memory[];
    __shared__ float parts[FE_CUDA_WARP];
    const uint32_t warp = __shfl_sync(ALL_LANES, warp_index(), 0); /* the same in all lanes, as the compiler sees */
    uint32_t groups = (p.k + GROUP - 1) / GROUP, pieces = (p.k + FE_CUDA_TOKEN_PIECE - 1) / FE_CUDA_TOKEN_PIECE;
    activations a = {(uchar *)memory, (int *)((uchar *)memory + groups * GROUP_BYTES), NULL};
    a.scales = (float *)(a.sums + groups * GROUP_CHUNKS);
    float2 *sums = (float2 *)(a.scales + groups * (GROUP / FE_CUDA_TOKEN_SCALED));
    uchar *ring = (uchar *)(sums + p.sums) + warp * p.stages * p.stage_bytes;
    uint32_t own = (pairs(p) - blockIdx.x + gridDim.x - 1) / gridDim.x, units = own * pieces;
    uint32_t first = first_unit(units, warp), count = first_unit(units, warp + 1) - first;
    uint32_t pair = first / pieces, piece = first % pieces;
    cursor ahead = {.units = count, .pair = pair_of(pair), .piece = piece};
    if (count) aim<K>(p, ahead);
#pragma unroll 1
    for (uint32_t i = 0; i < p.stages; i++) ask<K>(p, ahead, pieces, ring + i * p.stage_bytes);
    for (uint32_t i = threadIdx.x; i < p.sums; i += THREADS) sums[i] = make_float2(0.0f, 0.0f);
    float factor = make_activations(p, a, parts), residual = 0.0f, sum[2] = {};
    uint32_t product, row;
    if (p.residual && threadIdx.x < 2 * own && row_of(p, threadIdx.x, product, row))
        residual = __ldcg(p.residual + row);
    uchar *stage = ring, *past = ring + p.stages * p.stage_bytes;
    for (; count; count--) {
        product = K::MIXED ? product_of(p, pair_of(pair)) : 0;
        uint32_t bytes = K::piece(p, product);
        wait_for_oldest(p.stages);
        if (K::has(p, product, p.row_bytes[product] - piece * bytes))
            K::multiply(p.type[product], a, stage, bytes, piece, sum);
        __syncwarp();
        ask<K>(p, ahead, pieces, stage);
        stage += p.stage_bytes;
        if (stage == past) stage = ring;
        piece++;
        if (piece < pieces && count > 1) continue;
        float total = sum_of_row(sum);
        if (lane_index() % 16 == 0) ((float *)(sums + pair + warp))[lane_index() / 16] = total;
        sum[0] = sum[1] = 0.0f;
        piece = 0;
        pair++;
    }
    __syncthreads();
    finish(p, own, pieces, sums, factor, residual);
}

#define TOKEN(name, T) \
    KERNEL2(THREADS, 2) token_##name(const __grid_constant__ fe_cuda_token p) { token<of_type<T>>(p); }
FOR_EACH_QUANT(TOKEN)
KERNEL2(THREADS, 2) token_any(const __grid_constant__ fe_cuda_token p) { token<of_any>(p); }
