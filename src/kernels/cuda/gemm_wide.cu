/* Products with many tokens on Hopper's warpgroups (compute capability 9.0 alone). Each of them takes 64 rows of the weights, times as
 * many tokens as a tile has. All comes to shared memory in the background: the weights' blocks as they are, in pieces of 256
 * elements, by the warp that wants them; the activations, in stages of 64, by a warp of their own. A warpgroup makes halves of the
 * weights of a stage, in registers, while the tensor cores multiply the stage before. They wait for activations, and not for each
 * other. */
#include "chunks.cuh"
#include "halves.cuh"
#include "warpgroups.cuh"

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900

enum {
    WARP_ROWS = FE_CUDA_WIDE_ROWS, /* of the weights that a warp has */
    PEAK_THREADS = FE_CUDA_WIDE_WARPS * FE_CUDA_WARP,
    STAGE_BYTES = FE_CUDA_STAGE * 2, /* of a token */
    MOST_STAGES = 8,
    MOST_PIECES = 3,
    FETCHER = 40, /* registers */
    MULTIPLIER = 232
};
extern __shared__ uchar memory[];

/* ---- A block's work ---- */

/* Pieces of weights: k is a whole number of them. */
template <typename T> struct piece_of {
    enum { ELEMENTS = FE_CUDA_WIDE_PIECE, BYTES = ELEMENTS / T::BLOCK * T::BYTES, ALIGN = T::ALIGN };
};
template <> struct piece_of<F16> {
    enum { ELEMENTS = FE_CUDA_STAGE, BYTES = ELEMENTS * F16::BYTES, ALIGN = 16 };
};
template <typename T, int TOKENS> struct plan {
    typedef piece_of<T> piece;
    enum {
        PIECE_BYTES = piece::BYTES,
        PITCH = fe_cuda_wide_pitch(PIECE_BYTES, piece::ALIGN),
        PIECES = fe_cuda_wide_pieces(PITCH), /* on their way or there */
        STAGES = fe_cuda_wide_stages(TOKENS),
        STAGES_OF_PIECE = piece::ELEMENTS / FE_CUDA_STAGE,
        GROUP = TOKENS <= FE_CUDA_WIDE_FEW ? STAGES_OF_PIECE : 1, /* stages that are waited for at once */
        TILE = TOKENS * STAGE_BYTES,
        LENT = TOKENS > FE_CUDA_WIDE_FEW /* the warpgroup that fetches gives registers to those that multiply */
    };
};

/* Of a group of stages, that it has come, and that it is done with: at its first stage's number. */
struct barriers {
    uint64_t come[MOST_STAGES], free[MOST_STAGES];
    uint64_t piece_come[MOST_PIECES], piece_free[MOST_PIECES];
};

/* Rows of the weights, a tile of tokens, and a part of k in pieces. */
struct work {
    const uchar *w[2]; /* of gate and up, where both are wanted: half the rows are of each, in turn 8 */
    uint64_t w_stride[2];
    uint32_t product, n, row;       /* row: the first of the weights */
    uint32_t warps, tile_rows;      /* warps that multiply, and the rows that they have */
    uint32_t first, rows;           /* the first token, and how many there are */
    uint32_t piece, pieces, stages; /* the first piece, and how many from there on */
    uchar *tiles, *raw;             /* in shared memory */
};

template <typename T, int TOKENS> INLINE bool find_work(const fe_cuda_matmul &p, work &w) {
    typedef plan<T, TOKENS> plan;
    w.first = blockIdx.x * TOKENS;
    w.rows = rows_of_c(p);
    if (w.first >= w.rows) return false;
    w.product = blockIdx.y < p.end[0] ? 0 : blockIdx.y < p.end[1] ? 1 : 2;
    w.n = p.n[w.product];
    w.warps = TOKENS > FE_CUDA_WIDE_FEW ? FE_CUDA_WIDE_WARPS : blockDim.x / FE_CUDA_WARP - 2;
    w.tile_rows = w.warps * WARP_ROWS;
    w.row = (blockIdx.y - (w.product ? p.end[w.product - 1] : 0)) * (p.glu ? w.tile_rows / 2 : w.tile_rows);
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t from = p.glu ? i : w.product;
        w.w_stride[i] = p.w_stride[from];
        w.w[i] = p.w[from] + (p.list ? blockIdx.z * p.w_slice : 0);
    }
    uint32_t all = p.k / plan::piece::ELEMENTS, split = p.list ? 0 : blockIdx.z;
    w.piece = all * split / p.splits;
    w.pieces = all * (split + 1) / p.splits - w.piece;
    w.stages = w.pieces * plan::STAGES_OF_PIECE;
    w.tiles = memory + (1024 - shared_at(memory) % 1024) % 1024;
    w.raw = w.tiles + plan::STAGES * plan::TILE;
    return true;
}

