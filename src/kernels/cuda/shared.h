/* The kernels' parameters, read by the host's C and by the kernels alike: each kernel takes one struct by value. Strides of F32
 * data are in elements, those of weights in bytes. */
#ifndef FE_CUDA_SHARED_H
#define FE_CUDA_SHARED_H

#include <stdint.h>

#ifdef __CUDACC__
#define FE_CUDA_POINTER(type) type *
#define FE_CUDA_BOTH          static constexpr __host__ __device__
#else
#define FE_CUDA_POINTER(type) uint64_t
#define FE_CUDA_BOTH          static inline
#endif

enum {
    FE_CUDA_WARP = 32,
    FE_CUDA_PRODUCTS = 3,     /* that share their activations */
    FE_CUDA_WIDE = 256,       /* threads of a block that takes elements */
    FE_CUDA_NORM = 1024,      /* most threads of a block that takes a row */
    FE_CUDA_NORM_EACH = 16,   /* most elements that one of them keeps */
    FE_CUDA_CHUNK = 16,       /* activations that share a scale in the GEMV */
    FE_CUDA_GEMV_WARPS = 4,   /* most warps of a block of the GEMV, which share a row's k */
    FE_CUDA_GEMV_ROWS = 4,    /* rows of the weights that a block of the GEMV takes with one token */
    FE_CUDA_GEMV_FEW = 2,     /* and with 2 to 4 */
    FE_CUDA_GEMV_TOKENS = 4,  /* most tokens of the GEMV */
    FE_CUDA_TILE_WARPS = 8,   /* warps of a block of the tensor cores' product, which share k */
    FE_CUDA_WIDE_ROWS = 16,   /* rows of the weights that a warp of the warpgroups' product takes */
    FE_CUDA_WIDE_WARPS = 8,   /* of a block that multiply there, where there are many tokens; one more fetches */
    FE_CUDA_WIDE_MOST = 16,   /* where there are few, so many at most */
    FE_CUDA_STAGE = 64,       /* elements of k in one stage of it */
    FE_CUDA_WIDE_PIECE = 256, /* and in a piece of its weights, where blocks are; of halves a stage's */
    FE_CUDA_WIDE_FEW = 64,    /* most tokens of a tile that are few */
    FE_CUDA_WIDE_SPLITS = 8,  /* most blocks that share k */
    FE_CUDA_PAGE = 64,        /* rows of a page of a cache */
    FE_CUDA_GROUP = 4,        /* heads of one KV head that a block of the attention for few rows takes */
    FE_CUDA_SPLIT_WARPS = 8,
    FE_CUDA_SPLITS = 64,      /* most parts that a row's positions are split into */
    FE_CUDA_CLUSTER = 8,      /* so many of them at most are a cluster's */
    FE_CUDA_FLASH_ROWS = 64,  /* queries that a block of the attention for many rows takes, or each of its warpgroups */
    FE_CUDA_FLASH_KEYS = 64,  /* and keys at once */
    FE_CUDA_FLASH_GROUPS = 2, /* warpgroups that multiply; one more fetches */
    FE_CUDA_FLASH_TILES = 8,  /* tiles of keys and of values that these have room for */
    FE_CUDA_HEADS = 8,        /* heads that a block finishes */
    FE_CUDA_HEAD = 256,       /* the largest head dimension */
    FE_CUDA_TOP = 64,         /* the largest of a row that are found, */
    FE_CUDA_TOP_EACH = 64,    /* by threads of which one looks through so many elements at most, */
    FE_CUDA_TOP_PARTS = 32,   /* in so many parts at most */
    FE_CUDA_TOP_PART = 8192,  /* of so many elements at least */
    FE_CUDA_TOKEN_WARPS = 12, /* warps of a block of one token's products */
    FE_CUDA_TOKEN_EACH = 8,   /* times four activations that one of its threads has at once */
    FE_CUDA_TOKEN_NORMED = 6, /* and where it makes the norm of all */
    FE_CUDA_TOKEN_STAGES = 3,
    FE_CUDA_TOKEN_PIECE = 2048, /* elements of a row in a stage */
    FE_CUDA_TOKEN_LANE = 64,    /* of them a lane's */
    FE_CUDA_TOKEN_GROUP = 512,  /* activations that are turned about together, */
    FE_CUDA_TOKEN_SCALED = 128, /* and that share a scale */
    FE_CUDA_TOKEN_PAIRS = 1024, /* most pairs of rows of a block */
};

