/* Attention: for few rows of a sequence, its positions split among blocks; for many, tiles of queries and keys on the tensor
 * cores. Which of the two, and where positions are split, depends on a span alone. */
#include "ints.cuh"

#include <cfloat>

/* Sixteen elements of a cache's row, from a multiple of 16 on. */
struct from_f32 {
    static __device__ __forceinline__ void load(const void *slice, uint32_t, uint64_t position, uint32_t dim, uint32_t at,
                                                float (&x)[16]) {
        const float4 *from = (const float4 *)((const float *)slice + position * dim + at);
        for (int i = 0; i < 4; i++) {
            float4 f = from[i];
            x[4 * i] = f.x, x[4 * i + 1] = f.y, x[4 * i + 2] = f.z, x[4 * i + 3] = f.w;
        }
    }
};

struct from_f16 {
    static __device__ __forceinline__ void load(const void *slice, uint32_t, uint64_t position, uint32_t dim, uint32_t at,
                                                float (&x)[16]) {
        const uint4 *from = (const uint4 *)((const __half *)slice + position * dim + at);
        for (int i = 0; i < 2; i++) {
            uint4 u = from[i];
            const uint32_t w[4] = {u.x, u.y, u.z, u.w};
            for (int j = 0; j < 4; j++) {
                float2 f = __half22float2(bits_half2(w[j]));
                x[8 * i + 2 * j] = f.x, x[8 * i + 2 * j + 1] = f.y;
            }
        }
    }
};

struct from_q8_0 {
    static __device__ __forceinline__ void load(const void *slice, uint32_t positions, uint64_t position, uint32_t dim,
                                                uint32_t at, float (&x)[16]) {
        uint32_t groups = (dim + 31) / 32;
        const signed char *quants = (const signed char *)slice + position * groups * 32 + at;
        const __half *scales = (const __half *)((const signed char *)slice + (uint64_t)positions * groups * 32);
        float d = __half2float(scales[position * groups + at / 32]);
        uint4 u = *(const uint4 *)quants;
        const uint32_t w[4] = {u.x, u.y, u.z, u.w};
        for (int i = 0; i < 16; i++) x[i] = d * (float)(signed char)(w[i / 4] >> i % 4 * 8 & 255);
    }
};

template <typename C>
INLINE void load_halves(const void *slice, uint32_t positions, uint64_t position, uint32_t dim, uint32_t at, uint4 (&h)[2]) {
    float x[16];
    uint32_t w[8];
    C::load(slice, positions, position, dim, at, x);
    for (int i = 0; i < 8; i++) w[i] = half2_bits(__floats2half2_rn(x[2 * i], x[2 * i + 1]));
    h[0] = make_uint4(w[0], w[1], w[2], w[3]);
    h[1] = make_uint4(w[4], w[5], w[6], w[7]);
}
template <>
__device__ __forceinline__ void load_halves<from_f16>(const void *slice, uint32_t, uint64_t position, uint32_t dim, uint32_t at,
                                                      uint4 (&h)[2]) {
    const uint4 *from = (const uint4 *)((const __half *)slice + position * dim + at);
    h[0] = from[0];
    h[1] = from[1];
}

/* An element of a row of the result. */
INLINE void store(const fe_cuda_attention &p, uint32_t row, uint32_t at, float x) {
    p.out[(uint64_t)row * p.out_stride + at] = x;
    if (p.ints) pack_int(p.ints, p.scales, (uint64_t)row * p.heads * p.head_dim + at, x);
}

INLINE float capped(const fe_cuda_attention &p, float score) {
    return p.softcap > 0.0f ? p.softcap * tanhf(score / p.softcap) : score;
}

/* ---- Few rows ---- */

/* What lanes that share positions have so far: of a head the largest score, the sum of weights, and 16 elements of the result. */
struct softmax_part {
    float most, total, sum[16];
};

INLINE void take(softmax_part &s, float score, const float (&v)[16]) {
    float most = fmaxf(s.most, score), old = expf(s.most - most), weight = expf(score - most);
    s.most = most;
    s.total = fmaf(s.total, old, weight);
    for (int i = 0; i < 16; i++) s.sum[i] = fmaf(weight, v[i], s.sum[i] * old);
}

/* The span and its row that block number `row` of the few rows' has; rows of longer spans are none of ours. */
INLINE bool find_row(const fe_cuda_attention &p, uint32_t row, fe_cuda_span &span, uint32_t &within) {
    for (uint32_t i = 0; i < p.span_count; i++) {
        span = p.spans[i];
        if (row < span.rows) {
            within = row;
            return true;
        }
        row -= span.rows;
    }
    return false;
}

/* Positions begin … end-1 of those that a row of a span sees. */
struct reach {
    uint32_t begin, end, splits;
};