/* ---- The warp that fetches activations ---- */

template <typename T, int TOKENS> struct fetcher {
    typedef plan<T, TOKENS> plan;
    const fe_cuda_matmul &p;
    const work &w;
    barriers &b;
    const uint32_t *index; /* where each row of the tile lies in a, where there are lists */

    __device__ const uchar *stage_of(uint32_t i) const {
        return (const uchar *)p.a + (uint64_t)(w.piece * plan::STAGES_OF_PIECE + i) * p.a_rows * STAGE_BYTES;
    }
    __device__ uchar *tile(uint32_t i) const { return w.tiles + i % plan::STAGES * plan::TILE; }
    __device__ uint64_t *come(uint32_t i) const { return &b.come[i % plan::STAGES / plan::GROUP * plan::GROUP]; }

    /* The ring has room for the group that stage i begins, once the stage a ring before is done with. */
    __device__ void await_room(uint32_t i) const {
        if (i >= plan::STAGES) await_round(&b.free[i % plan::STAGES], i / plan::STAGES - 1);
    }

    /* Rows side by side come in one piece. */
    __device__ void ask_for_all() const {
        uint32_t bytes = min(p.a_rows - w.first, TOKENS) * STAGE_BYTES;
        for (uint32_t i = 0; i < w.stages; i += plan::GROUP) {
            await_room(i);
            arrive_expecting(come(i), bytes * plan::GROUP);
            for (uint32_t j = i; j < i + plan::GROUP; j++)
                copy_bulk(tile(j), stage_of(j) + w.first * STAGE_BYTES, bytes, come(i));
        }
    }

    /* Those of a list a chunk at a time. */
    __device__ void gather_stage(uint32_t i) const {
        uint32_t c = lane_index() % 8;
        for (uint32_t r = lane_index() / 8; r < min(w.rows - w.first, TOKENS); r += FE_CUDA_WARP / 8)
            copy_async(tile(i) + r * STAGE_BYTES + (c ^ r % 8) * 16,
                       stage_of(i) + index[r] * STAGE_BYTES + (c ^ index[r] % 8) * 16, true);
        copy_commit();
    }
    /* With the last stage of a group. */
    __device__ void hand_over(uint32_t i) const {
        publish();
        __syncwarp();
        if (lane_index() == 0 && i % plan::GROUP == plan::GROUP - 1) arrive(come(i));
    }
    /* Before it waits for room all is handed over that has been gathered: the room comes of that. */
    __device__ void gather_all() const {
        enum { LAG = 2 };
        uint32_t handed = 0;
        for (uint32_t i = 0; i < w.stages; i++) {
            if (i % plan::GROUP == 0) {
                if (plan::GROUP > 1) copy_wait<0>();
                while (plan::GROUP > 1 && handed < i) hand_over(handed++);
                await_room(i);
            }
            gather_stage(i);
            if (i - handed < LAG) continue;
            copy_wait<LAG>();
            hand_over(handed++);
        }
        copy_wait<0>();
        while (handed < w.stages) hand_over(handed++);
    }

    __device__ void run() const {
        await_others();
        if (p.list)
            gather_all();
        else if (lane_index() == 0)
            ask_for_all();
    }
};

/* ---- The warp that fetches weights ---- */

/* Arrives at the barrier once the thread's copies so far have come. */
INLINE void arrive_behind_copies(uint64_t *b) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_at(b)) : "memory");
}

