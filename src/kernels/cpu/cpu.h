/* The kernel table of the CPU: one struct of function pointers per (block type, instruction set), filled once when a device
 * is opened, by a pure function of the CPU flags: C first, then ascending instruction sets, each overwriting whole rows.
 * The functions of one row agree on one packing of the activations and are replaced as a group. */
#ifndef FE_CPU_H
#define FE_CPU_H

#include "quant/quant.h"

/* Bundles of instruction sets that were probed for real. */
enum fe_cpu_flags {
    FE_CPU_AVX2 = 1,    /* AVX2, FMA, F16C, BMI2, and the system saves YMM */
    FE_CPU_AVXVNNI = 2, /* AVX-VNNI */
    FE_CPU_AVX512 = 4,  /* F, BW, DQ, VL, VNNI, and the system saves ZMM */
    FE_CPU_AMX = 8,     /* AMX-TILE, AMX-BF16, AVX512-BF16, and Linux granted the tile permission */
    FE_CPU_NEON = 16,   /* NEON with the dot product instructions */
    FE_CPU_I8MM = 32,   /* 8-bit matrix multiply */
};

/* c[m,n] = a[m,k] · w[n,k]ᵀ for one block type. k is a multiple of the type's block. */
typedef struct fe_matmul_kernel {
    const char *name; /* "q4_k avx2" */

    /* Activations: bytes for m rows of k, and packing rows first … first+count-1 of the m rows of x (ldx floats apart) into
     * `act`, aligned to 64. first and count are multiples of pack_group(m), but for the end of the rows. The packing may
     * depend on m (m == 1 is GEMV's). above: see act.h. */
    size_t (*act_bytes)(size_t m, size_t k);
    void (*pack)(void *act, const float *x, size_t ldx, size_t m, size_t k, size_t first, size_t count, float above);
    size_t (*pack_group)(size_t m);

    /* m = 1: y[r] = Σ w[r,·] · x for n rows of w, `stride` bytes apart, at any alignment. */
    void (*gemv)(float *y, const void *w, size_t stride, size_t n, const void *act, size_t k);

    /* m > 1: c[i·ldc + r] for n rows of w and all m tokens. A thread claims `gemm_rows` rows at a time (fewer at the end)
     * and brings gemm_scratch(m, k) bytes, aligned to 64, of its own. */
    void (*gemm)(float *c, size_t ldc, const void *w, size_t stride, size_t n, const void *act, size_t m, size_t k,
                 void *scratch);
    size_t (*gemm_scratch)(size_t m, size_t k);
    size_t gemm_rows;

    /* From so many tokens on, quantised weights and activations are multiplied as bfloat16, both rounded to nearest even, not
     * by the rule of act.h; 0: never. */
    size_t bf16_from;
} fe_matmul_kernel;

/* The K cache stands in blocks of FE_KV_BLOCK positions, each [head_dim][FE_KV_BLOCK], so that the scores of a block's
 * positions are lanes of one vector and no sum crosses lanes. The V cache stands row by row, [position][head_dim].
 *
 * In Q8_0 both stand in blocks of as many bytes as so many rows of Q8_0 have: fp16 scales [group][FE_KV_BLOCK], a group being
 * 32 elements of a head or what is left of it, and then 8-bit integers, in pairs that products of pairs take at once:
 *   K [head_dim / 2][FE_KV_BLOCK][2], neighbouring elements; V [FE_KV_BLOCK / 2][head_dim][2], neighbouring positions.
 * Scale and integers of a group follow the rule of act.h, but for the scale's rounding to fp16. */
enum { FE_KV_BLOCK = 16, FE_ATTENTION_ROWS = 36 };

static inline size_t fe_q8_0_groups(size_t head_dim) { return (head_dim + 31) / 32; }

/* Attention of up to FE_ATTENTION_ROWS query vectors that share one KV head, over positions from … to-1: an online softmax,
 * left unnormalised so that the parts of a split sequence can be joined. */
typedef struct fe_attention_task {
    size_t rows, head_dim;
    const float *q[FE_ATTENTION_ROWS];
    uint32_t begin[FE_ATTENTION_ROWS], end[FE_ATTENTION_ROWS]; /* row r sees the positions begin … end-1 */
    const void *k, *v;                                         /* the KV head's first position */
    const uint32_t *pages;                                     /* as in ferrum_kv_span */
    size_t block_bytes;                                        /* of FE_KV_BLOCK positions */
    size_t from, to;
    float scale, softcap;
    float *sum;         /* out: [rows][head_dim]: Σ e^(score - max) · v */
    float *max, *total; /* out: [rows]: the largest score (-INFINITY: row saw none) and Σ e^(score - max) */
    int16_t *ints;      /* scratch of Q8_0: [rows][head_dim]: the queries */
    float *units;       /* and [rows]: what their integers stand for, times scale */
} fe_attention_task;

