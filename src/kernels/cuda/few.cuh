/* What a block of the attention for few rows does with positions: in floats, or in halves on the tensor cores. */
#ifndef FE_CUDA_FEW_CUH
#define FE_CUDA_FEW_CUH

#include "caches.cuh"

INLINE float capped(const fe_cuda_attention &p, float score) {
    return p.softcap > 0.0f ? p.softcap * tanhf(score / p.softcap) : score;
}

/* The positions that a row of a span sees, first … last, and the size of its splits. */
struct reach {
    uint32_t first, last, size;
};

INLINE reach reach_of(const fe_cuda_attention &p, const fe_cuda_span &span, uint32_t within) {
    uint32_t last = span.first + (p.bidirectional ? span.rows - 1 : within), most = span.first + span.rows;
    uint32_t first = p.window && last + 1 > p.window ? last + 1 - p.window : 0;
    return {first, last, fe_cuda_split(p.window && most > p.window ? p.window : most, gridDim.y)};
}
INLINE uint32_t splits_of(const reach &r) { return (r.last - r.first) / r.size + 1; }

/* What a row of a block is: where the results go of `heads` heads of a KV head, in a row, and how many parts they have. */
struct few_place {
    reach seen;
    uint32_t row, head, heads, splits;
    bool sent; /* a part goes to the blocks of the cluster */
};

INLINE uint32_t first_of_split(const few_place &to, uint32_t split) { return to.seen.first + split * to.seen.size; }
INLINE uint32_t end_of_split(const few_place &to, uint32_t split) {
    return min(first_of_split(to, split + 1), to.seen.last + 1);
}

/* And where it has them from. */
struct few_work {
    fe_cuda_span span;
    const uchar *k, *v;
    uint32_t kv;
    few_place to;
};

/* What the warps have: of a head the largest score, the sum of weights, and the weighted sums of values. */
template <int DIM> struct __align__(16) few_sums {
    float most[FE_CUDA_GROUP][FE_CUDA_SPLIT_WARPS], total[FE_CUDA_GROUP][FE_CUDA_SPLIT_WARPS];
    float sum[FE_CUDA_SPLIT_WARPS][FE_CUDA_GROUP][DIM + 4]; /* heads begin in other banks */
};

/* ---- In floats ---- */

/* What lanes that share positions have so far: of a head the largest score, the sum of weights, and 8 elements of the result. */
struct softmax_part {
    float most, total, sum[8];
};

/* Sums over the lanes of a warp that are LANES apart, of 8 elements: each keeps some. The first one's index. */
template <int LANES> INLINE uint32_t scatter_sums(float (&x)[8]) {
    uint32_t at = 0;
#pragma unroll
    for (int apart = 16, n = 4; apart >= LANES; apart /= 2, n /= 2) {
        bool upper = lane_index() & apart;
#pragma unroll
        for (int i = 0; i < n; i++) {
            float give = upper ? x[i] : x[i + n], keep = upper ? x[i + n] : x[i];
            x[i] = keep + __shfl_xor_sync(ALL_LANES, give, apart);
        }
        if (upper) at += n;
    }
    return at;
}

/* Eight elements of a lane's rows of k and v at once: positions base + slot and SLOTS further, LANES lanes to a position. */
template <typename C, int LANES> struct few_rows {
    enum { SLOTS = FE_CUDA_SPLIT_WARPS * FE_CUDA_WARP / LANES, EACH = 2 };
    typename C::raw k[EACH], v[EACH];

    __device__ __forceinline__ static uint32_t position(uint32_t base, int j) {
        return base + j * SLOTS + threadIdx.x / LANES;
    }
    /* Those from `from` on and before `end`. */
    __device__ __forceinline__ void load(const fe_cuda_attention &p, const few_work &w, uint32_t base, uint32_t from,
                                         uint32_t end) {
        uint32_t at = threadIdx.x % LANES * 8;
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            uint32_t i = position(base, j);
            if (at >= p.head_dim || i < from || i >= end) continue;
            uint32_t row = cache_row(w.span, i);
            k[j] = C::fetch(w.k, w.span.positions, row, p.head_dim, at);
            v[j] = C::fetch(w.v, w.span.positions, row, p.head_dim, at);
        }
    }
};

/* Positions begin … end-1, of which `rows` has the first ones already, but for those that are the span's own; what the warps have of
 * them. */