/* How far behind a multiple of 16 a piece begins. */
template <typename T, int TOKENS> INLINE uint32_t past_16(uint32_t at) {
    return plan<T, TOKENS>::piece::ALIGN == 16 ? 0 : at % 16;
}

/* Row r of the block's, the last one in place of those past the end. */
template <typename T, int TOKENS> INLINE const uchar *row_at(const fe_cuda_matmul &p, const work &w, uint32_t r) {
    bool second = r / 8 % 2;
    uint32_t row = w.row + (p.glu ? r / 16 * 8 + r % 8 : r);
    return (second ? w.w[1] : w.w[0]) + min(row, w.n - 1) * (second ? w.w_stride[1] : w.w_stride[0]) +
           w.piece * plan<T, TOKENS>::PIECE_BYTES;
}

/* Two lanes have a row of each warp that multiplies come, an eighth word each. A word of 16 bytes that holds any of a piece's comes
 * whole. */
template <typename T, int TOKENS> INLINE void fetch_weights(const fe_cuda_matmul &p, const work &w, barriers &b) {
    typedef plan<T, TOKENS> plan;
    enum { WORDS = (plan::PIECE_BYTES + (plan::piece::ALIGN < 16 ? 16 - plan::piece::ALIGN : 0) + 15) / 16 };
    uint32_t within = lane_index() / 2, at = lane_index() % 2 * 16;
    for (uint32_t i = 0; i < w.pieces; i++) {
        uint32_t slot = i % plan::PIECES;
        if (i >= plan::PIECES) await_round(&b.piece_free[slot], i / plan::PIECES - 1);
        uchar *to = w.raw + (slot * WARP_ROWS + within) * plan::PITCH + at;
#pragma unroll 2
        for (uint32_t warp = 0; warp < w.warps; warp++, to += plan::PIECES * WARP_ROWS * plan::PITCH) {
            const uchar *from = row_at<T, TOKENS>(p, w, warp * WARP_ROWS + within) + i * plan::PIECE_BYTES;
            uint32_t past = past_16<T, TOKENS>((uint32_t)(uintptr_t)from), end = past + plan::PIECE_BYTES;
            from = from - past + at;
#pragma unroll
            for (uint32_t j = 0; j < WORDS * 16; j += 32)
                if (at + j < end) copy_ahead(to + j, from + j);
        }
        arrive_behind_copies(&b.piece_come[slot]);
    }
}

/* ---- The warps that multiply ---- */

