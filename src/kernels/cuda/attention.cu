/* Attention: for few rows of a sequence, its positions split among blocks; for many, tiles of queries and keys on the tensor
 * cores. Which of the two depends on a span alone, where positions
 * are split on how many rows there are as well. */
#include "clusters.cuh"
#include "few.cuh"
#include "ints.cuh"

/* An element of a row of the result. */
INLINE void store(const fe_cuda_attention &p, uint32_t row, uint32_t at, float x) {
    p.out[(uint64_t)row * p.out_stride + at] = x;
    if (p.ints) pack_int(p.ints, p.scales, (uint64_t)row * p.heads * p.head_dim + at, x);
}

/* ---- Few rows ---- */

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

/* Asks for the caches' rows of the block's first split, as many as the second cache has room for of all blocks'. */
template <typename C> INLINE void ask_for_cache(const fe_cuda_attention &p, const few_work &w) {
    enum { LINE = 128, ROOM = 16 << 20 };
    uint32_t bytes = p.head_dim * C::BYTES, lines = (bytes + LINE - 1) / LINE;
    uint32_t begin = first_of_split(w.to, blockIdx.z), end = end_of_split(w.to, blockIdx.z);
    end = min(end, begin + ROOM / (2 * bytes) / (gridDim.x * gridDim.y * gridDim.z));
    for (uint32_t i = threadIdx.x; begin < end && i < (end - begin) * lines; i += blockDim.x) {
        uint64_t from = (uint64_t)cache_row(w.span, begin + i / lines) * bytes + i % lines * LINE;
        asm volatile("prefetch.global.L2 [%0];" ::"l"(w.k + from));
        asm volatile("prefetch.global.L2 [%0];" ::"l"(w.v + from));
    }
}

/* Of a row that is a span a block makes its heads of q and, where it reads the row's own position, k and v: a warp one of them.
 * Which of q, k, v (else 3), and which head. */
INLINE uint32_t head_to_make(const few_work &w, uint32_t &index) {
    uint32_t warp = warp_index(), last = (w.to.splits - 1) % gridDim.z;
    index = warp < FE_CUDA_GROUP ? w.to.head + warp : w.kv;
    if (warp < FE_CUDA_GROUP) return warp < w.to.heads ? 0 : 3;
    return warp < FE_CUDA_GROUP + 2 && blockIdx.z == last ? warp - FE_CUDA_GROUP + 1 : 3;
}

/* What a block of a cluster gets of the others' parts and its own: of each part the sums of the elements that it joins, and of each head
 * the largest score and the sum of weights. Elements go round the blocks, a warp's at a time. */
template <int DIM> struct few_inbox {
    uint64_t arrivals;
    float ends[FE_CUDA_CLUSTER][FE_CUDA_GROUP][2];
    float sums[FE_CUDA_GROUP * DIM + (FE_CUDA_CLUSTER - 1) * FE_CUDA_WARP];
};

/* Of `count` elements: in how many turns they go to how many blocks, and how many are the block's. */
struct few_turns {
    uint32_t turns, blocks, own;
};
INLINE few_turns turns_of(const fe_cuda_attention &p, const few_place &to) {
    uint32_t count = to.heads * p.head_dim, warps = (count + FE_CUDA_WARP - 1) / FE_CUDA_WARP;
    uint32_t blocks = min(to.splits, warps), block = blockIdx.z;
    uint32_t own = block < blocks ? (warps - block + blocks - 1) / blocks * FE_CUDA_WARP : 0;
    if (block == (warps - 1) % blocks) own -= warps * FE_CUDA_WARP - count;
    return {(warps + blocks - 1) / blocks, blocks, own};
}