template <typename C, int LANES>
INLINE void attend_split(const fe_cuda_attention &p, const few_work &w, const float (&q)[FE_CUDA_GROUP][8],
                         uint32_t begin, uint32_t end, few_rows<C, LANES> &rows, few_sums<LANES * 8> &sums) {
    enum { SLOTS = few_rows<C, LANES>::SLOTS, EACH = few_rows<C, LANES>::EACH };
    uint32_t from = threadIdx.x % LANES * 8;
    softmax_part s[FE_CUDA_GROUP];
#pragma unroll
    for (int h = 0; h < FE_CUDA_GROUP; h++) {
        s[h].most = -FLT_MAX;
        s[h].total = 0.0f;
        for (int i = 0; i < 8; i++) s[h].sum[i] = 0.0f;
    }
    /* all lanes of a warp go round as often as one: they meet in sums */
    for (uint32_t base = begin; base < end; base += EACH * SLOTS) {
        bool valid[EACH];
        rows.load(p, w, base, base == begin ? w.span.first : 0, end);
#pragma unroll
        for (int j = 0; j < EACH; j++) valid[j] = rows.position(base, j) < end;
        float score[FE_CUDA_GROUP][EACH], x[EACH][8];
#pragma unroll
        for (int j = 0; j < EACH; j++) C::expand(rows.k[j], x[j]);
#pragma unroll
        for (int h = 0; h < FE_CUDA_GROUP; h++)
#pragma unroll
            for (int j = 0; j < EACH; j++) {
                score[h][j] = 0.0f;
                for (int i = 0; i < 8; i++) score[h][j] = fmaf(q[h][i], x[j][i], score[h][j]);
                for (int i = LANES / 2; i > 0; i /= 2) score[h][j] += __shfl_xor_sync(ALL_LANES, score[h][j], i);
            }
        if (p.softcap > 0.0f) /* once, lest the heads go one after the other */
#pragma unroll
            for (int h = 0; h < FE_CUDA_GROUP; h++)
#pragma unroll
                for (int j = 0; j < EACH; j++) score[h][j] = capped(p, score[h][j]);
        float most[FE_CUDA_GROUP];
        bool more = false;
#pragma unroll
        for (int h = 0; h < FE_CUDA_GROUP; h++) {
            most[h] = s[h].most;
#pragma unroll
            for (int j = 0; j < EACH; j++)
                if (valid[j]) most[h] = fmaxf(most[h], score[h][j]);
            more = more || most[h] > s[h].most;
        }
        if (__any_sync(ALL_LANES, more)) /* not often, once there are some */
#pragma unroll
            for (int h = 0; h < FE_CUDA_GROUP; h++) {
                float old = __expf(s[h].most - most[h]);
                s[h].most = most[h];
                s[h].total *= old;
                for (int i = 0; i < 8; i++) s[h].sum[i] *= old;
            }
#pragma unroll
        for (int j = 0; j < EACH; j++) C::expand(rows.v[j], x[j]);
#pragma unroll
        for (int h = 0; h < FE_CUDA_GROUP; h++) {
#pragma unroll
            for (int j = 0; j < EACH; j++) {
                float weight = valid[j] ? __expf(score[h][j] - most[h]) : 0.0f;
                s[h].total += weight;
                for (int i = 0; i < 8; i++) s[h].sum[i] = fmaf(weight, x[j][i], s[h].sum[i]);
            }
        }
    }
#pragma unroll
    for (int h = 0; h < FE_CUDA_GROUP; h++) {
        float most = s[h].most;
        for (int i = LANES; i < FE_CUDA_WARP; i *= 2) most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, i));
        float old = __expf(s[h].most - most), total = s[h].total * old;
        for (int i = LANES; i < FE_CUDA_WARP; i *= 2) total += __shfl_xor_sync(ALL_LANES, total, i);
        for (int i = 0; i < 8; i++) s[h].sum[i] *= old;
        uint32_t at = from + scatter_sums<LANES>(s[h].sum);
#pragma unroll
        for (int i = 0; i < LANES / 4; i++) sums.sum[warp_index()][h][at + i] = s[h].sum[i];
        if (lane_index() == 0) {
            sums.most[h][warp_index()] = most;
            sums.total[h][warp_index()] = total;
        }
    }
}

/* ---- In halves ---- */

/* Sixteen positions of caches of halves, as the lanes of a warp have them for the tensor cores, in chunks of 8 elements. With
 * g = lane / 4 and t = lane % 4: of keys g and g + 8, chunks t, t + 4 …; of values 2t, 2t + 1, 2t + 8 and 2t + 9, chunks g and
 * g + 8. Chunks past the head's end stay zeros. */