template <typename T, int TOKENS> struct multiplier {
    typedef plan<T, TOKENS> plan;
    enum { RUNS = plan::STAGES_OF_PIECE, SLOT = WARP_ROWS * plan::PITCH };
    const work &w;
    barriers &b;
    uint32_t upper, lower;   /* the rows that the lane has weights of, 8 apart: the low bits of where their next piece is */
    const uchar *raw;        /* where the first one's is in the first slot of the ring */
    uint32_t slot, round;    /* of the next piece: its slot, and how often the ring has been gone round */
    uint32_t tiles;          /* of the activations: the same in all lanes, and known to be */
    chunk<T> u, v;           /* what the lane has of both */

    __device__ __forceinline__ multiplier(const fe_cuda_matmul &p, const work &w, barriers &b)
        : w(w), b(b), slot(0), round(0), u(lane_index() % 4, EXPONENTS + (p.k >> 31)), v(u) {
        uint32_t row = warp_index() * WARP_ROWS, lane = lane_index();
        upper = (uint32_t)(uintptr_t)row_at<T, TOKENS>(p, w, row + lane / 4);
        lower = (uint32_t)(uintptr_t)row_at<T, TOKENS>(p, w, row + lane / 4 + 8);
        raw = w.raw + (row * plan::PIECES + lane / 4) * plan::PITCH;
        tiles = __shfl_sync(ALL_LANES, shared_at(w.tiles), 0);
    }

    /* Waits for a piece; what the lane has of two rows of it. */
    __device__ __forceinline__ void fetch() {
        const uchar *rows = raw + slot * SLOT;
        await_round(&b.piece_come[slot], round);
        u.fetch(rows + past_16<T, TOKENS>(upper));
        v.fetch(rows + 8 * plan::PITCH + past_16<T, TOKENS>(lower));
        upper += plan::PIECE_BYTES;
        lower += plan::PIECE_BYTES;
    }
    /* Each lane has done with it. */
    __device__ __forceinline__ void leave_piece() {
        arrive(&b.piece_free[slot]);
        if (++slot == plan::PIECES) slot = 0, round++;
    }

    /* The left factors of a stage: of two rows 16 elements, as the tensor cores' four steps take them. */
    __device__ __forceinline__ void prepare(uint32_t run, uint32_t (&a)[16]) const {
        uint32_t x[8], y[8];
        u.run(run, x);
        v.run(run, y);
#pragma unroll
        for (int j = 0; j < 4; j++)
            a[4 * j] = x[2 * j], a[4 * j + 1] = y[2 * j], a[4 * j + 2] = x[2 * j + 1], a[4 * j + 3] = y[2 * j + 1];
    }

    __device__ __forceinline__ void begin_stage(uint32_t slot, const uint32_t (&a)[16],
                                                float (&sum)[TOKENS / 2]) const {
        uint64_t tile = descriptor(tiles + slot * plan::TILE);
        multiply_begin();
#pragma unroll
        for (int j = 0; j < 4; j++) multiply(sum, a + 4 * j, tile + 2 * j);
        multiply_commit();
    }

    /* While a stage is multiplied the factors of the next one are made, as soon as the stage before is done with its own: it is the run
     * `next` of a piece, a new one with run 0. The other warpgroups fill the pauses. */
    __device__ __forceinline__ void prepare_next(uint32_t next, bool last, uint32_t (&a)[16]) {
        if (next == 0) {
            leave_piece();
            if (last) return;
            fetch();
        }
        prepare(next, a);
    }

    __device__ __forceinline__ void run(float (&sum)[TOKENS / 2]) {
        enum { AT_ONCE = RUNS > 2 ? RUNS : 2 };
        uint32_t a[2][16], before = 0;
        bool leader = lane_index() == 0;
        fetch();
        prepare(0, a[0]);
#pragma unroll 1
        for (uint32_t i = 0; i < w.stages; i += AT_ONCE) {
            uint32_t first = __shfl_sync(ALL_LANES, i % plan::STAGES, 0), rounds = i / plan::STAGES;
#pragma unroll
            for (uint32_t j = 0; j < AT_ONCE; j++) {
                if (RUNS != AT_ONCE && i + j >= w.stages) break;
                if (j % plan::GROUP == 0) await_round(&b.come[first + j], rounds);
                begin_stage(first + j, a[j % 2], sum);
                multiply_wait<1>();
                if (j % plan::GROUP == 0) {
                    if (i + j && leader) arrive(&b.free[before]);
                    before = first + j;
                }
                prepare_next((j + 1) % RUNS, i + j + 1 == w.stages, a[(j + 1) % 2]);
            }
        }
        multiply_wait<0>();
    }
};

/* ---- Results ---- */

/* Where four rows of a token's sums lie in shared memory, from a multiple of four on: turned about, since threads side by side have
 * those of tokens 2 apart. */
INLINE uint32_t sums_at(const work &w, uint32_t column, uint32_t row) {
    return column * w.tile_rows + (row ^ column / 2 % 4 * 8);
}

/* Four rows of a token's results: of `x`, or gated, x being of the gate and y of up. */
INLINE void store(const fe_cuda_matmul &p, const work &w, uint32_t column, uint32_t row, float4 x, float4 y) {
    uint32_t to = row_of_c(p, w.first + column), left = w.n - min(w.row + row, w.n);
    float scale = p.scales[packed_row(p, to)];
    float *c = p.c[w.product] + (uint64_t)to * p.c_stride[w.product] + w.row + row;
    x = x * scale;
    if (p.glu) {
        y = y * scale;
        x = make_float4(gated(p.glu, x.x, y.x), gated(p.glu, x.y, y.y), gated(p.glu, x.z, y.z), gated(p.glu, x.w, y.w));
    }
    if (left >= 4 && (uintptr_t)c % 16 == 0) {
        *(float4 *)c = x;
        return;
    }
    if (left > 0) c[0] = x.x;
    if (left > 1) c[1] = x.y;
    if (left > 2) c[2] = x.z;
    if (left > 3) c[3] = x.w;
}