INLINE reach reach_of(const fe_cuda_attention &p, const fe_cuda_span &span, uint32_t within, uint32_t split) {
    uint32_t last = span.first + (p.bidirectional ? span.rows - 1 : within), first = p.window && last + 1 > p.window ? last + 1 - p.window : 0;
    uint32_t most = span.first + span.rows, size = fe_cuda_split(p.window && most > p.window ? p.window : most);
    uint32_t begin = first + split * size;
    return {begin, min(begin + size, last + 1), (last - first) / size + 1};
}

/* LANES lanes share a position, 16 elements each. x: KV heads, and chunks of their heads; y: rows; z: splits. */
template <typename C, int LANES> static __device__ void attend_few(const fe_cuda_attention &p) {
    enum { SLOTS = FE_CUDA_SPLIT_WARPS * FE_CUDA_WARP / LANES, DIM = LANES * 16 };
    __shared__ float most[FE_CUDA_GROUP][SLOTS], total[FE_CUDA_GROUP][SLOTS], sums[FE_CUDA_SPLIT_WARPS][FE_CUDA_GROUP][DIM];
    fe_cuda_span span;
    uint32_t within;
    if (!find_row(p, blockIdx.y, span, within)) return;
    reach at = reach_of(p, span, within, blockIdx.z);
    if (blockIdx.z >= at.splits) return;
    uint32_t chunks = (p.group + FE_CUDA_GROUP - 1) / FE_CUDA_GROUP, kv = blockIdx.x / chunks;
    uint32_t head = kv * p.group + blockIdx.x % chunks * FE_CUDA_GROUP, heads = min((kv + 1) * p.group - head, FE_CUDA_GROUP);
    uint32_t row = span.row + within, slot = threadIdx.x / LANES, from = threadIdx.x % LANES * 16;
    bool has = from < p.head_dim;
    const uchar *k = (const uchar *)span.k + kv * span.slice, *v = (const uchar *)span.v + kv * span.slice;
    float q[FE_CUDA_GROUP][16];
    softmax_part s[FE_CUDA_GROUP];
#pragma unroll
    for (int h = 0; h < FE_CUDA_GROUP; h++) {
        const float *x = p.q + (uint64_t)row * p.q_stride + (head + min(h, heads - 1)) * p.head_dim + from;
        s[h].most = -FLT_MAX;
        s[h].total = 0.0f;
        for (int i = 0; i < 16; i++) {
            q[h][i] = has ? x[i] * p.scale : 0.0f;
            s[h].sum[i] = 0.0f;
        }
    }
    /* all lanes of a warp go round as often as one: they meet in sums */
    for (uint32_t base = at.begin; base < at.end; base += SLOTS) {
        uint32_t position = base + slot, safe = min(position, at.end - 1);
        float x[16] = {}, y[16] = {};
        if (has) {
            C::load(k, span.positions, safe, p.head_dim, from, x);
            C::load(v, span.positions, safe, p.head_dim, from, y);
        }
#pragma unroll
        for (int h = 0; h < FE_CUDA_GROUP; h++) {
            float score = 0.0f;
            for (int i = 0; i < 16; i++) score = fmaf(q[h][i], x[i], score);
            for (int i = LANES / 2; i > 0; i /= 2) score += __shfl_xor_sync(ALL_LANES, score, i);
            if (position < at.end) take(s[h], capped(p, score), y);
        }
    }
#pragma unroll
    for (int h = 0; h < FE_CUDA_GROUP; h++)
        if (threadIdx.x % LANES == 0) {
            most[h][slot] = s[h].most;
            total[h][slot] = s[h].total;
        }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < FE_CUDA_GROUP; h++) {
        float largest = -FLT_MAX;
        for (int i = 0; i < SLOTS; i++) largest = fmaxf(largest, most[h][i]);
        float weight = expf(s[h].most - largest);
        for (int i = 0; i < 16; i++) {
            float x = s[h].sum[i] * weight;
            for (int j = LANES; j < FE_CUDA_WARP; j *= 2) x += __shfl_xor_sync(ALL_LANES, x, j);
            if (lane_index() < LANES) sums[warp_index()][h][from + i] = x;
        }
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < heads * p.head_dim; i += blockDim.x) {
        uint32_t h = i / p.head_dim, e = i % p.head_dim;
        float largest = -FLT_MAX, all = 0.0f, x = 0.0f;
        for (int j = 0; j < SLOTS; j++) largest = fmaxf(largest, most[h][j]);
        for (int j = 0; j < SLOTS; j++) all = fmaf(total[h][j], expf(most[h][j] - largest), all);
        for (int j = 0; j < FE_CUDA_SPLIT_WARPS; j++) x += sums[j][h][e];
        if (at.splits == 1) {
            store(p, row, (head + h) * p.head_dim + e, x / all);
            continue;
        }
        float *part = p.parts + (((uint64_t)blockIdx.y * p.heads + head + h) * p.splits + blockIdx.z) * (p.head_dim + 2);
        part[e] = x;
        if (e == 0) {
            part[p.head_dim] = largest;
            part[p.head_dim + 1] = all;
        }
    }
}