template <int DIM> struct few_tile { uint4 k[2][DIM / 32], v[4][DIM / 64]; };
enum { FEW_TILE = 16, FEW_STEP = FE_CUDA_SPLIT_WARPS * FEW_TILE };

INLINE uint32_t key_of(int i) { return lane_index() / 4 + i * 8; }
INLINE uint32_t value_of(int i) { return lane_index() % 4 * 2 + i % 2 + i / 2 * 8; }

/* A warp's first tile of a split. Tiles begin at multiples of 16, and so are in one page. */
INLINE uint32_t first_tile(uint32_t begin) { return begin / FEW_TILE * FEW_TILE + warp_index() * FEW_TILE; }

/* How much further the rows of a tile stand in the cache than its positions. */
INLINE uint32_t shift_of(const few_work &w, uint32_t first) { return cache_row(w.span, first) - first; }

/* Chunks `at`, at + STEP … of a position's row; for positions past begin … last the nearest of those. */
template <int STEP, int COUNT>
INLINE void load_chunks(uint4 (&x)[COUNT], const uchar *slice, uint32_t position, uint32_t begin, uint32_t last,
                        uint32_t shift, uint32_t at, uint32_t chunks) {
    const uint4 *row = (const uint4 *)slice + ((min(max(position, begin), last) + shift) * chunks + at);
#pragma unroll
    for (uint32_t i = 0; i < COUNT; i++) load_where(at + i * STEP < chunks, x[i], row + i * STEP);
}
template <int DIM>
INLINE void load_keys(few_tile<DIM> &x, const few_work &w, uint32_t first, uint32_t begin, uint32_t last,
                      uint32_t chunks) {
    uint32_t shift = shift_of(w, first);
#pragma unroll
    for (int i = 0; i < 2; i++)
        load_chunks<4>(x.k[i], w.k, first + key_of(i), begin, last, shift, lane_index() % 4, chunks);
}
template <int DIM>
INLINE void load_values(few_tile<DIM> &x, const few_work &w, uint32_t first, uint32_t begin, uint32_t last,
                        uint32_t chunks) {
    uint32_t shift = shift_of(w, first);
#pragma unroll
    for (int i = 0; i < 4; i++)
        load_chunks<8>(x.v[i], w.v, first + value_of(i), begin, last, shift, lane_index() / 4, chunks);
}

/* Heads of q as halves, and below them what these leave over: together they are as good as floats. Each is divided by a power of
 * two, so that its largest element is from 1 to 2. Of each chunk the second and the third pair have changed places. */
template <int DIM> struct __align__(16) few_query {
    __half of[2 * FE_CUDA_GROUP][DIM + 32];
    float power[FE_CUDA_GROUP];
};

/* The warp's head; zeros where it has none. */
template <int DIM> INLINE void put_query(const fe_cuda_attention &p, const float *x, bool has, few_query<DIM> &q) {
    enum { EACH = DIM / FE_CUDA_WARP, EXPONENT = 0x7F800000, LEAST = 1 << 23, MOST = 253 << 23, BOTH = 254 << 23 };
    float value[EACH], most = 0.0f;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        uint32_t i = lane_index() + j * FE_CUDA_WARP;
        value[j] = has && i < p.head_dim ? x[i] * p.scale : 0.0f;
        most = fmaxf(most, fabsf(value[j]));
    }
    int power = min(max(__float_as_int(warp_max(most)) & EXPONENT, LEAST), MOST);
    float inverse = __int_as_float(BOTH - power);
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        uint32_t e = lane_index() + j * FE_CUDA_WARP, i = (e & ~6u) | (e & 2) << 1 | (e & 4) >> 1;
        __half upper = __float2half_rn(value[j] * inverse);
        q.of[warp_index()][i] = upper;
        q.of[FE_CUDA_GROUP + warp_index()][i] = __float2half_rn(fmaf(value[j], inverse, -__half2float(upper)));
    }
    if (lane_index() == 0) q.power[warp_index()] = __int_as_float(power);
}

/* Element number i of two positions' chunks. */
template <int COUNT> INLINE uint32_t both(const uint4 (&x)[COUNT], const uint4 (&y)[COUNT], int i) {
    const uint4 a = x[i / 8], b = y[i / 8];
    int word = i % 8 / 2;
    uint32_t first = word == 0 ? a.x : word == 1 ? a.y : word == 2 ? a.z : a.w;
    uint32_t second = word == 0 ? b.x : word == 1 ? b.y : word == 2 ? b.z : b.w;
    return __byte_perm(first, second, i % 2 ? 0x7632 : 0x5410);
}