/* Types with blocks, as kernels that take any of them are told. */
#define FE_CUDA_QUANTS(X)  X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K)
#define FE_CUDA_TYPE(name) FE_CUDA_TYPE_##name,
enum { FE_CUDA_QUANTS(FE_CUDA_TYPE) };
#undef FE_CUDA_TYPE

/* What follows on the products of a gate and an up projection. */
enum { FE_CUDA_NO_GLU, FE_CUDA_SWIGLU, FE_CUDA_GEGLU };

/* Activations made ready for products. ints: for every chunk of 16 elements the upper, then the lower bytes of integers x, and
 * of all chunks a scale d and d · Σx: element = d · (128 · upper + lower). halfs: rows of elements divided by a power of two
 * that `scales` holds a row. */
typedef struct fe_cuda_pack {
    FE_CUDA_POINTER(const float) a;
    FE_CUDA_POINTER(void) out;
    FE_CUDA_POINTER(float) scales; /* ints: [rows][chunks][2]; halfs: [rows] */
    uint32_t a_stride, k, rows;
    uint32_t turned; /* halfs: 0, or as the warpgroups' product reads them, with so many stages in a piece */
} fe_cuda_pack;

/* c[i][m, n[i]] = a[m, k] · w[i]ᵀ. Where `used` is above 0 the weights are stacks of experts, and a row of c is one of the
 * m = tokens · used pairs of a token and an expert chosen for it. */
typedef struct fe_cuda_matmul {
    FE_CUDA_POINTER(const unsigned char) w[FE_CUDA_PRODUCTS];
    FE_CUDA_POINTER(float) c[FE_CUDA_PRODUCTS];
    FE_CUDA_POINTER(const void) a;         /* floats, or packed */
    FE_CUDA_POINTER(const float) scales;   /* of the packed */
    FE_CUDA_POINTER(const float) ids;      /* of experts, for each pair */
    FE_CUDA_POINTER(const uint32_t) lists; /* pairs of each expert: counts, then lists of `list` */
    uint64_t w_stride[FE_CUDA_PRODUCTS];
    uint64_t w_slice;
    uint32_t c_stride[FE_CUDA_PRODUCTS];
    uint32_t n[FE_CUDA_PRODUCTS];
    uint32_t end[FE_CUDA_PRODUCTS]; /* the first block along the weights' rows that is not this product's */
    uint32_t a_stride, ids_stride;
    uint32_t m, k;
    uint32_t used, a_used; /* a has a row for each a_used pairs: `used` or 1 */
    uint32_t list;         /* longest list of an expert; 0: there are none */
    uint32_t glu;          /* c[0] becomes the gated product, w[0] being the gate and w[1] up */
    uint32_t a_rows;       /* turned halfs: rows there is room for, a multiple of 8 */
    uint32_t splits;       /* blocks along z that share k, where there are no lists: a cluster */
} fe_cuda_matmul;

/* c[i][n[i]] = x · w[i]ᵀ, for one token. x: floats, or with `norm` the norm of them, times its weights, which is written to
 * `normed`. With `residual`, sum = residual + c[0]. Two rows of the weights (of gate and up one each) are taken together; a stage
 * has a piece of each. */