#define FEW(name, LANES)                                                                                   \
    KERNEL(FE_CUDA_SPLIT_WARPS * FE_CUDA_WARP) attention_few_##name##_##LANES(const __grid_constant__ fe_cuda_attention p) { \
        begin(); \
        attend_few<from_##name, LANES>(p);                                                                 \
    }
#define FEW_OF(name) FEW(name, 4) FEW(name, 8) FEW(name, 16)
FEW_OF(f32)
FEW_OF(f16)
FEW_OF(q8_0)

/* A block a row (y) of a head (x): the parts of its splits become one. */
KERNEL(FE_CUDA_HEAD) attention_join(const __grid_constant__ fe_cuda_attention p) {
    begin();
    fe_cuda_span span;
    uint32_t within;
    if (!find_row(p, blockIdx.y, span, within)) return;
    reach at = reach_of(p, span, within, 0);
    if (at.splits == 1 || threadIdx.x >= p.head_dim) return;
    const float *parts = p.parts + ((uint64_t)blockIdx.y * p.heads + blockIdx.x) * p.splits * (p.head_dim + 2);
    float largest = -FLT_MAX, all = 0.0f, x = 0.0f;
#pragma unroll 8
    for (uint32_t i = 0; i < at.splits; i++) largest = fmaxf(largest, parts[i * (p.head_dim + 2) + p.head_dim]);
#pragma unroll 8
    for (uint32_t i = 0; i < at.splits; i++) {
        const float *part = parts + i * (p.head_dim + 2);
        float weight = expf(part[p.head_dim] - largest);
        all = fmaf(part[p.head_dim + 1], weight, all);
        x = fmaf(part[threadIdx.x], weight, x);
    }
    store(p, span.row + within, blockIdx.x * p.head_dim + threadIdx.x, x / all);
}

/* ---- Many rows ---- */

/* Rows of a tile in shared memory: chunks of 16 bytes, turned about by the row so that rows side by side are read at once. */
template <int DIM> INLINE uint32_t tile_at(uint32_t row, uint32_t chunk) { return row * DIM + (chunk ^ ((row & 1) << 2 | (row >> 1 & 3))) * 8; }

/* FE_CUDA_FLASH_KEYS rows of a cache from `first` on as halves, zeros from `end` on and past the head's dimension. */
template <typename C, int DIM>
INLINE void load_tile(__half *tile, const uchar *slice, uint32_t positions, uint32_t first, uint32_t end, uint32_t dim) {
    for (uint32_t i = threadIdx.x; i < FE_CUDA_FLASH_KEYS * DIM / 16; i += blockDim.x) {
        uint32_t row = i / (DIM / 16), at = i % (DIM / 16);
        uint4 h[2] = {};
        if (first + row < end && at * 16 < dim) load_halves<C>(slice, positions, first + row, dim, at * 16, h);
        *(uint4 *)(tile + tile_at<DIM>(row, 2 * at)) = h[0];
        *(uint4 *)(tile + tile_at<DIM>(row, 2 * at + 1)) = h[1];
    }
}

/* Eight elements of a query, scaled, as halves: a step of 16 of the tensor cores takes four of each lane, so these are of two. */
INLINE void load_query(const fe_cuda_attention &p, const float *q, uint32_t at, bool has, uint32_t *h) {
    for (int i = 0; i < 4; i++) {
        uint32_t e = at + 2 * i;
        bool in = has && e < p.head_dim;
        h[i] = half2_bits(__floats2half2_rn(in ? q[e] * p.scale : 0.0f, in ? q[e + 1] * p.scale : 0.0f));
    }
}

