/* The kernels' parameters, read by the host's C and by the kernels alike. Strides of F32 data and of KV caches are in
 * elements, those of weights in bytes. */
#ifndef FE_METAL_SHARED_H
#define FE_METAL_SHARED_H

#ifdef __METAL_VERSION__
#include <metal_stdlib>
using namespace metal;
#else
#include <stdint.h>
#endif

enum {
    FE_METAL_SIMD = 32,      /* threads a simdgroup */
    FE_METAL_PRODUCTS = 3,   /* that share their activations */
    FE_METAL_GEMV_SIMDS = 2, /* simdgroups a threadgroup of the GEMV */
    FE_METAL_GEMV_ROWS = 4,  /* rows of the weights a simdgroup of the GEMV with one token */
    FE_METAL_FEW_ROWS = 2,   /* and with a few */
    FE_METAL_FEW = 8,        /* tokens up to which the GEMV is taken */
    FE_METAL_TILE_N = 64,    /* the GEMM's tile: rows of the weights, */
    FE_METAL_TILE_M = 32,    /* tokens, */
    FE_METAL_TILE_K = 64,    /* and elements of a row at once */
    FE_METAL_WIDE = 256,     /* threads of a threadgroup that takes a row of activations */
    FE_METAL_HEAD = 256,     /* the largest head dimension */
    FE_METAL_SPLIT = 256,    /* positions that one threadgroup of the attention for few rows goes through */
    FE_METAL_GROUP = 4,      /* heads that it takes at once, all of one KV head */
    FE_METAL_SPLIT_SIMDS = 4,
    FE_METAL_FLASH_ROWS = 32, /* queries that one threadgroup of the attention for many rows takes */
    FE_METAL_FLASH_KEYS = 32, /* and keys at once */
    FE_METAL_PAGE = 64,       /* rows of a page of a cache */
};

/* What follows on the products of a gate and an up projection. */
enum { FE_METAL_NO_GLU, FE_METAL_SWIGLU, FE_METAL_GEGLU };

/* c[i][m, n[i]] = a[m, k] · w[i]ᵀ. Where `used` is above 0 the weights are stacks of experts, and a row of c is one of the
 * m = tokens · used pairs of a token and an expert chosen for it. */
typedef struct fe_metal_matmul {
    uint64_t w_stride[FE_METAL_PRODUCTS];
    uint64_t w_slice;
    uint32_t c_stride[FE_METAL_PRODUCTS];
    uint32_t n[FE_METAL_PRODUCTS];
    uint32_t end[FE_METAL_PRODUCTS]; /* the first threadgroup along the weights' rows that is not this product's */
    uint32_t a_stride, ids_stride;
    uint32_t m, k;
    uint32_t used, a_used; /* a has a row for each a_used pairs: `used` or 1 */
    uint32_t glu;          /* c[0] becomes the gated product, w[0] being the gate and w[1] up */
} fe_metal_matmul;

/* Rows of `blocks` blocks (of floats: of 32), of which `cols` elements count. plain: blocks stand at any byte. */
typedef struct fe_metal_dequantize {
    uint64_t w_stride;
    uint32_t out_stride, blocks, cols, plain;
} fe_metal_dequantize;

typedef struct fe_metal_embed {
    uint64_t table_stride;
    uint32_t out_stride, cols;
    float scale;
} fe_metal_embed;

/* What a row's residual is before it is added. */
enum { FE_METAL_AS_IT_IS = 1, FE_METAL_NORMED, FE_METAL_OF_EXPERTS };

/* out = norm(x) · weight; with `add`, one of the above, first x += b, which is written to `sum`. b: the row, the norm of it, or
 * the sum of its `used` rows of experts, times their weights. */
typedef struct fe_metal_norm {
    uint32_t out_stride, x_stride, b_stride, sum_stride, weights_stride;
    uint32_t cols, add, used;
    float eps, b_eps;
} fe_metal_norm;

/* out = (x - mean) / sqrt(variance + eps) · weight + bias */
typedef struct fe_metal_layer_norm {
    uint32_t out_stride, x_stride, cols;
    float eps;
} fe_metal_layer_norm;

typedef struct fe_metal_unary {
    uint32_t out_stride, x_stride, cols;
} fe_metal_unary;

typedef struct fe_metal_binary {
    uint32_t out_stride, a_stride, b_stride;
    uint32_t cols;
} fe_metal_binary;

/* out = scale · x; with softcap c > 0, c · tanh(that / c). */
typedef struct fe_metal_scale {
    uint32_t out_stride, x_stride;
    uint32_t cols;
    float scale, softcap;
} fe_metal_scale;

/* What lies between the products of q, k, v and attention, one head at a time: bias, norm, rotation, append. The first
 * heads are q's, then k's, then v's; a head that there is nothing to do with is left out of the grid. */
typedef struct fe_metal_heads {
    uint32_t stride[3]; /* of q, k, v */
    uint32_t heads[3];
    uint32_t biased, normed, rotated; /* bit i: that of q, k, v */
    uint32_t head_dim, dims, interleaved;
    uint32_t append, first, rows, cache_rows; /* k and v go to the caches' positions from `first` on */
    uint32_t paged;                           /* as fe_metal_attention has it */
    float eps[2];                             /* of q's and k's norm */
} fe_metal_heads;

typedef struct fe_metal_attention {
    uint32_t q_stride, out_stride;
    uint32_t heads, group; /* group: heads a KV head */
    uint32_t head_dim, cache_rows;
    uint32_t rows, first;
    uint32_t window; /* 0: none */
    uint32_t splits; /* parts of the positions; 1: the result is complete */
    uint32_t bidirectional;
    uint32_t paged; /* position p stands in page pages[p / FE_METAL_PAGE] of the caches, else in their row p */
    float scale, softcap;
} fe_metal_attention;

typedef struct fe_metal_argmax {
    uint32_t ids_stride, x_stride, cols;
} fe_metal_argmax;

typedef struct fe_metal_route {
    uint32_t logits_stride, ids_stride, weights_stride;
    uint32_t experts, used, sigmoid, renormalise;
} fe_metal_route;

typedef struct fe_metal_moe_sum {
    uint32_t out_stride, x_stride, weights_stride;
    uint32_t cols, used;
} fe_metal_moe_sum;

/* The pairs of each expert: counts[experts], then pairs[experts][tokens]. */
typedef struct fe_metal_sort {
    uint32_t ids_stride, experts, tokens, used;
} fe_metal_sort;

#endif