/* What the warps have becomes the result or, where there are several splits, a part. */
template <int DIM>
INLINE void finish_split(const fe_cuda_attention &p, const few_place &to, uint32_t split, const few_sums<DIM> &sums,
                         few_inbox<DIM> &inbox) {
    few_turns turns = {};
    if (to.sent) turns = turns_of(p, to);
#pragma unroll 2
    for (uint32_t i = threadIdx.x; i < to.heads * p.head_dim; i += blockDim.x) {
        uint32_t h = i / p.head_dim, e = i % p.head_dim;
        float largest = -FLT_MAX, all = 0.0f, x = 0.0f;
#pragma unroll
        for (int j = 0; j < FE_CUDA_SPLIT_WARPS; j++) largest = fmaxf(largest, sums.most[h][j]);
#pragma unroll
        for (int j = 0; j < FE_CUDA_SPLIT_WARPS; j++) {
            float weight = __expf(sums.most[h][j] - largest);
            all = fmaf(sums.total[h][j], weight, all);
            x = fmaf(sums.sum[j][h][e], weight, x);
        }
        if (to.splits == 1) {
            store(p, to.row, (to.head + h) * p.head_dim + e, x / all);
            continue;
        }
        if (to.sent) {
            uint32_t warp = i / FE_CUDA_WARP, at = split * turns.turns + warp / turns.blocks;
            send(&inbox.sums[at * FE_CUDA_WARP + lane_index()], &inbox.arrivals, warp % turns.blocks, x);
            for (uint32_t j = 0; e == 0 && j < turns.blocks; j++) {
                send(&inbox.ends[split][h][0], &inbox.arrivals, j, largest);
                send(&inbox.ends[split][h][1], &inbox.arrivals, j, all);
            }
            continue;
        }
        float *part = p.parts + (((uint64_t)blockIdx.y * p.heads + to.head + h) * p.splits + split) * (p.head_dim + 2);
        part[e] = x;
        if (e == 0) {
            part[p.head_dim] = largest;
            part[p.head_dim + 1] = all;
        }
    }
}

/* The parts that were sent become one, to the same bits as by `join`. */
template <int DIM> INLINE void join_sent(const fe_cuda_attention &p, const few_place &to, few_inbox<DIM> &inbox) {
    few_turns turns = turns_of(p, to);
    if (threadIdx.x >= turns.own) return;
    await_arrivals(&inbox.arrivals, to.splits * (turns.own + to.heads * 2) * sizeof(float));
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < turns.own; i += blockDim.x) {
        uint32_t turn = i / FE_CUDA_WARP, at = (turn * turns.blocks + blockIdx.z) * FE_CUDA_WARP + lane_index();
        float most[FE_CUDA_CLUSTER], all[FE_CUDA_CLUSTER] = {}, largest = -FLT_MAX, x = 0.0f;
#pragma unroll
        for (uint32_t j = 0; j < FE_CUDA_CLUSTER; j++) {
            most[j] = j < to.splits ? inbox.ends[j][at / p.head_dim][0] : -FLT_MAX;
            largest = fmaxf(largest, most[j]);
        }
#pragma unroll
        for (uint32_t j = 0; j < FE_CUDA_CLUSTER; j++) {
            if (j >= to.splits) continue;
            float weight = __expf(most[j] - largest);
            all[j] = __fmul_rn(inbox.ends[j][at / p.head_dim][1], weight);
            x = fmaf(inbox.sums[(j * turns.turns + turn) * FE_CUDA_WARP + lane_index()], weight, x);
        }
#pragma unroll
        for (int n = FE_CUDA_CLUSTER / 2; n > 0; n /= 2)
            for (int j = 0; j < n; j++) all[j] += all[j + n];
        store(p, to.row, to.head * p.head_dim + at, x / all[0]);
    }
}

/* Has this block, having done some of the splits of its heads, done the last of them? Then it sees what the others wrote. */
INLINE bool is_last(const fe_cuda_attention &p, uint32_t splits) {
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence(); /* with the barrier, for what all threads wrote */
        uint32_t *count = p.counts + (uint64_t)blockIdx.y * gridDim.x + blockIdx.x;
        last = atomicAdd(count, 1) == min(splits, gridDim.z) - 1;
        if (last) *count = 0;
        __threadfence();
    }
    __syncthreads();
    return last;
}