/* Four warps of 16 queries. x: heads, y: tiles of queries, z: spans. */
template <typename C, int DIM> static __device__ void attend_many(const fe_cuda_attention &p) {
    enum { KEYS = FE_CUDA_FLASH_KEYS, STEPS = DIM / 32 };
    extern __shared__ uint4 memory[];
    __half *keys = (__half *)memory, *values = keys + KEYS * DIM;
    fe_cuda_span span = p.spans[blockIdx.z];
    if (blockIdx.y * FE_CUDA_FLASH_ROWS >= span.rows) return;
    uint32_t g = lane_index() / 4, t = lane_index() % 4, lane = lane_index();
    /* the longest first */
    uint32_t row = ((span.rows - 1) / FE_CUDA_FLASH_ROWS - blockIdx.y) * FE_CUDA_FLASH_ROWS;
    uint32_t own = row + warp_index() * 16 + g; /* and own + 8 */
    const uchar *k = (const uchar *)span.k + blockIdx.x / p.group * span.slice;
    const uchar *v = (const uchar *)span.v + blockIdx.x / p.group * span.slice;
    uint32_t q[STEPS][2][4];
#pragma unroll
    for (int i = 0; i < STEPS; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            uint32_t r = own + 8 * j;
            const float *x = p.q + (uint64_t)(span.row + min(r, span.rows - 1)) * p.q_stride + blockIdx.x * p.head_dim;
            load_query(p, x, 32 * i + 8 * t, r < span.rows, q[i][j]);
        }
    float out[DIM / 8][4] = {}, most[2] = {-FLT_MAX, -FLT_MAX}, total[2] = {};
    uint32_t all = span.first + span.rows; /* `last` is one past what the tile sees */
    uint32_t last = p.bidirectional ? all : min(span.first + row + FE_CUDA_FLASH_ROWS, all);
    uint32_t begin = p.window && span.first + row + 1 > p.window ? (span.first + row + 1 - p.window) / KEYS * KEYS : 0;
    for (uint32_t first = begin; first < last; first += KEYS) {
        __syncthreads();
        load_tile<C, DIM>(keys, k, span.positions, first, last, p.head_dim);
        load_tile<C, DIM>(values, v, span.positions, first, last, p.head_dim);
        __syncthreads();
        float s[KEYS / 8][4] = {};
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            const uint32_t a0[4] = {q[i][0][0], q[i][1][0], q[i][0][1], q[i][1][1]};
            const uint32_t a1[4] = {q[i][0][2], q[i][1][2], q[i][0][3], q[i][1][3]};
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) {
                uint4 b = *(const uint4 *)(keys + tile_at<DIM>(8 * j + g, 4 * i + t));
                mma(s[j], a0, b.x, b.y);
                mma(s[j], a1, b.z, b.w);
            }
        }
        float largest[2] = {most[0], most[1]};
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint32_t position = first + 8 * j + 2 * t + i % 2, at = span.first + own + i / 2 * 8;
                bool seen = position < all && (p.bidirectional || position <= at) && (!p.window || position + p.window > at);
                s[j][i] = seen ? capped(p, s[j][i]) : -INFINITY;
                largest[i / 2] = fmaxf(largest[i / 2], s[j][i]);
            }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            largest[i] = fmaxf(largest[i], __shfl_xor_sync(ALL_LANES, largest[i], 1));
            largest[i] = fmaxf(largest[i], __shfl_xor_sync(ALL_LANES, largest[i], 2));
            float old = __expf(most[i] - largest[i]);
            most[i] = largest[i];
            total[i] *= old;
#pragma unroll
            for (int j = 0; j < DIM / 8; j++) {
                out[j][2 * i] *= old;
                out[j][2 * i + 1] *= old;
            }
        }
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s[j][i] = __expf(s[j][i] - most[i / 2]);
                total[i / 2] += s[j][i];
            }
#pragma unroll
        for (int i = 0; i < KEYS / 16; i++) {
            uint32_t a[4];
#pragma unroll
            for (int j = 0; j < 4; j++) a[j] = half2_bits(__floats2half2_rn(s[2 * i + j / 2][j % 2 * 2], s[2 * i + j / 2][j % 2 * 2 + 1]));
#pragma unroll
            for (int j = 0; j < DIM / 16; j++) {
                uint32_t b[4];
                load_transposed(b, values + tile_at<DIM>(16 * i + lane % 16, 2 * j + lane / 16));
                mma(out[2 * j], a, b[0], b[1]);
                mma(out[2 * j + 1], a, b[2], b[3]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        total[i] += __shfl_xor_sync(ALL_LANES, total[i], 1);
        total[i] += __shfl_xor_sync(ALL_LANES, total[i], 2);
        if (own + 8 * i >= span.rows) continue;
        float *to = p.out + (uint64_t)(span.row + own + 8 * i) * p.out_stride + blockIdx.x * p.head_dim;
#pragma unroll
        for (int j = 0; j < DIM / 8; j++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (8 * j + 2 * t + e < p.head_dim) to[8 * j + 2 * t + e] = out[j][2 * i + e] / total[i];
    }
}

#define MANY(name, DIM)                                                                                            \
    KERNEL(FE_CUDA_FLASH_ROWS * 2) attention_many_##name##_##DIM(const __grid_constant__ fe_cuda_attention p) {    \
        begin(); \
        attend_many<from_##name, DIM>(p);                                                                          \
    }
#define MANY_OF(name) MANY(name, 64) MANY(name, 128) MANY(name, 256)
MANY_OF(f32)
MANY_OF(f16)
MANY_OF(q8_0)
