/* Products with many tokens on Hopper's warpgroups (compute capability 9.0 alone). Two warpgroups take 64 rows of the weights
 * each, times as many tokens as a tile has. All comes to shared memory in the background: the weights' blocks as they are, in pieces
 * of 256 elements, by the warp that wants them; the activations, in stages of 64, by a warp of their own. A warpgroup makes halves of
 * the weights of a stage, in registers, while the tensor cores multiply the stage before. The two wait for activations, and not for
 * each other. */
#include "halves.cuh"

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900

enum {
    ROWS = FE_CUDA_WIDE_ROWS,
    CONSUMERS = FE_CUDA_WIDE_WARPS,
    PEAK_THREADS = CONSUMERS * FE_CUDA_WARP,
    STAGE_BYTES = FE_CUDA_STAGE * 2, /* of a token */
    MOST_STAGES = 8,
    WARP_ROWS = ROWS / FE_CUDA_WIDE_WARPS,
    FETCHER = 40, /* registers */
    MULTIPLIER = 232
};
extern __shared__ uchar memory[];

/* ---- Warpgroups ---- */

/* A tile of tokens, rows of 128 bytes; their chunks of 16 stand turned about by the row, as the 128-byte swizzle has it. */
INLINE uint64_t descriptor(const void *tile) {
    uint64_t at = (uint64_t)__cvta_generic_to_shared(tile);
    return (at & 0x3FFFF) >> 4 | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

#define TEN(t)    "%" #t "0,%" #t "1,%" #t "2,%" #t "3,%" #t "4,%" #t "5,%" #t "6,%" #t "7,%" #t "8,%" #t "9,"
#define SUM_4(i)  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SUM_8(i)  SUM_4(i), SUM_4(i + 4)
#define SUM_16(i) SUM_8(i), SUM_8(i + 8)
#define SUM_32(i) SUM_16(i), SUM_16(i + 16)
#define SUM_64(i) SUM_32(i), SUM_32(i + 32)
#define LEFT      "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
#define WGMMA(n)  "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.f16.f16 {"
#define PLUS      ", 1, 1, 1, 0;"

/* d += a · b, 64 × 16 and 16 × TOKENS halves. */
INLINE void multiply(float (&d)[8], const uint32_t *a, uint64_t b) {
    asm volatile(WGMMA(16) "%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9,%10,%11}, %12" PLUS : SUM_8(0) : LEFT, "l"(b));
}
INLINE void multiply(float (&d)[16], const uint32_t *a, uint64_t b) {
    asm volatile(WGMMA(32) TEN() "%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19}, %20" PLUS : SUM_16(0) : LEFT, "l"(b));
}
INLINE void multiply(float (&d)[32], const uint32_t *a, uint64_t b) {
    asm volatile(WGMMA(64) TEN() TEN(1) TEN(2) "%30,%31}, {%32,%33,%34,%35}, %36" PLUS : SUM_32(0) : LEFT, "l"(b));
}
INLINE void multiply(float (&d)[64], const uint32_t *a, uint64_t b) {
    asm volatile(WGMMA(128) TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) "%60,%61,%62,%63}, {%64,%65,%66,%67}, %68" PLUS
                 : SUM_64(0)
                 : LEFT, "l"(b));
}
INLINE void multiply(float (&d)[128], const uint32_t *a, uint64_t b) {
    asm volatile(WGMMA(256) TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9) TEN(10)
                     TEN(11) "%120,%121,%122,%123,%124,%125,%126,%127}, {%128,%129,%130,%131}, %132" PLUS
                 : SUM_64(0), SUM_64(64)
                 : LEFT, "l"(b));
}
INLINE void multiply_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
INLINE void multiply_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
INLINE void multiply_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

/* What ordinary copies wrote becomes visible to the tensor cores. */
INLINE void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/* ---- Barriers, and copies that arrive at them ---- */

INLINE uint32_t shared_at(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }
INLINE void barrier_init(uint64_t *b, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_at(b)), "r"(arrivals) : "memory");
}
INLINE void arrive(uint64_t *b) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_at(b)) : "memory");
}
/* Arrives, and has the barrier wait for so many bytes more. */
INLINE void arrive_expecting(uint64_t *b, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_at(b)), "r"(bytes) : "memory");
}
/* Until the barrier's round number `round` (modulo 2) has ended. */
INLINE void await_round(uint64_t *b, uint32_t round) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(shared_at(b)),
                 "r"(round & 1)
                 : "memory");
}
/* All multiples of 16 bytes. */
INLINE void copy_bulk(void *to, const void *from, uint32_t bytes, uint64_t *b) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_at(to)),
        "l"(from), "r"(bytes), "r"(shared_at(b))
        : "memory");
}