/* The parts become one: a thread has elements threadIdx.x and blockDim.x further, whose first parts are on their way at once. */
INLINE void join(const fe_cuda_attention &p, const few_place &to) {
    enum { AT_ONCE = 20, LANE_EACH = FE_CUDA_SPLITS / FE_CUDA_WARP };
    __shared__ float weights[FE_CUDA_GROUP][FE_CUDA_SPLITS + AT_ONCE], all[FE_CUDA_GROUP];
    uint32_t stride = p.head_dim + 2, of_head = p.splits * stride, h = warp_index(), count = to.heads * p.head_dim,
             splits = to.splits;
    const float *parts = p.parts + ((uint64_t)blockIdx.y * p.heads + to.head) * of_head;
    float part[2][AT_ONCE];
    auto ask = [&](uint32_t at, uint32_t base, float(&to)[AT_ONCE]) {
        const float *from = parts + at / p.head_dim * of_head + at % p.head_dim;
#pragma unroll
        for (uint32_t i = 0; i < AT_ONCE; i++)
            to[i] = at < count && base + i < splits ? __ldcg(from + (base + i) * stride) : 0.0f;
    };
    for (int j = 0; j < 2; j++) ask(threadIdx.x + j * blockDim.x, 0, part[j]);
    if (h < to.heads) {
        float most[LANE_EACH], total[LANE_EACH], largest = -FLT_MAX, sum = 0.0f;
#pragma unroll
        for (int j = 0; j < LANE_EACH; j++) {
            uint32_t i = lane_index() + j * FE_CUDA_WARP;
            most[j] = i < splits ? __ldcg(parts + h * of_head + i * stride + p.head_dim) : -FLT_MAX;
            total[j] = i < splits ? __ldcg(parts + h * of_head + i * stride + p.head_dim + 1) : 0.0f;
            largest = fmaxf(largest, most[j]);
        }
        largest = warp_max(largest);
#pragma unroll
        for (int j = 0; j < LANE_EACH; j++) {
            float weight = __expf(most[j] - largest);
            weights[h][lane_index() + j * FE_CUDA_WARP] = weight;
            sum = fmaf(total[j], weight, sum);
        }
        if (lane_index() < AT_ONCE) weights[h][FE_CUDA_SPLITS + lane_index()] = 0.0f;
        sum = warp_sum(sum);
        if (lane_index() == 0) all[h] = sum;
    }
    __syncthreads();
#pragma unroll 1
    for (uint32_t first = threadIdx.x; first < count + threadIdx.x; first += 2 * blockDim.x) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            uint32_t at = first + j * blockDim.x, head = min(at / p.head_dim, to.heads - 1);
            float x = 0.0f;
#pragma unroll 1
            for (uint32_t base = 0; base < splits; base += AT_ONCE) {
                if (base || first != threadIdx.x) ask(at, base, part[j]);
#pragma unroll
                for (uint32_t i = 0; i < AT_ONCE; i++) x = fmaf(part[j][i], weights[head][base + i], x);
            }
            if (at < count) store(p, to.row, to.head * p.head_dim + at, x / all[head]);
        }
    }
}