INLINE void cluster_sync() {
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
/* The same before a block ends, whose sums others may still read: nothing was written that they want to see. */
INLINE void cluster_leave() {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
INLINE float4 load_of_block(const float *p, uint32_t block) {
    float4 x;
    asm volatile("{\n"
                 ".reg .u32 at;\n"
                 "mapa.shared::cluster.u32 at, %4, %5;\n"
                 "ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [at];\n"
                 "}"
                 : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                 : "r"(shared_at(p)), "r"(block)
                 : "memory");
    return x;
}

/* What a thread has, at once: where there are few tokens it is not much, and c may be the host's. */
template <int TOKENS> INLINE void store_own(const fe_cuda_matmul &p, const work &w, const float (&sum)[TOKENS / 2]) {
    uint32_t row = w.row + warp_index() * WARP_ROWS + lane_index() / 4;
#pragma unroll
    for (int i = 0; i < TOKENS / 2; i += 2) {
        uint32_t at = row + (i & 2) * 4;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            uint32_t column = w.first + i / 4 * 8 + 2 * (lane_index() % 4) + j;
            if (at >= w.n || column >= w.rows) continue;
            uint32_t to = row_of_c(p, column);
            p.c[w.product][(uint64_t)to * p.c_stride[w.product] + at] = sum[i + j] * p.scales[packed_row(p, to)];
        }
    }
}

/* Four rows of a token's sums: those of all blocks of the cluster, which have a part of k each. */
INLINE float4 load_sums(const fe_cuda_matmul &p, const float *sums) {
    float4 x = {}, y[FE_CUDA_WIDE_SPLITS] = {};
    if (p.splits == 1) return *(const float4 *)sums;
#pragma unroll
    for (uint32_t j = 0; j < FE_CUDA_WIDE_SPLITS; j++)
        if (j < p.splits) y[j] = load_of_block(sums, j);
#pragma unroll
    for (uint32_t j = 0; j < FE_CUDA_WIDE_SPLITS; j++) x = x + y[j];
    return x;
}

/* Results out of the sums of a tile, by some of its threads: number `first` and those `step` further. */
INLINE void store_sums(const fe_cuda_matmul &p, const work &w, const float *sums, uint32_t tokens, uint32_t first,
                       uint32_t step) {
    uint32_t quads = (p.glu ? w.tile_rows / 2 : w.tile_rows) / 4;
    for (uint32_t i = first; i < tokens * quads; i += step) {
        uint32_t column = i / quads, row = i % quads * 4, at = p.glu ? row / 8 * 16 + row % 8 : row;
        float4 x = load_sums(p, sums + sums_at(w, column, at)), y = {};
        if (p.glu) y = load_sums(p, sums + sums_at(w, column, at + 8));
        store(p, w, column, row, x, y);
    }
}

INLINE void wait_for_multipliers(const work &w) {
    asm volatile("bar.sync 1, %0;" ::"r"(w.warps * FE_CUDA_WARP) : "memory");
}

/* TOKENS tokens (x) times rows of the weights (y), of expert or part of k z: blocks side by side have their weights in
 * common. */
template <typename T, int TOKENS>
static __device__ __forceinline__ void gemm_wide(const fe_cuda_matmul &p, uint32_t *index) {
    typedef plan<T, TOKENS> plan;
    __shared__ barriers b;
    work w;
    let_next_begin();
    if (p.list) await_others();
    if (!find_work<T, TOKENS>(p, w)) return; /* so does its whole cluster */
    if (threadIdx.x == 0) {
        for (int i = 0; i < plan::STAGES; i++) barrier_init(&b.come[i], 1), barrier_init(&b.free[i], w.warps);
        for (int i = 0; i < plan::PIECES; i++)
            barrier_init(&b.piece_come[i], FE_CUDA_WARP), barrier_init(&b.piece_free[i], w.warps * FE_CUDA_WARP);
        publish();
    }
    uint32_t tokens = min(w.rows - w.first, TOKENS);
    for (uint32_t r = threadIdx.x; p.list && r < tokens; r += blockDim.x)
        index[r] = packed_row(p, row_of_c(p, w.first + r));
    __syncthreads();
    float *sums = (float *)w.tiles;
    if (warp_index() >= w.warps) {
        if constexpr (plan::LENT) give_registers<FETCHER>();
        if (warp_index() == w.warps) fetcher<T, TOKENS>{p, w, b, index}.run();
        if (warp_index() == w.warps + 1) fetch_weights<T, TOKENS>(p, w, b);
    } else {
        if constexpr (plan::LENT) take_registers<MULTIPLIER>();
        float sum[TOKENS / 2] = {};
        multiplier<T, TOKENS>(p, w, b).run(sum);
        await_others();
        if (!plan::LENT && p.splits == 1 && !p.glu) {
            store_own<TOKENS>(p, w, sum);
            return;
        }
        wait_for_multipliers(w); /* the tiles are done with */
#pragma unroll
        for (int i = 0; i < TOKENS / 2; i++)
            sums[sums_at(w, i / 4 * 8 + 2 * (lane_index() % 4) + (i & 1),
                         warp_index() * WARP_ROWS + lane_index() / 4 + (i & 2) * 4)] = sum[i];
        wait_for_multipliers(w);
        if (p.splits == 1) store_sums(p, w, sums, tokens, threadIdx.x, w.warps * FE_CUDA_WARP);
    }
    if (plan::LENT || p.splits == 1) return;
    __syncwarp();
    cluster_sync();
    store_sums(p, w, sums, tokens, blockIdx.z * blockDim.x + threadIdx.x, p.splits * blockDim.x);
    cluster_leave();
}

#define GEMM_WIDE_OF(name, T, TOKENS)                                       \
    KERNEL2(fe_cuda_wide_threads(TOKENS), 1)                                \
    gemm_wide_##name##_##TOKENS(const __grid_constant__ fe_cuda_matmul p) { \
        __shared__ uint32_t index[TOKENS];                                  \
        gemm_wide<T, TOKENS>(p, index);                                     \
    }