/* Registers of a thread, from here on, where a warpgroup gives some of its own and others take them. */
template <int COUNT> INLINE void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT> INLINE void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }

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
        TILE = TOKENS * STAGE_BYTES,
        THREADS = fe_cuda_wide_threads(TOKENS),
        LENT = TOKENS > FE_CUDA_WIDE_FEW /* the warpgroup that fetches gives registers to those that multiply */
    };
};

struct barriers {
    uint64_t stage[MOST_STAGES], stage_free[MOST_STAGES];
};

/* 128 rows of the weights, a tile of tokens, and a part of k in pieces. */
struct work {
    const uchar *w[2]; /* of gate and up, where both are wanted: 64 rows of each, in turn 8 */
    uint64_t w_stride[2];
    uint32_t product, n, row;       /* row: the first of the weights */
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
    w.row = (blockIdx.y - (w.product ? p.end[w.product - 1] : 0)) * (p.glu ? ROWS / 2 : ROWS);
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

    /* Rows side by side come in one piece. */
    __device__ void ask_for_stage(uint32_t i) const {
        uint32_t bytes = min(p.a_rows - w.first, TOKENS) * STAGE_BYTES;
        if (lane_index()) return;
        arrive_expecting(&b.stage[i % plan::STAGES], bytes);
        copy_bulk(tile(i), stage_of(i) + w.first * STAGE_BYTES, bytes, &b.stage[i % plan::STAGES]);
    }

    /* Those of a list a chunk at a time. */
    __device__ void gather_stage(uint32_t i) const {
        uint32_t c = lane_index() % 8;
        for (uint32_t r = lane_index() / 8; r < min(w.rows - w.first, TOKENS); r += FE_CUDA_WARP / 8)
            copy_async(tile(i) + r * STAGE_BYTES + (c ^ r % 8) * 16,
                       stage_of(i) + index[r] * STAGE_BYTES + (c ^ index[r] % 8) * 16, true);
        copy_commit();
    }
    __device__ void hand_over(uint32_t i) const {
        publish();
        __syncwarp();
        if (lane_index() == 0) arrive(&b.stage[i % plan::STAGES]);
    }

    __device__ void run() const {
        enum { LAG = 2 };
        await_others();
        for (uint32_t i = 0; i < w.stages; i++) {
            if (i >= plan::STAGES) await_round(&b.stage_free[i % plan::STAGES], i / plan::STAGES - 1);
            if (!p.list) {
                ask_for_stage(i);
                continue;
            }
            gather_stage(i);
            if (i < LAG) continue;
            copy_wait<LAG>();
            hand_over(i - LAG);
        }
        copy_wait<0>();
        for (uint32_t i = w.stages > LAG ? w.stages - LAG : 0; p.list && i < w.stages; i++) hand_over(i);
    }
};

/* ---- The warps that multiply ---- */