/* Which of two heads a lane has: lanes t and t + 2 have heads 2t and 2t + 1, the former's products being with the upper halves and
 * the latter's with the lower ones. */
INLINE bool has_second() { return lane_index() & 2; }

/* Scores of a lane's head with positions g and g + 8 of a tile. A chunk is a left factor as it is: its first and third words are
 * row g's, the others row g + 8's, which want other elements of q, and so another product. */
template <int DIM> INLINE void make_scores(const few_query<DIM> &q, const few_tile<DIM> &x, float (&s)[2]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float even[4] = {}, odd[4] = {};
#pragma unroll
        for (int c = 0; c < DIM / 32; c++) {
            uint4 b = load_shared(q.of[lane_index() / 4] + (4 * c + lane_index() % 4) * 8), k = x.k[i][c];
            const uint32_t a[4] = {k.x, k.y, k.z, k.w};
            mma(even, a, b.x, b.y);
            mma(odd, a, b.z, b.w);
        }
        float first = even[0] + odd[2], second = even[1] + odd[3];
        s[i] = (has_second() ? second : first) + __shfl_xor_sync(ALL_LANES, has_second() ? first : second, 2);
    }
}

/* Positions begin … end-1, 16 to a warp at a time, of which `x` has the warp's first ones; what the warps have of them. The left
 * factors are keys, then values; the right ones have a column for the upper and one for the lower halves of each head. */
template <int DIM>
INLINE void attend_halves(const fe_cuda_attention &p, const few_work &w, const few_query<DIM> &q, few_tile<DIM> &x,
                          uint32_t begin, uint32_t end, few_sums<DIM> &sums) {
    enum { TILES = DIM / 16, LIFT = 11 }; /* weights are up to 2^LIFT: the small ones keep their bits */
    uint32_t g = lane_index() / 4, h = lane_index() % 2 * 2 + has_second(), chunks = p.head_dim / 8, last = end - 1;
    float out[TILES][4] = {}, most = -FLT_MAX, total = 0.0f;
#pragma unroll 1
    for (uint32_t first = first_tile(begin); first <= last; first += FEW_STEP) {
        uint32_t next = first + FEW_STEP;
        float s[2], largest = most;
        make_scores(q, x, s);
        if (next <= last) load_keys(x, w, next, 0, last, chunks);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t position = first + key_of(i);
            s[i] *= q.power[h];
            if (p.softcap > 0.0f) s[i] = p.softcap * tanhf(s[i] * reciprocal(p.softcap));
            if (position < begin || position > last) s[i] = -INFINITY;
            largest = fmaxf(largest, s[i]);
        }
        for (int i = 4; i < FE_CUDA_WARP; i *= 2) largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, i));
        float old = power_of_two((most - largest) * LOG2_E);
        most = largest;
        total *= old;
        if (__any_sync(ALL_LANES, old < 1.0f)) { /* not often, once there are some */
            float other = __shfl_xor_sync(ALL_LANES, old, 2);
#pragma unroll
            for (int i = 0; i < TILES; i++)
                for (int j = 0; j < 4; j++) out[i][j] *= has_second() == j % 2 ? old : other;
        }
        uint32_t weights[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float own = power_of_two(fmaf(s[i] - most, LOG2_E, LIFT)), other = __shfl_xor_sync(ALL_LANES, own, 2);
            total += own;
            __half2 pair = has_second() ? __floats2half2_rn(other, own) : __floats2half2_rn(own, other);
            float2 upper = __half22float2(pair);
            if (has_second()) pair = __floats2half2_rn(other - upper.x, own - upper.y);
            weights[i] = transposed(half2_bits(pair));
        }
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            const uint32_t a[4] = {both(x.v[0], x.v[1], i), both(x.v[0], x.v[1], i + TILES), both(x.v[2], x.v[3], i),
                                   both(x.v[2], x.v[3], i + TILES)};
            mma(out[i], a, weights[0], weights[1]);
        }
        if (next <= last) load_values(x, w, next, 0, last, chunks);
    }
    /* a lane keeps its head, and adds up the halves */
    float sum[2 * TILES];
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
        const float *two = out[i % TILES] + i / TILES * 2;
        sum[i] = (has_second() ? two[1] : two[0]) + __shfl_xor_sync(ALL_LANES, has_second() ? two[0] : two[1], 2);
    }