typedef struct fe_cuda_token {
    FE_CUDA_POINTER(const unsigned char) w[FE_CUDA_PRODUCTS];
    FE_CUDA_POINTER(float) c[FE_CUDA_PRODUCTS];
    FE_CUDA_POINTER(const float) x;
    FE_CUDA_POINTER(const float) norm;
    FE_CUDA_POINTER(float) normed;
    FE_CUDA_POINTER(const float) residual;
    FE_CUDA_POINTER(float) sum;
    uint64_t w_stride[FE_CUDA_PRODUCTS];
    uint32_t type[FE_CUDA_PRODUCTS];
    uint32_t row_bytes[FE_CUDA_PRODUCTS], piece_bytes[FE_CUDA_PRODUCTS]; /* of a row, and of it in a stage */
    uint32_t n[FE_CUDA_PRODUCTS];
    uint32_t end[FE_CUDA_PRODUCTS]; /* the first pair of rows that is not this product's */
    uint32_t k, glu;
    uint32_t stages, stage_bytes; /* of a warp */
    uint32_t sums;                /* of a block's pairs there is room for: a multiple of 2 */
    float eps;
} fe_cuda_token;

typedef struct fe_cuda_unpack {
    FE_CUDA_POINTER(const unsigned char) w;
    FE_CUDA_POINTER(uint16_t) out;
    uint64_t w_stride, out_stride; /* the latter in elements */
    uint32_t cols;
} fe_cuda_unpack;

typedef struct fe_cuda_embed {
    FE_CUDA_POINTER(const unsigned char) table;
    FE_CUDA_POINTER(const int32_t) ids;
    FE_CUDA_POINTER(float) out;
    uint64_t table_stride;
    uint32_t out_stride, cols;
    float scale;
} fe_cuda_embed;

/* What a row's residual is before it is added. */
enum { FE_CUDA_AS_IT_IS = 1, FE_CUDA_NORMED, FE_CUDA_OF_EXPERTS };

/* out = norm(x) · weight; with `add`, one of the above, first x += b, which is written to `sum`. b: the row, the norm of it, or
 * the sum of its `used` rows of experts, times their weights. */
typedef struct fe_cuda_norm {
    FE_CUDA_POINTER(const float) x;
    FE_CUDA_POINTER(const float) weight;
    FE_CUDA_POINTER(const float) b;
    FE_CUDA_POINTER(const float) b_weights; /* of its norm, or of its experts */
    FE_CUDA_POINTER(float) out;
    FE_CUDA_POINTER(float) sum;
    FE_CUDA_POINTER(void) ints;  /* null: out is not packed too, as integers, */
    FE_CUDA_POINTER(void) halfs; /* or as halves */
    FE_CUDA_POINTER(float) scales;
    uint32_t out_stride, x_stride, b_stride, sum_stride, weights_stride;
    uint32_t cols, add, used;
    uint32_t turned; /* of the halves */
    float eps, b_eps;
} fe_cuda_norm;

typedef struct fe_cuda_binary {
    FE_CUDA_POINTER(const float) a;
    FE_CUDA_POINTER(const float) b;
    FE_CUDA_POINTER(float) out;
    uint32_t out_stride, a_stride, b_stride; /* b_stride 0: one row for all */
    uint32_t cols;
} fe_cuda_binary;

/* out = (x - mean) / sqrt(variance + eps) · weight + bias. */
typedef struct fe_cuda_layer_norm {
    FE_CUDA_POINTER(const float) x;
    FE_CUDA_POINTER(const float) weight;
    FE_CUDA_POINTER(const float) bias;
    FE_CUDA_POINTER(float) out;
    uint32_t out_stride, x_stride, cols;
    float eps;
} fe_cuda_layer_norm;

/* out = scale · x; with softcap c > 0, c · tanh(that / c). */
typedef struct fe_cuda_scale {
    FE_CUDA_POINTER(const float) x;
    FE_CUDA_POINTER(float) out;
    uint32_t out_stride, x_stride, cols;
    float scale, softcap;
} fe_cuda_scale;

