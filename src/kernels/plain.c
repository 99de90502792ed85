/* The plain functions of kernels.h: block types, conversions, and GEMV on the calling thread with the best kernels of the
 * machine. */
#include "core/core.h"
#include "kernels/cpu/act.h"
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum {
    BLOCK_MAX = 256, /* elements of the largest block */
    CHUNK =
        FE_STRETCH_PANELS * FE_PANEL, /* so much of K goes at once: packed as it would be with the rest of the row */
    ACTIVATIONS = 1 << 14,            /* and packed, it takes at most so many bytes, on the stack */
    ROWS = 64,                        /* results that a second part of K is added to at once */
};

/* ---- Block types ---- */

bool ferrum_type_known(int type) { return fe_type_info_of(type) != NULL; }

const char *ferrum_type_name(ferrum_type type) {
    const fe_type_info *t = fe_type_info_of((int)type);
    return t ? t->name : "?";
}

size_t ferrum_type_block(ferrum_type type) {
    const fe_type_info *t = fe_type_info_of((int)type);
    return t ? t->block : 0;
}

size_t ferrum_type_bytes(ferrum_type type) {
    const fe_type_info *t = fe_type_info_of((int)type);
    return t ? t->bytes : 0;
}

float ferrum_type_largest(ferrum_type type) {
    const fe_type_info *t = fe_type_info_of((int)type);
    return t ? t->largest : 0;
}

size_t ferrum_row_bytes(ferrum_type type, size_t cols) {
    const fe_type_info *t = fe_type_info_of((int)type);
    if (!t) return 0;
    size_t bytes, blocks = cols / t->block + (cols % t->block != 0);
    return __builtin_mul_overflow(blocks, t->bytes, &bytes) ? SIZE_MAX : bytes;
}

/* ---- Conversions ---- */

/* `count` elements from the start of a block on. */
static void dequantize(const fe_type_info *t, float *out, const void *w, size_t count) {
    size_t whole = count / t->block, rest = count % t->block;
    t->dequantize(out, w, whole);
    if (!rest) return;
    float last[BLOCK_MAX];
    t->dequantize(last, (const char *)w + whole * t->bytes, 1);
    memcpy(out + whole * t->block, last, rest * sizeof *out);
}

int ferrum_dequantize(ferrum_type type, float *out, const void *w, size_t count) {
    const fe_type_info *t = fe_type_info_of((int)type);
    if (!t) return FERRUM_EINVAL;
    dequantize(t, out, w, count);
    return FERRUM_OK;
}

int ferrum_dequantize_f16(ferrum_type type, uint16_t *out, const void *w, size_t count) {
    const fe_type_info *t = fe_type_info_of((int)type);
    if (!t) return FERRUM_EINVAL;
    float part[BLOCK_MAX];
    for (size_t done = 0; done < count; done += BLOCK_MAX) {
        size_t now = fe_min(count - done, BLOCK_MAX);
        dequantize(t, part, (const char *)w + done / t->block * t->bytes, now);
        for (size_t i = 0; i < now; i++) out[done + i] = fe_f32_to_f16(part[i]);
    }
    return FERRUM_OK;
}

int ferrum_quantize(ferrum_type type, void *out, const float *x, size_t rows, size_t cols) {
    const fe_type_info *t = fe_type_info_of((int)type);
    size_t count;
    if (!t || cols % t->block != 0 || __builtin_mul_overflow(rows, cols, &count)) return FERRUM_EINVAL;
    if (t->block > 1) {
        for (size_t i = 0; i < count; i++) {
            if (!(fabsf(x[i]) <= t->largest)) return FERRUM_EINVAL;
        }
    }
    t->quantize(out, x, count / t->block);
    return FERRUM_OK;
}

/* ---- GEMV ---- */

static fe_cpu_table best;
static pthread_once_t best_once = PTHREAD_ONCE_INIT;

static void choose_best(void) { fe_cpu_table_init(&best, fe_cpu_probe()); }

/* For a k that is no multiple of the block size. */
static void gemv_dequantized(const fe_type_info *t, float *y, const char *w, size_t stride, const float *x, size_t n,
                             size_t k) {
    float part[BLOCK_MAX];
    for (size_t r = 0; r < n; r++) {
        double sum = 0;
        for (size_t done = 0; done < k; done += BLOCK_MAX) {
            size_t now = fe_min(k - done, BLOCK_MAX);
            dequantize(t, part, w + r * stride + done / t->block * t->bytes, now);
            for (size_t i = 0; i < now; i++) sum += (double)part[i] * x[done + i];
        }
        y[r] = (float)sum;
    }
}

/* y += w[n,k] · activations. */
static void gemv_add(const fe_matmul_kernel *kernel, float *y, const char *w, size_t stride, size_t n, const void *act,
                     size_t k) {
    float part[ROWS];
    for (size_t r = 0; r < n; r += ROWS) {
        size_t rows = fe_min(n - r, ROWS);
        kernel->gemv(part, w + r * stride, stride, rows, act, k);
        for (size_t i = 0; i < rows; i++) y[r + i] += part[i];
    }
}

_Static_assert(sizeof(fe_act_panel) * FE_STRETCH_PANELS <= ACTIVATIONS && sizeof(float) * CHUNK <= ACTIVATIONS,
               "a chunk of packed activations fits");

static void gemv(ferrum_type type, float *y, const void *w, const float *x, size_t n, size_t k) {
    _Alignas(64) unsigned char act[ACTIVATIONS];
    const fe_type_info *t = fe_type_info_of((int)type);
    size_t stride = ferrum_row_bytes(type, k);
    pthread_once(&best_once, choose_best);
    const fe_matmul_kernel *kernel = &best.matmul[type];
    if (k == 0 || k % t->block != 0) {
        gemv_dequantized(t, y, w, stride, x, n, k);
        return;
    }
    for (size_t done = 0; done < k; done += CHUNK) {
        size_t now = fe_min(k - done, CHUNK);
        const char *part = (const char *)w + done / t->block * t->bytes;
        kernel->pack(act, x + done, k, 1, now, 0, 1, FE_ABOVE_FINE);
        if (done == 0)
            kernel->gemv(y, part, stride, n, act, now);
        else
            gemv_add(kernel, y, part, stride, n, act, now);
    }
}

int ferrum_gemv(ferrum_type type, float *y, const void *w, const float *x, size_t n, size_t k) {
    if (!ferrum_type_known((int)type)) return FERRUM_EINVAL;
    gemv(type, y, w, x, n, k);
    return FERRUM_OK;
}

#define PLAIN(name, type)                                                                    \
    void ferrum_##name##_dequantize(float *out, const void *w, size_t count) {               \
        dequantize(fe_type_info_of(type), out, w, count);                                    \
    }                                                                                        \
    void ferrum_##name##_gemv(float *y, const void *w, const float *x, size_t n, size_t k) { \
        gemv(type, y, w, x, n, k);                                                           \
    }

PLAIN(f16, FERRUM_F16)
PLAIN(bf16, FERRUM_BF16)
PLAIN(q4_0, FERRUM_Q4_0)
PLAIN(q4_1, FERRUM_Q4_1)
PLAIN(q5_0, FERRUM_Q5_0)
PLAIN(q5_1, FERRUM_Q5_1)
PLAIN(q8_0, FERRUM_Q8_0)
PLAIN(q2_k, FERRUM_Q2_K)
PLAIN(q3_k, FERRUM_Q3_K)
PLAIN(q4_k, FERRUM_Q4_K)
PLAIN(q5_k, FERRUM_Q5_K)
PLAIN(q6_k, FERRUM_Q6_K)