/* x: KV heads, and chunks of their heads; y: rows; z: blocks that share the splits. */
template <typename C, int LANES> static __device__ void attend_few(const fe_cuda_attention &p) {
    typedef few_way<C, LANES> few_way;
    enum { DIM = LANES * 8 };
    __shared__ few_sums<DIM> sums;
    __shared__ float made[FE_CUDA_GROUP + 2][DIM];
    __shared__ typename few_way::memory memory;
    __shared__ few_place to; /* not in registers, of which few are left */
    __shared__ few_inbox<DIM> inbox;
    few_work w;
    uint32_t within = 0;
    bool fresh = p.fresh.x[0], found = true; /* fresh: each row is a span */
    if (fresh)
        w.span = p.spans[blockIdx.y];
    else
        found = find_row(p, blockIdx.y, w.span, within);
    w.to.seen = reach_of(p, w.span, within);
    uint32_t chunks = (p.group + FE_CUDA_GROUP - 1) / FE_CUDA_GROUP;
    w.to.splits = splits_of(w.to.seen);
    w.kv = blockIdx.x / chunks;
    w.to.head = w.kv * p.group + blockIdx.x % chunks * FE_CUDA_GROUP;
    w.to.heads = min((w.kv + 1) * p.group - w.to.head, FE_CUDA_GROUP);
    w.to.row = w.span.row + within;
    w.k = (const uchar *)w.span.k + w.kv * w.span.slice;
    w.v = (const uchar *)w.span.v + w.kv * w.span.slice;
    bool idle = !found || blockIdx.z >= w.to.splits;
    w.to.sent = cluster_blocks() > 1 && w.to.splits > 1;
    if (cluster_blocks() > 1) open_arrivals(&inbox.arrivals);
    head_parts<DIM / FE_CUDA_WARP> parts;
    uint32_t index, which = fresh ? head_to_make(w, index) : 3;
    if (!idle) {
        if (which < 3) load_head_parts(p.fresh, which, index, w.to.row, parts);
        ask_for_cache<C>(p, w);
    }
    await_others();
    if (idle && cluster_blocks() > 1) await_open();
    if (idle) return;
    few_way way; /* positions that are there come while the heads are made */
    way.ask(p, w, first_of_split(w.to, blockIdx.z), end_of_split(w.to, blockIdx.z), fresh);
    if (which < 3) {
        make_head(p.fresh, which, index, w.to.row, parts, made[warp_index()]);
        if (which) append_head<typename C::store>(p.fresh, w.span, which, index, w.span.first, made[warp_index()]);
    }
    const float *q = fresh ? made[0] : p.q + (uint64_t)w.to.row * p.q_stride + w.to.head * p.head_dim;
    uint32_t apart = fresh ? DIM : p.head_dim;
    way.put(p, w, which, q + warp_index() * apart, memory);
    if (threadIdx.x == 0) to = w.to;
    __syncthreads();
    if (cluster_blocks() > 1) await_open();
    let_next_begin(); /* not before: what it asks of memory would stand in the caches' way */
    way.take(p, w, q, apart, memory, first_of_split(w.to, blockIdx.z), end_of_split(w.to, blockIdx.z));
    for (uint32_t split = blockIdx.z; split < to.splits; split += gridDim.z) {
        uint32_t begin = first_of_split(to, split), end = end_of_split(to, split);
        if (split != blockIdx.z) {
            way.ask(p, w, begin, end, false);
            __syncthreads();
        }
        way.attend(p, w, memory, begin, end, sums);
        __syncthreads();
        finish_split<DIM>(p, to, split, sums, inbox);
    }
    if (to.sent)
        join_sent<DIM>(p, to, inbox);
    else if (to.splits > 1 && is_last(p, to.splits))
        join(p, to);
}

#define FEW(name, LANES)                          \
    KERNEL2(FE_CUDA_SPLIT_WARPS *FE_CUDA_WARP, 2) \
    attention_few_##name##_##LANES(const __grid_constant__ fe_cuda_attention p) { attend_few<from_##name, LANES>(p); }
#define FEW_OF(name) FEW(name, 8) FEW(name, 16) FEW(name, 32)
FEW_OF(f32)
FEW_OF(f16)
FEW_OF(q8_0)

/* ---- Many rows ---- */

/* Rows of a tile in shared memory: chunks of 16 bytes, turned about by the row so that rows side by side are read at once. */
template <int DIM> INLINE uint32_t tile_at(uint32_t row, uint32_t chunk) {
    return row * DIM + (chunk ^ ((row & 1) << 2 | (row >> 1 & 3))) * 8;
}