/* A run of rows of one sequence: rows row … row+rows-1 of the batch stand at positions first … of these caches. A cache of Q8_0
 * has the quants of all positions of a slice first, then their scales. */
typedef struct fe_cuda_span {
    FE_CUDA_POINTER(void) k;
    FE_CUDA_POINTER(void) v;
    FE_CUDA_POINTER(const uint32_t) pages; /* null: position p is the caches' row p */
    uint64_t slice;                        /* bytes from one KV head to the next */
    uint32_t row, rows, first;
    uint32_t positions; /* of the cache */
} fe_cuda_span;

/* What lies between the products of q, k, v and attention, one head at a time: bias, norm, rotation, append. The first
 * heads are q's, then k's, then v's; a head that there is nothing to do with is left out of the grid. */
typedef struct fe_cuda_heads {
    FE_CUDA_POINTER(float) x[3];
    FE_CUDA_POINTER(const float) bias[3]; /* null: none */
    FE_CUDA_POINTER(const float) norm[2];
    FE_CUDA_POINTER(const float) angles;       /* for every row dims/2 cosines, then as many sines; null: no rotation */
    FE_CUDA_POINTER(const fe_cuda_span) spans; /* null: nothing is appended */
    uint32_t span_count;
    uint32_t stride[3]; /* of q, k, v */
    uint32_t heads[3];
    uint32_t head_dim, dims, interleaved;
    float eps[2]; /* of q's and k's norm */
} fe_cuda_heads;

/* parts: of each row, head and split the sums of head_dim values, then the largest score and the sum of weights. */
typedef struct fe_cuda_attention {
    FE_CUDA_POINTER(const float) q;
    FE_CUDA_POINTER(float) out;
    FE_CUDA_POINTER(float) parts;
    FE_CUDA_POINTER(uint32_t) counts; /* zeros, for each row and chunk of heads: which of its splits are done */
    FE_CUDA_POINTER(const fe_cuda_span) spans;
    FE_CUDA_POINTER(void) ints; /* null: out is not packed too */
    FE_CUDA_POINTER(float) scales;
    fe_cuda_heads
        fresh; /* few rows, of which each is a span: x is what the projections gave; x[0] null: that is done */
    uint32_t q_stride, out_stride;
    uint32_t heads, group; /* group: heads a KV head */
    uint32_t head_dim;
    uint32_t span_count;
    uint32_t window; /* 0: none */
    uint32_t bidirectional;
    uint32_t splits; /* of the longest span */
    float scale, softcap;
} fe_cuda_attention;

typedef struct fe_cuda_argmax {
    FE_CUDA_POINTER(const float) x;
    FE_CUDA_POINTER(float) ids;
    uint32_t ids_stride, x_stride, cols;
} fe_cuda_argmax;

/* out: of each row the FE_CUDA_TOP largest, and then where they stand. */
typedef struct fe_cuda_top {
    FE_CUDA_POINTER(const float) x;
    FE_CUDA_POINTER(float) out;
    FE_CUDA_POINTER(uint64_t) parts;  /* [rows][parts][FE_CUDA_TOP] */
    FE_CUDA_POINTER(uint32_t) counts; /* zeros, for each row: which of its parts are done */
    uint32_t out_stride, x_stride, cols;
} fe_cuda_top;

typedef struct fe_cuda_route {
    FE_CUDA_POINTER(const float) logits;
    FE_CUDA_POINTER(float) ids;
    FE_CUDA_POINTER(float) weights;
    uint32_t logits_stride, ids_stride, weights_stride;
    uint32_t experts, used, sigmoid, renormalise;
} fe_cuda_route;

typedef struct fe_cuda_moe_sum {
    FE_CUDA_POINTER(const float) x;
    FE_CUDA_POINTER(const float) weights;
    FE_CUDA_POINTER(float) out;
    uint32_t out_stride, x_stride, weights_stride;
    uint32_t cols, used;
} fe_cuda_moe_sum;

