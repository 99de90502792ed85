/* Attention for many rows on Hopper's warpgroups (compute capability 9.0 alone): each of two has 64 queries of a head. A third one
 * brings keys and values to shared memory, as halves, tiles of 64 positions in turn. While the tensor cores multiply weights and values
 * of a tile, a warpgroup makes weights of the scores of the next one. */
#include "caches.cuh"
#include "warpgroups.cuh"

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900

enum {
    KEYS = FE_CUDA_FLASH_KEYS,
    QUERIES = FE_CUDA_FLASH_ROWS, /* of a warpgroup */
    GROUPS = FE_CUDA_FLASH_GROUPS,
    WARPS = GROUPS * 4,
    FETCHERS = 4, /* warps */
    FETCHER = 40, /* registers */
    MULTIPLIER = 232,
    TILES = FE_CUDA_FLASH_TILES, /* on their way or there: of keys and of values */
    LAG = 3,                     /* those of them whose copies are not waited for yet */
    PANEL = KEYS * 128 /* bytes: of each position 64 elements, their chunks of 16 bytes turned about by the position */
};
extern __shared__ uchar memory[];

struct barriers {
    uint64_t come[TILES], free[TILES];
};

/* What a block works on: queries of a head from row `row` of the span on. */
struct work {
    fe_cuda_span span;
    const uchar *k, *v;
    uint32_t row, all;          /* all: positions that the span's last row sees */
    uint32_t begin, end, count; /* positions that the block goes through, from a multiple of KEYS on, and their tiles */
    uchar *tiles;
};

/* One past the last position that any of `rows` queries from `row` on sees. */
INLINE uint32_t end_of(const fe_cuda_attention &p, const work &w, uint32_t row, uint32_t rows) {
    return p.bidirectional ? w.all : min(w.span.first + row + rows, w.all);
}

INLINE bool find_work(const fe_cuda_attention &p, work &w) {
    enum { ROWS = GROUPS * QUERIES };
    w.span = p.spans[blockIdx.z];
    if (blockIdx.y * ROWS >= w.span.rows) return false;
    w.k = (const uchar *)w.span.k + blockIdx.x / p.group * w.span.slice;
    w.v = (const uchar *)w.span.v + blockIdx.x / p.group * w.span.slice;
    w.row = ((w.span.rows - 1) / ROWS - blockIdx.y) * ROWS; /* the longest first */
    w.all = w.span.first + w.span.rows;
    uint32_t first = w.span.first + w.row + 1;
    w.begin = p.window && first > p.window ? (first - p.window) / KEYS * KEYS : 0;
    w.end = end_of(p, w, w.row, ROWS);
    w.count = (w.end - w.begin + KEYS - 1) / KEYS;
    w.tiles = memory + (1024 - shared_at(memory) % 1024) % 1024;
    return true;
}

/* ---- The warps that fetch ---- */

/* The tile's positions from `first` on, zeros from the end on and past the head's dimension. They are of one page. */
template <typename C, int DIM>
INLINE void fetch_tile(const fe_cuda_attention &p, const work &w, const uchar *slice, uint32_t first, uchar *tile) {
    enum { CHUNKS = DIM / 8, AT_ONCE = FETCHERS * FE_CUDA_WARP / CHUNKS };
    uint32_t thread = threadIdx.x - WARPS * FE_CUDA_WARP, chunk = thread % CHUNKS, left = w.end - first;
    uint32_t row = cache_row(w.span, first);
    uchar *to = tile + chunk / 8 * PANEL;
    bool in = chunk * 8 < p.head_dim;
#pragma unroll 4
    for (uint32_t i = thread / CHUNKS; i < KEYS; i += AT_ONCE)
        bring<C>((__half *)(to + i * 128 + (chunk % 8 ^ i % 8) * 16), slice, w.span.positions, row + i, p.head_dim,
                 chunk * 8, in && i < left);
}

template <typename C, int DIM> INLINE void fetch(const fe_cuda_attention &p, const work &w, barriers &b) {
    uint32_t count = 2 * w.count, handed = 0;
    auto hand_over = [&] {
        publish();
        arrive(&b.come[handed++ % TILES]);
    };
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = i % TILES;
        if (i >= TILES) await_round(&b.free[slot], i / TILES - 1);
        fetch_tile<C, DIM>(p, w, i % 2 ? w.v : w.k, w.begin + i / 2 * KEYS, w.tiles + slot * (DIM / 64) * PANEL);
        copy_commit();
        if (i < LAG) continue;
        copy_wait<LAG>();
        hand_over();
    }
    copy_wait<0>();
    while (handed < count) hand_over();
}