#define GEMM_WIDE(name, T)    \
    GEMM_WIDE_OF(name, T, 16) \
    GEMM_WIDE_OF(name, T, 32) \
    GEMM_WIDE_OF(name, T, 64) GEMM_WIDE_OF(name, T, 128) GEMM_WIDE_OF(name, T, 256)
GEMM_WIDE(f16, F16)
FOR_EACH_QUANT(GEMM_WIDE)

/* What the warpgroups give by themselves: one tile, again and again. */
KERNEL(PEAK_THREADS) peak_wide(const __grid_constant__ fe_cuda_peak p) {
    begin();
    uchar *tile = memory + (1024 - shared_at(memory) % 1024) % 1024;
    float sum[128] = {}, total = 0.0f;
    uint32_t a[16];
    for (uint32_t i = threadIdx.x; i < 256 * STAGE_BYTES / 4; i += PEAK_THREADS)
        ((uint32_t *)tile)[i] = 0x3C003800u ^ (i * 2654435761u >> 3 & 0x83FF83FFu);
    for (int i = 0; i < 16; i++) a[i] = 0x3C003800u ^ (threadIdx.x * 2654435761u >> i & 0x83FF83FFu);
    publish();
    __syncthreads();
    uint64_t b = descriptor(shared_at(tile));
    for (uint32_t round = 0; round < p.rounds; round++) {
        multiply_begin();
#pragma unroll
        for (int i = 0; i < 4; i++) multiply(sum, a + 4 * i, b + 2 * i);
        multiply_commit();
        multiply_wait<0>();
    }
#pragma unroll
    for (int i = 0; i < 128; i++) total += sum[i];
    p.out[blockIdx.x * PEAK_THREADS + threadIdx.x] = total;
}

#endif