typedef struct fe_vector_kernels {
    void (*rms_norm)(float *out, const float *x, const float *weight, size_t n, float eps);
    void (*layer_norm)(float *out, const float *x, const float *weight, const float *bias, size_t n, float eps);
    void (*gelu)(float *out, const float *x, size_t n);
    void (*swiglu)(float *out, const float *gate, const float *up, size_t n);
    void (*geglu)(float *out, const float *gate, const float *up, size_t n);
    void (*add)(float *out, const float *a, const float *b, size_t n);
    /* out = scale · x; with softcap c > 0, c · tanh(that / c) */
    void (*scale)(float *out, const float *x, size_t n, float scale, float softcap);
    void (*axpy)(float *out, float alpha, const float *x, size_t n); /* out += alpha · x */
    float (*dot)(const float *a, const float *b, size_t n);
    void (*to_f16)(uint16_t *out, const float *x, size_t n);
    /* One head's keys or values, n a multiple of 16, as integers and the scales of their groups. */
    void (*to_q8_0)(int8_t *q, uint16_t *d, const float *x, size_t n);
    /* Turns pairs (j, j + half) of x by the angles whose cosines and sines stand in cs[0 … half-1], cs[half … 2·half-1]. */
    void (*rope_half)(float *x, const float *cs, size_t half);
    void (*attention_f16)(const fe_attention_task *task);
    void (*attention_f32)(const fe_attention_task *task);
    void (*attention_q8_0)(const fe_attention_task *task);
    /* For measuring what memory gives: the largest of n floats, n a multiple of 256. */
    float (*largest)(const float *x, size_t n);
} fe_vector_kernels;

typedef struct fe_cpu_table {
    const char *name; /* the highest instruction set in it */
    fe_matmul_kernel matmul[FE_TYPES];
    fe_vector_kernels vector;
    /* For measuring what the units give: does `rounds` of the multiplications and additions that the products of quantised
     * weights are made of, and returns how many operations those were. */
    uint64_t (*multiply)(size_t rounds);
} fe_cpu_table;

/* What this machine has. */
unsigned fe_cpu_probe(void);
/* The highest bundle's name: "avx512". */
const char *fe_cpu_flags_name(unsigned flags);
/* Cuts *flags to what a cap's name allows ("c", and of x86-64 "avx2", "avxvnni", "avx512", "amx", of arm64 "neon", "i8mm"): false
 * for a name that this build's architecture has not. */
bool fe_cpu_cap(unsigned *flags, const char *cap);
void fe_cpu_table_init(fe_cpu_table *table, unsigned flags);

uint64_t fe_multiply_c(size_t rounds);
uint64_t fe_multiply_avx2(size_t rounds);
uint64_t fe_multiply_avxvnni(size_t rounds);
uint64_t fe_multiply_avx512(size_t rounds);
uint64_t fe_multiply_amx(size_t rounds);
uint64_t fe_multiply_neon(size_t rounds);
uint64_t fe_multiply_i8mm(size_t rounds);

/* Each fills in the rows that it has. Defined in cpu/matmul_c.c and cpu/{x86,arm}/matmul_ISA.c, vector_ISA.c. */
void fe_matmul_init_c(fe_matmul_kernel rows[FE_TYPES]);
void fe_matmul_init_avx2(fe_matmul_kernel rows[FE_TYPES]);
void fe_matmul_init_avxvnni(fe_matmul_kernel rows[FE_TYPES]);
void fe_matmul_init_avx512(fe_matmul_kernel rows[FE_TYPES]);
void fe_matmul_init_amx(fe_matmul_kernel rows[FE_TYPES]);
void fe_matmul_init_neon(fe_matmul_kernel rows[FE_TYPES]);
void fe_matmul_init_i8mm(fe_matmul_kernel rows[FE_TYPES]);
void fe_vector_init_c(fe_vector_kernels *v);
void fe_vector_init_avx2(fe_vector_kernels *v);
void fe_vector_init_avx512(fe_vector_kernels *v);
void fe_vector_init_neon(fe_vector_kernels *v);

#endif