/* FE_CUDA_FLASH_KEYS positions of a cache from `first` on as halves, zeros from `end` on and past the head's dimension. */
template <typename C, int DIM>
INLINE void load_tile(__half *tile, const fe_cuda_span &span, const uchar *slice, uint32_t first, uint32_t end,
                      uint32_t dim) {
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < FE_CUDA_FLASH_KEYS * DIM / 8; i += blockDim.x) {
        uint32_t row = i / (DIM / 8), at = i % (DIM / 8);
        bool in = first + row < end && at * 8 < dim;
        bring<C>(tile + tile_at<DIM>(row, at), slice, span.positions, in ? cache_row(span, first + row) : 0, dim,
                 at * 8, in);
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
    enum { KEYS = FE_CUDA_FLASH_KEYS, STEPS = DIM / 32, BUFFERS = fe_cuda_flash_buffers(DIM) };
    extern __shared__ uint4 memory[];
    __half *tiles = (__half *)memory; /* keys and values in turn */
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
    for (uint32_t first = begin, buffer = 0; first < last; first += KEYS, buffer = (buffer + 1) % BUFFERS) {
        __half *keys = tiles + buffer * 2 * KEYS * DIM, *values = keys + KEYS * DIM;
        if (BUFFERS == 1 || first == begin) {
            load_tile<C, DIM>(keys, span, k, first, last, p.head_dim);
            load_tile<C, DIM>(values, span, v, first, last, p.head_dim);
            copy_commit();
        }
        if (BUFFERS > 1 && first + KEYS < last) {
            __half *next = tiles + (buffer + 1) % BUFFERS * 2 * KEYS * DIM;
            load_tile<C, DIM>(next, span, k, first + KEYS, last, p.head_dim);
            load_tile<C, DIM>(next + KEYS * DIM, span, v, first + KEYS, last, p.head_dim);
        }
        if (BUFFERS > 1) copy_commit();
        copy_wait<BUFFERS - 1>();
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
        if (p.softcap > 0.0f)
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) s[j][i] = capped(p, s[j][i]);
        uint32_t lowest = span.first + row; /* position of the tile's queries */
        bool all_seen = first + KEYS <= (p.bidirectional ? all : min(lowest + 1, all)) &&
                        (!p.window || first + p.window >= lowest + FE_CUDA_FLASH_ROWS);
        if (!all_seen)
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    uint32_t position = first + 8 * j + 2 * t + i % 2, at = span.first + own + i / 2 * 8;
                    bool seen = position < all && (p.bidirectional || position <= at) &&
                                (!p.window || position + p.window > at);
                    if (!seen) s[j][i] = -INFINITY;
                }
        float largest[2] = {most[0], most[1]};
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) largest[i / 2] = fmaxf(largest[i / 2], s[j][i]);
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
            for (int j = 0; j < 4; j++)
                a[j] = half2_bits(__floats2half2_rn(s[2 * i + j / 2][j % 2 * 2], s[2 * i + j / 2][j % 2 * 2 + 1]));
#pragma unroll
            for (int j = 0; j < DIM / 16; j++) {
                uint32_t b[4];
                load_transposed(b, values + tile_at<DIM>(16 * i + lane % 16, 2 * j + lane / 16));
                mma(out[2 * j], a, b[0], b[1]);
                mma(out[2 * j + 1], a, b[2], b[3]);
            }
        }
        __syncthreads();
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

#define MANY(name, DIM)                                                                                         \
    KERNEL(FE_CUDA_FLASH_ROWS * 2) attention_many_##name##_##DIM(const __grid_constant__ fe_cuda_attention p) { \
        begin();                                                                                                \
        attend_many<from_##name, DIM>(p);                                                                       \
    }
#define MANY_OF(name) MANY(name, 64) MANY(name, 128) MANY(name, 256)
MANY_OF(f32)
MANY_OF(f16)
MANY_OF(q8_0)