template <typename T, int TOKENS> struct multiplier {
    typedef plan<T, TOKENS> plan;
    const work &w;
    barriers &b;
    uchar *raw;            /* PIECES pieces of the warp's rows */
    const uchar *to_ask;   /* the row that two lanes have come, an eighth word each */
    uint32_t upper, lower; /* the rows that the lane has weights of, 8 apart: the low bits of where they are */

    __device__ __forceinline__ multiplier(const fe_cuda_matmul &p, const work &w, barriers &b) : w(w), b(b) {
        uint32_t row = warp_index() * WARP_ROWS, lane = lane_index();
        raw = w.raw + row * plan::PIECES * plan::PITCH;
        to_ask = row_at(p, row + lane / 2);
        upper = (uint32_t)(uintptr_t)row_at(p, row + lane / 4);
        lower = (uint32_t)(uintptr_t)row_at(p, row + lane / 4 + 8);
    }
    /* A row of the weights, the last one in place of those past the end. */
    __device__ __forceinline__ const uchar *row_at(const fe_cuda_matmul &p, uint32_t r) const {
        bool second = r / 8 % 2;
        uint32_t row = w.row + (p.glu ? r / 16 * 8 + r % 8 : r);
        return (second ? w.w[1] : w.w[0]) + min(row, w.n - 1) * (second ? w.w_stride[1] : w.w_stride[0]) +
               w.piece * plan::PIECE_BYTES;
    }
    /* How far behind a multiple of 16 a row's piece begins. */
    static __device__ __forceinline__ uint32_t past_16(uint32_t row, uint32_t piece) {
        return plan::piece::ALIGN == 16 ? 0 : (row + piece * plan::PIECE_BYTES) % 16;
    }

    /* A word of 16 bytes that holds any of a piece's comes whole. */
    __device__ __forceinline__ void ask_for_piece(uint32_t i) const {
        enum { WORDS = (plan::PIECE_BYTES + (plan::piece::ALIGN < 16 ? 16 - plan::piece::ALIGN : 0) + 15) / 16 };
        if (i < w.pieces) {
            uint32_t past = past_16((uint32_t)(uintptr_t)to_ask, i), at = lane_index() % 2 * 16;
            uint32_t end = past + plan::PIECE_BYTES;
            const uchar *from = to_ask + i * plan::PIECE_BYTES - past + at;
            uchar *to = raw + (i % plan::PIECES * WARP_ROWS + lane_index() / 2) * plan::PITCH + at;
#pragma unroll
            for (uint32_t j = 0; j < WORDS * 16; j += 32)
                if (at + j < end) copy_ahead(to + j, from + j);
        }
        copy_commit();
    }

    /* The left factors of stage i: of two rows 16 elements, as the tensor cores' four steps take them. */
    __device__ __forceinline__ void prepare(uint32_t i, uint32_t (&a)[16]) const {
        uint32_t piece = i / plan::STAGES_OF_PIECE, within = i % plan::STAGES_OF_PIECE, g = lane_index() / 4;
        if (within == 0) {
            copy_wait<plan::PIECES - 1>();
            __syncwarp();
        }
        const uchar *rows = raw + (piece % plan::PIECES * WARP_ROWS + g) * plan::PITCH;
        uint32_t u[8], v[8], c = lane_index() % 4 * plan::STAGES_OF_PIECE + within;
        halves16<T>(rows + past_16(upper, piece), c, u);
        halves16<T>(rows + 8 * plan::PITCH + past_16(lower, piece), c, v);
#pragma unroll
        for (int j = 0; j < 4; j++)
            a[4 * j] = u[2 * j], a[4 * j + 1] = v[2 * j], a[4 * j + 2] = u[2 * j + 1], a[4 * j + 3] = v[2 * j + 1];
        if (within + 1 == plan::STAGES_OF_PIECE) {
            __syncwarp();
            ask_for_piece(piece + plan::PIECES);
        }
    }

    __device__ __forceinline__ void begin_stage(uint32_t i, const uint32_t (&a)[16], float (&sum)[TOKENS / 2]) const {
        uint32_t slot = i % plan::STAGES;
        await_round(&b.stage[slot], i / plan::STAGES);
        uint64_t tile = descriptor(w.tiles + slot * plan::TILE);
        multiply_begin();
#pragma unroll
        for (int j = 0; j < 4; j++) multiply(sum, a + 4 * j, tile + 2 * j);
        multiply_commit();
    }

    /* While stage i is multiplied the one behind it is prepared. The other warpgroup fills the pause between two stages. */
    __device__ __forceinline__ void do_stage(uint32_t i, const uint32_t (&a)[16], uint32_t (&next)[16],
                                             float (&sum)[TOKENS / 2]) const {
        begin_stage(i, a, sum);
        if (i + 1 < w.stages) prepare(i + 1, next);
        multiply_wait();
        if (lane_index() == 0) arrive(&b.stage_free[i % plan::STAGES]);
    }

    /* The first pieces are asked for before the kernels in front have ended: weights are there. */
    __device__ __forceinline__ void run(float (&sum)[TOKENS / 2]) const {
        uint32_t a[16], next[16];
#pragma unroll 1
        for (uint32_t i = 0; i < plan::PIECES; i++) ask_for_piece(i);
        prepare(0, a);
#pragma unroll 1
        for (uint32_t i = 0; i < w.stages; i += 2) {
            do_stage(i, a, next, sum);
            if (i + 1 < w.stages) do_stage(i + 1, next, a, sum);
        }
    }
};

/* ---- Results ---- */

/* Where four rows of a token's sums lie in shared memory, from a multiple of four on: turned about, since threads side by side have
 * those of tokens 2 apart. */
INLINE uint32_t sums_at(uint32_t column, uint32_t row) { return column * ROWS + (row ^ column / 2 % 4 * 8); }

INLINE float4 times(float4 x, float y) { return make_float4(x.x * y, x.y * y, x.z * y, x.w * y); }