/* The pairs of each expert: counts[experts], then pairs[experts][tokens]. */
typedef struct fe_cuda_sort {
    FE_CUDA_POINTER(const float) ids;
    FE_CUDA_POINTER(uint32_t) lists;
    uint32_t ids_stride, experts, tokens, used;
} fe_cuda_sort;

/* For measuring: products of what is in registers, `rounds` of FE_CUDA_PEAK_OPS operations each a block. */
typedef struct fe_cuda_peak {
    FE_CUDA_POINTER(float) out;
    uint32_t rounds;
} fe_cuda_peak;
enum { FE_CUDA_PEAK_OPS = 8 * 8 * 16 * 8 * 16 * 2, FE_CUDA_PEAK_WIDE_OPS = 2 * 4 * 64 * 256 * 16 * 2 };

/* How many positions a part of the attention for few rows has, of so many that a span's last row sees: the more where there are more rows,
 * of all spans together, to keep the multiprocessors busy. Up to 1,024 of up to 4 rows are an
 * eighth of them, for the blocks of a cluster where there are such. */
FE_CUDA_BOTH uint32_t fe_cuda_split(uint32_t seen, uint32_t rows) {
    enum { ROUND = 16, EACH = FE_CUDA_CLUSTER * ROUND };
    if (rows <= 4 && seen <= 1024) return (seen + EACH - 1) / EACH * ROUND;
    uint32_t size = (seen <= 2048 ? 64 : 128) * (rows > 16 ? 16 : rows > 4 ? 4 : 1);
    while ((seen - 1) / size >= FE_CUDA_SPLITS) size *= 2;
    return size;
}

/* Tiles of keys and values that the attention for many rows has room for. */
FE_CUDA_BOTH uint32_t fe_cuda_flash_buffers(uint32_t dim) { return dim <= 128 ? 2 : 1; }

FE_CUDA_BOTH uint32_t fe_cuda_flash_shared(uint32_t dim) {
    return FE_CUDA_FLASH_TILES * FE_CUDA_FLASH_KEYS * dim * 2 + 1024;
}
FE_CUDA_BOTH uint32_t fe_cuda_flash_threads(void) { return (FE_CUDA_FLASH_GROUPS + 1) * 4 * FE_CUDA_WARP; }

/* Shared memory of the warpgroups' product. A row's piece of weights, `bytes` from a multiple of `align` on, lies in a whole number of
 * 16-byte words, an odd one, lest rows side by side lie in the same banks. */
FE_CUDA_BOTH uint32_t fe_cuda_wide_pitch(uint32_t bytes, uint32_t align) {
    return ((bytes + (align < 16 ? 16 - align : 0) + 15) / 16 | 1) * 16;
}
FE_CUDA_BOTH uint32_t fe_cuda_wide_pieces(uint32_t pitch) { return pitch <= 208 ? 3 : 2; }
FE_CUDA_BOTH uint32_t fe_cuda_wide_stages(uint32_t tokens) { return tokens <= FE_CUDA_WIDE_FEW ? 8 : 4; }
/* Most threads of a block. The warp that fetches is one of a warpgroup where registers go from one to another. Else, with one more in
 * place of it, as many registers are left to a thread as two blocks of eight warps can have. */
FE_CUDA_BOTH uint32_t fe_cuda_wide_threads(uint32_t tokens) {
    return (tokens <= FE_CUDA_WIDE_FEW ? FE_CUDA_WIDE_MOST + 2 : FE_CUDA_WIDE_WARPS + 4) * FE_CUDA_WARP;
}
FE_CUDA_BOTH uint32_t fe_cuda_wide_shared(uint32_t pitch, uint32_t tokens, uint32_t warps) {
    return fe_cuda_wide_stages(tokens) * tokens * FE_CUDA_STAGE * 2 +
           fe_cuda_wide_pieces(pitch) * warps * FE_CUDA_WIDE_ROWS * pitch + 1024;
}

#endif