/* ---- The warps that multiply ---- */

/* What the tensor cores make of these registers is there, and they are free again. */
template <int COUNT> INLINE void settle(float (&x)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(x[i])::"memory");
}

template <int DIM> struct multiplier {
    enum { STEPS = DIM / 16, TILE = DIM / 64 * PANEL };
    const fe_cuda_attention &p;
    const work &w;
    barriers &b;
    uint32_t row, first, tiles; /* the warpgroup's first row, and the lane's; where the tiles are */
    bool leader;
    uint32_t q[STEPS][4], weights[KEYS / 16][4];
    float out[DIM / 2], score[KEYS / 2], most[2], total[2];

    __device__ __forceinline__ multiplier(const fe_cuda_attention &p, const work &w, barriers &b) : p(p), w(w), b(b) {
        row = w.row + warp_index() / 4 * QUERIES;
        first = row + warp_index() % 4 * 16 + lane_index() / 4;
        tiles = __shfl_sync(ALL_LANES, shared_at(w.tiles), 0);
        leader = lane_index() == 0;
#pragma unroll
        for (int i = 0; i < DIM / 2; i++) out[i] = 0.0f;
#pragma unroll
        for (int i = 0; i < 2; i++) most[i] = -FLT_MAX, total[i] = 0.0f;
    }

    /* Scaled for powers of two in place of e, but where scores have a cap. */
    __device__ __forceinline__ void load_queries() {
        float scale = p.softcap > 0.0f ? p.scale : p.scale * LOG2_E;
        uint32_t last = w.span.rows - 1, t = lane_index() % 4;
#pragma unroll
        for (int i = 0; i < STEPS; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                uint32_t at = 16 * i + j / 2 * 8 + 2 * t, r = first + j % 2 * 8;
                const float *x =
                    p.q + (uint64_t)(w.span.row + min(r, last)) * p.q_stride + blockIdx.x * p.head_dim + at;
                bool in = r <= last && at < p.head_dim;
                q[i][j] = half2_bits(__floats2half2_rn(in ? x[0] * scale : 0.0f, in ? x[1] * scale : 0.0f));
            }
    }

    __device__ __forceinline__ uint32_t await_tile(uint32_t i) const {
        uint32_t slot = __shfl_sync(ALL_LANES, i % TILES, 0);
        await_round(&b.come[slot], i / TILES);
        return tiles + slot * TILE;
    }
    __device__ __forceinline__ void leave_tile(uint32_t i) const {
        if (leader) arrive(&b.free[i % TILES]);
    }

    __device__ __forceinline__ void begin_scores(uint32_t i) {
        uint32_t tile = await_tile(2 * i);
#pragma unroll
        for (int j = 0; j < KEYS / 2; j++) score[j] = 0.0f;
        settle(score);
        multiply_begin();
#pragma unroll
        for (int j = 0; j < STEPS; j++) multiply(score, q[j], descriptor(tile + j / 4 * PANEL) + j % 4 * 2);
        multiply_commit();
    }
    __device__ __forceinline__ void begin_values(uint32_t i) {
        uint32_t tile = await_tile(2 * i + 1);
        settle(out);
        multiply_begin();
#pragma unroll
        for (int j = 0; j < KEYS / 16; j++)
            multiply_turned(out, weights[j], turned_descriptor(tile, PANEL) + j * (16 * 128 / 16));
        multiply_commit();
    }

    /* Those of positions from `at` on that a query does not see. */
    __device__ __forceinline__ void mask(uint32_t at) {
        uint32_t own = w.span.first + row + QUERIES; /* one past the last query's position */
        if (at + KEYS <= end_of(p, w, row, 1) && (!p.window || at + p.window >= own)) return;
        uint32_t column = at + lane_index() % 4 * 2, from[2], until[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            own = w.span.first + first + 8 * i + 1;
            from[i] = p.window && own > p.window ? own - p.window : 0;
            until[i] = p.bidirectional ? w.all : min(own, w.all);
        }
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            uint32_t position = column + i / 4 * 8 + i % 2;
            if (position < from[i / 2 % 2] || position >= until[i / 2 % 2]) score[i] = -INFINITY;
        }
    }

    /* Weights of the scores, as floats, and what they make of the sums so far. */
    __device__ __forceinline__ void weigh(uint32_t at, float (&old)[2]) {
        if (p.softcap > 0.0f)
#pragma unroll
            for (int i = 0; i < KEYS / 2; i++) score[i] = p.softcap * LOG2_E * tanhf(score[i] / p.softcap);
        mask(at);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float largest = most[i];
#pragma unroll
            for (int j = 2 * i; j < KEYS / 2; j += 4) largest = fmaxf(largest, fmaxf(score[j], score[j + 1]));
            largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 2));
            old[i] = power_of_two(most[i] - largest);
            most[i] = largest;
            total[i] *= old[i];
        }
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            score[i] = power_of_two(score[i] - most[i / 2 % 2]);
            total[i / 2 % 2] += score[i];
        }
    }
    __device__ __forceinline__ void take_weights(const float (&old)[2]) {
#pragma unroll
        for (int i = 0; i < KEYS / 4; i++)
            weights[i / 4][i % 4] = half2_bits(__floats2half2_rn(score[2 * i], score[2 * i + 1]));
        if (__any_sync(ALL_LANES, old[0] < 1.0f || old[1] < 1.0f)) /* not often, once there are some */
#pragma unroll
            for (int i = 0; i < DIM / 2; i++) out[i] *= old[i / 2 % 2];
    }

    __device__ __forceinline__ void run() {
        uint32_t count = row < w.span.rows ? (end_of(p, w, row, QUERIES) - w.begin + KEYS - 1) / KEYS : 0;
        float old[2];
        if (count) {
            load_queries();
            begin_scores(0);
            multiply_wait<0>();
            settle(score);
            leave_tile(0);
            weigh(w.begin, old);
            take_weights(old);
        }
#pragma unroll 1
        for (uint32_t i = 1; i < count; i++) {
            begin_scores(i);
            begin_values(i - 1);
            multiply_wait<1>();
            settle(score);
            leave_tile(2 * i);
            weigh(w.begin + i * KEYS, old);
            multiply_wait<0>();
            settle(out);
            leave_tile(2 * i - 1);
            take_weights(old);
        }
        if (count) {
            begin_values(count - 1);
            multiply_wait<0>();
            settle(out);
            leave_tile(2 * count - 1);
        }
        for (uint32_t i = 2 * count; i < 2 * w.count; i++) { /* for the other warpgroup alone */
            await_tile(i);
            __syncwarp();
            leave_tile(i);
        }
        if (count) store();
    }

    __device__ __forceinline__ void store() {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t r = first + 8 * i, t = lane_index() % 4;
            total[i] += __shfl_xor_sync(ALL_LANES, total[i], 1);
            total[i] += __shfl_xor_sync(ALL_LANES, total[i], 2);
            if (r >= w.span.rows) continue;
            float *to = p.out + (uint64_t)(w.span.row + r) * p.out_stride + blockIdx.x * p.head_dim;
            float inverse = 1.0f / total[i];
#pragma unroll
            for (int j = 0; j < DIM / 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (8 * j + 2 * t + e < p.head_dim) to[8 * j + 2 * t + e] = out[4 * j + 2 * i + e] * inverse;
        }
    }
};

/* x: heads, y: tiles of queries, z: spans. */
template <typename C, int DIM> static __device__ __forceinline__ void attend_wide(const fe_cuda_attention &p) {
    __shared__ barriers b;
    work w;
    begin();
    if (!find_work(p, w)) return;
    if (threadIdx.x == 0) {
        for (int i = 0; i < TILES; i++)
            barrier_init(&b.come[i], FETCHERS * FE_CUDA_WARP), barrier_init(&b.free[i], WARPS);
        publish();
    }
    __syncthreads();
    if (warp_index() >= WARPS) {
        give_registers<FETCHER>();
        fetch<C, DIM>(p, w, b);
    } else {
        take_registers<MULTIPLIER>();
        multiplier<DIM>(p, w, b).run();
    }
}

#define WIDE(name, DIM)                 \
    KERNEL2(fe_cuda_flash_threads(), 1) \
    attention_wide_##name##_##DIM(const __grid_constant__ fe_cuda_attention p) { attend_wide<from_##name, DIM>(p); }
#define WIDE_OF(name) WIDE(name, 64) WIDE(name, 128)
WIDE_OF(f32)
WIDE_OF(f16)
WIDE_OF(q8_0)

#endif