/* Four rows of a token's results: of `x`, or gated, x being of the gate and y of up. */
INLINE void store(const fe_cuda_matmul &p, const work &w, uint32_t column, uint32_t row, float4 x, float4 y) {
    uint32_t to = row_of_c(p, w.first + column), left = w.n - min(w.row + row, w.n);
    float scale = p.scales[packed_row(p, to)];
    float *c = p.c[w.product] + (uint64_t)to * p.c_stride[w.product] + w.row + row;
    x = times(x, scale);
    if (p.glu) {
        y = times(y, scale);
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
    for (uint32_t j = 0; j < FE_CUDA_WIDE_SPLITS; j++)
        x = make_float4(x.x + y[j].x, x.y + y[j].y, x.z + y[j].z, x.w + y[j].w);
    return x;
}

/* Results out of the sums of a tile, by some of its threads: number `first` and those `step` further. */
INLINE void store_sums(const fe_cuda_matmul &p, const work &w, const float *sums, uint32_t tokens, uint32_t first,
                       uint32_t step) {
    uint32_t quads = (p.glu ? ROWS / 2 : ROWS) / 4;
    for (uint32_t i = first; i < tokens * quads; i += step) {
        uint32_t column = i / quads, row = i % quads * 4, at = p.glu ? row / 8 * 16 + row % 8 : row;
        float4 x = load_sums(p, sums + sums_at(column, at)), y = {};
        if (p.glu) y = load_sums(p, sums + sums_at(column, at + 8));
        store(p, w, column, row, x, y);
    }
}

INLINE void wait_for_multipliers() { asm volatile("bar.sync 1, %0;" ::"n"(CONSUMERS * FE_CUDA_WARP) : "memory"); }

/* TOKENS tokens (x) times 128 rows of the weights (y), of expert or part of k z: blocks side by side have their weights in
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
        for (int i = 0; i < plan::STAGES; i++) barrier_init(&b.stage[i], 1), barrier_init(&b.stage_free[i], CONSUMERS);
        publish();
    }
    uint32_t tokens = min(w.rows - w.first, TOKENS);
    for (uint32_t r = threadIdx.x; p.list && r < tokens; r += plan::THREADS)
        index[r] = packed_row(p, row_of_c(p, w.first + r));
    __syncthreads();
    float *sums = (float *)w.tiles;
    if (warp_index() >= CONSUMERS) {
        if constexpr (plan::LENT) give_registers<FETCHER>();
        if (warp_index() == CONSUMERS) fetcher<T, TOKENS>{p, w, b, index}.run();
    } else {
        if constexpr (plan::LENT) take_registers<MULTIPLIER>();
        float sum[TOKENS / 2] = {};
        multiplier<T, TOKENS>(p, w, b).run(sum);
        await_others();
        if (!plan::LENT && p.splits == 1 && !p.glu) {
            store_own<TOKENS>(p, w, sum);
            return;
        }
        wait_for_multipliers(); /* the tiles are done with */
#pragma unroll
        for (int i = 0; i < TOKENS / 2; i++)
            sums[sums_at(i / 4 * 8 + 2 * (lane_index() % 4) + (i & 1),
                         warp_index() * WARP_ROWS + lane_index() / 4 + (i & 2) * 4)] = sum[i];
        wait_for_multipliers();
        if (p.splits == 1) store_sums(p, w, sums, tokens, threadIdx.x, CONSUMERS * FE_CUDA_WARP);
    }
    if (plan::LENT || p.splits == 1) return;
    __syncwarp();
    cluster_sync();
    store_sums(p, w, sums, tokens, blockIdx.z * plan::THREADS + threadIdx.x, p.splits * plan::THREADS);
    cluster_leave();
}

#define GEMM_WIDE_OF(name, T, TOKENS, BLOCKS)                               \
    KERNEL2(fe_cuda_wide_threads(TOKENS), BLOCKS)                           \
    gemm_wide_##name##_##TOKENS(const __grid_constant__ fe_cuda_matmul p) { \
        __shared__ uint32_t index[TOKENS];                                  \
        gemm_wide<T, TOKENS>(p, index);                                     \
    }
#define GEMM_WIDE(name, T)       \
    GEMM_WIDE_OF(name, T, 16, 2) \
    GEMM_WIDE_OF(name, T, 32, 2) \
    GEMM_WIDE_OF(name, T, 64, 2) GEMM_WIDE_OF(name, T, 128, 1) GEMM_WIDE_OF(name, T, 256, 1)
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
    p.out[blockIdx.x * PEAK_THREADS + threadIdx.x] = total;
}

#endif