#pragma unroll
    for (int i = 0; i < 2 * TILES; i += 4)
        *(float4 *)&sums.sum[warp_index()][h][(g + i / 8 * 8) * 8 + i % 8] =
            make_float4(sum[i], sum[i + 1], sum[i + 2], sum[i + 3]);
    for (int i = 4; i < FE_CUDA_WARP; i *= 2) total += __shfl_xor_sync(ALL_LANES, total, i);
    if (g > 0) return;
    sums.most[h][warp_index()] = most;
    sums.total[h][warp_index()] = total;
}

/* ---- Either ---- */

/* How a block attends. In floats, whatever the caches are of: of each head of q 8 elements are in a lane's registers. */
template <typename C, int LANES, bool HALVES = C::HALVES &&LANES <= 16> struct few_way {
    enum { DIM = LANES * 8, SHARES = false };
    struct memory {};
    few_rows<C, LANES> rows = {};
    float q[FE_CUDA_GROUP][8];

    /* Asks for the first positions of a split; where it is `fresh` the span's own are not there yet. */
    __device__ __forceinline__ void ask(const fe_cuda_attention &p, const few_work &w, uint32_t begin, uint32_t end,
                                        bool) {
        rows.load(p, w, begin, 0, min(end, w.span.first));
    }
    /* A warp's head of q, k or v to the memory that the block shares, where it SHARES any. */
    __device__ __forceinline__ void put(const fe_cuda_attention &, const few_work &, uint32_t, const float *,
                                        memory &) {}
    /* What the block has made; heads of q are `apart` from each other. */
    __device__ __forceinline__ void take(const fe_cuda_attention &p, const few_work &w, const float *x, uint32_t apart,
                                         const memory &, uint32_t, uint32_t) {
        uint32_t from = threadIdx.x % LANES * 8;
#pragma unroll
        for (int h = 0; h < FE_CUDA_GROUP; h++)
            for (int i = 0; i < 8; i++)
                q[h][i] = from < p.head_dim ? x[min(h, w.to.heads - 1) * apart + from + i] * p.scale : 0.0f;
    }
    __device__ __forceinline__ void attend(const fe_cuda_attention &p, const few_work &w, const memory &,
                                           uint32_t begin, uint32_t end, few_sums<DIM> &sums) {
        attend_split<C, LANES>(p, w, q, begin, end, rows, sums);
    }
};

/* Halves on the tensor cores. */
template <typename C, int LANES> struct few_way<C, LANES, true> {
    enum { DIM = LANES * 8, SHARES = true };
    struct memory {
        few_query<DIM> query;
        uint4 own[2][DIM / 8]; /* of k and v in the row's own position, where the block makes them */
    };
    few_tile<DIM> tile = {};

    __device__ __forceinline__ void ask(const fe_cuda_attention &p, const few_work &w, uint32_t begin, uint32_t end,
                                        bool fresh) {
        uint32_t first = first_tile(begin), chunks = p.head_dim / 8;
        if (fresh) end = min(end, w.span.first);
        if (first >= end) return;
        load_keys(tile, w, first, begin, end - 1, chunks);
        load_values(tile, w, first, begin, end - 1, chunks);
    }
    __device__ __forceinline__ void put(const fe_cuda_attention &p, const few_work &w, uint32_t which, const float *x,
                                        memory &m) {
        if (warp_index() < FE_CUDA_GROUP)
            put_query(p, x, warp_index() < w.to.heads, m.query);
        else if (which < 3)
            C::store::store(m.own[which - 1], 1, 0, p.head_dim, x, lane_index());
    }
    __device__ __forceinline__ void take(const fe_cuda_attention &p, const few_work &w, const float *, uint32_t,
                                         const memory &m, uint32_t begin, uint32_t end) {
        uint32_t first = first_tile(begin), last = w.span.first, g = lane_index() / 4, t = lane_index() % 4;
        if (!p.fresh.x[0] || end <= last || first > last || first + FEW_TILE <= last) return;
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int c = 0; c < DIM / 32; c++)
                if (max(first + key_of(i), begin) >= last && (t + 4 * c) * 8 < p.head_dim)
                    tile.k[i][c] = m.own[0][t + 4 * c];
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int c = 0; c < DIM / 64; c++)
                if (max(first + value_of(i), begin) >= last && (g + 8 * c) * 8 < p.head_dim)
                    tile.v[i][c] = m.own[1][g + 8 * c];
    }
    __device__ __forceinline__ void attend(const fe_cuda_attention &p, const few_work &w, const memory &m,
                                           uint32_t begin, uint32_t end, few_sums<DIM> &sums) {
        attend_halves<DIM>(p, w, m.query, tile, begin, end, sums);
    }
};

#endif
