/* The reference backend: every op as its definition reads, in fp32 with sums in double, one thread, at once.
 * Whatever another backend computes is tested against this one. */
#include "kernels/cpu/act.h"
#include "kernels/ops.h"
#include "quant/quant.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct ref_stream {
    float *row; /* scratch for one dequantised row */
    size_t capacity;
    bool no_memory;
} ref_stream;

/* Element (slice, row, 0 … cols-1) as fp32, in the stream's scratch. NULL where memory ran out. */
static const float *load_row(ferrum_stream *s, const ferrum_tensor *t, size_t slice, size_t row) {
    ref_stream *r = s->state;
    if (t->cols > r->capacity) {
        free(r->row);
        r->row = fe_alloc(t->cols, sizeof *r->row);
        r->capacity = r->row ? t->cols : 0;
    }
    if (!r->row) {
        r->no_memory = true;
        return NULL;
    }
    ferrum_dequantize(t->type, r->row, fe_at(t, slice, row), t->cols);
    return r->row;
}

static void embed(ferrum_stream *s, const fe_op *op) {
    for (size_t i = 0; i < op->out.rows; i++) {
        const float *row = load_row(s, &op->a, 0, (size_t)op->ints[i]);
        float *out = fe_row(&op->out, i);
        for (size_t j = 0; row && j < op->out.cols; j++) out[j] = row[j] * op->u.scale;
    }
}

static void rms_norm(ferrum_stream *s, const fe_op *op) {
    (void)s;
    size_t n = op->a.cols;
    const float *weight = fe_row(&op->b, 0);
    for (size_t i = 0; i < op->a.rows; i++) {
        const float *x = fe_row(&op->a, i);
        float *out = fe_row(&op->out, i);
        double sum = 0;
        for (size_t j = 0; j < n; j++) sum += (double)x[j] * x[j];
        float inverse = (float)(1.0 / sqrt(sum / (double)n + (double)op->u.eps));
        for (size_t j = 0; j < n; j++) out[j] = x[j] * inverse * weight[j];
    }
}

static void layer_norm(ferrum_stream *s, const fe_op *op) {
    (void)s;
    size_t n = op->a.cols;
    const float *weight = fe_row(&op->b, 0), *bias = fe_row(&op->c, 0);
    for (size_t i = 0; i < op->a.rows; i++) {
        const float *x = fe_row(&op->a, i);
        float *out = fe_row(&op->out, i);
        double mean = 0, variance = 0;
        for (size_t j = 0; j < n; j++) mean += (double)x[j] / (double)n;
        for (size_t j = 0; j < n; j++) variance += (x[j] - mean) * (x[j] - mean) / (double)n;
        double inverse = 1.0 / sqrt(variance + (double)op->u.eps);
        for (size_t j = 0; j < n; j++) out[j] = (float)((x[j] - mean) * inverse * weight[j] + bias[j]);
    }
}

static float dot(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return (float)sum;
}

static void matmul(ferrum_stream *s, const fe_op *op) {
    for (size_t i = 0; i < op->u.matmul.count; i++) {
        const ferrum_tensor *c = &op->u.matmul.c[i], *w = &op->u.matmul.w[i];
        for (size_t r = 0; r < w->rows; r++) {
            const float *row = load_row(s, w, 0, r);
            if (!row) return;
            for (size_t m = 0; m < c->rows; m++) fe_row(c, m)[r] = dot(row, fe_row(&op->a, m), w->cols);
        }
    }
}

static void matmul_experts(ferrum_stream *s, const fe_op *op) {
    const ferrum_tensor *c = &op->out, *w = &op->b, *ids = &op->c;
    for (size_t m = 0; m < c->rows; m++) {
        size_t token = m / ids->cols, expert = (size_t)fe_row(ids, token)[m % ids->cols];
        const float *x = fe_row(&op->a, op->a.rows == ids->rows ? token : m);
        for (size_t r = 0; r < w->rows; r++) {
            const float *row = load_row(s, w, expert, r);
            if (!row) return;
            fe_row(c, m)[r] = dot(row, x, w->cols);
        }
    }
}

static void moe_route(ferrum_stream *s, const fe_op *op) {
    (void)s;
    size_t experts = op->a.cols, used = op->out.cols;
    for (size_t i = 0; i < op->a.rows; i++) {
        const float *logits = fe_row(&op->a, i);
        float *ids = fe_row(&op->out, i), *weights = fe_row(&op->out2, i);
        double total = 0, chosen = 0, max = logits[0];
        for (size_t e = 1; e < experts; e++) max = logits[e] > max ? logits[e] : max;
        for (size_t e = 0; e < experts; e++) total += exp((double)logits[e] - max);
        for (size_t j = 0; j < used; j++) {
            size_t best = experts;
            for (size_t e = 0; e < experts; e++) {
                bool taken = false;
                for (size_t t = 0; t < j; t++) taken |= (size_t)ids[t] == e;
                if (!taken && (best == experts || logits[e] > logits[best])) best = e;
            }
            ids[j] = (float)best;
            double p = op->u.route.gating == FERRUM_SIGMOID ? 1 / (1 + exp(-(double)logits[best]))
                                                            : exp((double)logits[best] - max) / total;
            chosen += p;
            weights[j] = (float)p;
        }
        for (size_t j = 0; op->u.route.renormalise && j < used; j++) weights[j] = (float)(weights[j] / chosen);
    }
}

static void moe_sum(ferrum_stream *s, const fe_op *op) {
    (void)s;
    size_t used = op->b.cols;
    for (size_t i = 0; i < op->out.rows; i++) {
        float *out = fe_row(&op->out, i);
        const float *weights = fe_row(&op->b, i);
        for (size_t j = 0; j < op->out.cols; j++) {
            double sum = 0;
            for (size_t e = 0; e < used; e++) sum += (double)weights[e] * fe_row(&op->a, i * used + e)[j];
            out[j] = (float)sum;
        }
    }
}

static void rope(ferrum_stream *s, const fe_op *op) {
    (void)s;
    const ferrum_rope_params *p = &op->u.rope.params;
    const float *factors = op->u.rope.has_factors ? fe_row(&op->u.rope.factors, 0) : NULL;
    for (size_t i = 0; i < op->out.rows; i++) {
        double times = fe_rope_magnitude(p, op->ints[i]);
        for (size_t head = 0; head < op->out.cols / p->head_dim; head++) {
            float *x = fe_row(&op->out, i) + head * p->head_dim;
            for (size_t j = 0; j < p->dims / 2; j++) {
                double angle = op->ints[i] * (double)p->freq_scale * pow(p->base, -2.0 * (double)j / p->dims);
                if (factors) angle /= factors[j];
                float *a = p->interleaved ? &x[2 * j] : &x[j],
                      *b = p->interleaved ? &x[2 * j + 1] : &x[j + p->dims / 2];
                double re = *a, im = *b;
                *a = (float)(times * (re * cos(angle) - im * sin(angle)));
                *b = (float)(times * (re * sin(angle) + im * cos(angle)));
            }
        }
    }
}

/* Q8_0 by the rule of act.h, but for the scale's rounding to fp16. */
static void append_q8_0(fe_block_q8_0 *to, const float *x, size_t count) {
    float max = 0, inverse;
    bool finite = true;
    for (size_t j = 0; j < count; j++) {
        max = fmaxf(max, fabsf(x[j]));
        finite &= isfinite(x[j]) != 0;
    }
    to->d = ferrum_f32_to_f16(fe_act_scale(fe_f32_bits(finite ? max : INFINITY), &inverse));
    for (size_t j = 0; j < count; j++) to->qs[j] = finite ? (int8_t)rintf(x[j] * inverse) : 0;
}

/* Row by row: position p of a head is row p of its slice. */
static void append_head(const ferrum_tensor *cache, const float *row, size_t head, size_t position) {
    void *to = fe_at(cache, head, position);
    const float *x = row + head * cache->cols;
    for (size_t j = 0; j < cache->cols; j++) {
        if (cache->type == FERRUM_F32)
            ((float *)to)[j] = x[j];
        else if (cache->type == FERRUM_F16)
            ((uint16_t *)to)[j] = ferrum_f32_to_f16(x[j]);
        else if (j % 32 == 0)
            append_q8_0((fe_block_q8_0 *)to + j / 32, x + j, fe_min(32, cache->cols - j));
    }
}

static void kv_append(ferrum_stream *s, const fe_op *op) {
    (void)s;
    size_t row = 0;
    for (const ferrum_kv_span *span = op->spans; span < op->spans + op->span_count; span++)
        for (size_t i = 0; i < span->rows; i++, row++)
            for (size_t head = 0; head < span->k_cache.slices; head++) {
                append_head(&span->k_cache, fe_row(&op->a, row), head, fe_kv_row(span, span->first + i));
                append_head(&span->v_cache, fe_row(&op->b, row), head, fe_kv_row(span, span->first + i));
            }
}

/* One query, whose last position is `last`, against one KV head: two passes over the positions, no online softmax. */
static void attend(ferrum_stream *s, const fe_op *op, const ferrum_kv_span *span, size_t row, size_t last, size_t head,
                   double *sum) {
    const ferrum_attention_params *p = &op->u.attention;
    size_t slice = head / (p->heads / span->k_cache.slices);
    size_t begin = p->window && last + 1 > p->window ? last + 1 - p->window : 0;
    const float *q = fe_row(&op->a, row) + head * p->head_dim;
    double max = -INFINITY, total = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t t = begin; t <= last; t++) {
            const float *k = load_row(s, &span->k_cache, slice, fe_kv_row(span, t));
            if (!k) return;
            double score = (double)p->scale * dot(q, k, p->head_dim);
            if (p->softcap > 0) score = p->softcap * tanh(score / p->softcap);
            if (pass == 0) {
                max = score > max ? score : max;
                continue;
            }
            double weight = exp(score - max);
            const float *v = load_row(s, &span->v_cache, slice, fe_kv_row(span, t));
            total += weight;
            for (size_t j = 0; j < p->head_dim; j++) sum[j] += weight * v[j];
        }
    float *out = fe_row(&op->out, row) + head * p->head_dim;
    for (size_t j = 0; j < p->head_dim; j++) out[j] = (float)(sum[j] / total);
}

static void attention(ferrum_stream *s, const fe_op *op) {
    const ferrum_attention_params *p = &op->u.attention;
    double *sum = malloc(p->head_dim * sizeof *sum);
    if (!sum) {
        ((ref_stream *)s->state)->no_memory = true;
        return;
    }
    size_t row = 0;
    for (const ferrum_kv_span *span = op->spans; span < op->spans + op->span_count; span++)
        for (size_t i = 0; i < span->rows; i++, row++)
            for (size_t head = 0; head < p->heads; head++) {
                memset(sum, 0, p->head_dim * sizeof *sum);
                attend(s, op, span, row, span->first + (p->bidirectional ? span->rows - 1 : i), head, sum);
            }
    free(sum);
}

static float silu(float x) { return (float)(x / (1 + exp(-(double)x))); }

static float gelu(float x) {
    const double sqrt_2_over_pi = 0.79788456080286535588;
    return (float)(0.5 * x * (1 + tanh(sqrt_2_over_pi * (x + 0.044715 * (double)x * x * x))));
}

static void elementwise(ferrum_stream *s, const fe_op *op) {
    (void)s;
    for (size_t i = 0; i < op->a.rows; i++) {
        const float *a = fe_row(&op->a, i), *b = fe_row(&op->b, op->b.rows == 1 ? 0 : i);
        float *out = fe_row(&op->out, i);
        for (size_t j = 0; j < op->a.cols; j++)
            out[j] = op->kind == FE_OP_ADD ? a[j] + b[j] : (op->kind == FE_OP_SWIGLU ? silu(a[j]) : gelu(a[j])) * b[j];
    }
}

static void gelu_exact(ferrum_stream *s, const fe_op *op) {
    (void)s;
    const double sqrt_half = 0.70710678118654752440;
    for (size_t i = 0; i < op->a.rows; i++)
        for (size_t j = 0; j < op->a.cols; j++) {
            double x = fe_row(&op->a, i)[j];
            fe_row(&op->out, i)[j] = (float)(0.5 * x * erfc(-x * sqrt_half));
        }
}

static void scale(ferrum_stream *s, const fe_op *op) {
    (void)s;
    double cap = op->u.scaled.softcap;
    for (size_t i = 0; i < op->a.rows; i++)
        for (size_t j = 0; j < op->a.cols; j++) {
            double y = (double)op->u.scaled.by * fe_row(&op->a, i)[j];
            fe_row(&op->out, i)[j] = (float)(cap > 0 ? cap * tanh(y / cap) : y);
        }
}

static void argmax(ferrum_stream *s, const fe_op *op) {
    (void)s;
    for (size_t i = 0; i < op->a.rows; i++) {
        const float *x = fe_row(&op->a, i);
        size_t best = 0;
        for (size_t j = 1; j < op->a.cols; j++) best = x[j] > x[best] ? j : best;
        *fe_row(&op->out, i) = (float)best;
    }
}

/* Each takes its place among the largest so far, behind its equals. */
static void top(ferrum_stream *s, const fe_op *op) {
    (void)s;
    for (size_t i = 0; i < op->a.rows; i++) {
        float *value = fe_row(&op->out, i), *at = value + FE_TOP;
        for (size_t j = 0; j < FE_TOP; j++) value[j] = -INFINITY, at[j] = -1;
        for (size_t j = 0; j < op->a.cols; j++) {
            float x = fminf(fe_row(&op->a, i)[j], FLT_MAX);
            if (isnan(fe_row(&op->a, i)[j])) continue; /* fminf would leave the other */
            size_t to = FE_TOP;
            while (to > 0 && x > value[to - 1]) to--;
            for (size_t k = FE_TOP - 1; to < FE_TOP && k > to; k--) value[k] = value[k - 1], at[k] = at[k - 1];
            if (to < FE_TOP) value[to] = x, at[to] = (float)j;
        }
    }
}

static void unpack(ferrum_stream *s, const fe_op *op) {
    (void)s;
    for (size_t i = 0; i < op->a.rows; i++)
        ferrum_dequantize_f16(op->a.type, fe_at(&op->out, 0, i), fe_at(&op->a, 0, i), op->a.cols);
}

static void (*const table[FE_OP_KINDS])(ferrum_stream *, const fe_op *) = {
    [FE_OP_EMBED] = embed,
    [FE_OP_RMS_NORM] = rms_norm,
    [FE_OP_LAYER_NORM] = layer_norm,
    [FE_OP_MATMUL] = matmul,
    [FE_OP_MATMUL_EXPERTS] = matmul_experts,
    [FE_OP_MOE_ROUTE] = moe_route,
    [FE_OP_MOE_SUM] = moe_sum,
    [FE_OP_ROPE] = rope,
    [FE_OP_KV_APPEND] = kv_append,
    [FE_OP_ATTENTION] = attention,
    [FE_OP_SWIGLU] = elementwise,
    [FE_OP_GEGLU] = elementwise,
    [FE_OP_GELU] = gelu_exact,
    [FE_OP_ADD] = elementwise,
    [FE_OP_SCALE] = scale,
    [FE_OP_ARGMAX] = argmax,
    [FE_OP_TOP] = top,
    [FE_OP_UNPACK] = unpack,
};

static void ref_submit(ferrum_stream *s, const fe_op *op) { table[op->kind](s, op); }

static int ref_wait(ferrum_stream *s, ferrum_error *err) {
    ref_stream *r = s->state;
    if (!r->no_memory) return 0;
    r->no_memory = false;
    return fe_fail(err, FERRUM_ENOMEM, "out of memory: a row of weights in the reference backend");
}

static int ref_stream_open(ferrum_stream *s, ferrum_error *err) {
    s->state = fe_alloc(1, sizeof(ref_stream));
    return s->state ? 0 : fe_fail_memory(err, sizeof(ref_stream), "a stream");
}

static void ref_stream_close(ferrum_stream *s) {
    ref_stream *r = s->state;
    free(r->row);
    free(r);
}

static int ref_open(ferrum_device *dev, const ferrum_device_options *options, ferrum_error *err) {
    (void)options, (void)err;
    snprintf(dev->about, sizeof dev->about, "ref: fp32, 1 thread");
    return 0;
}

static void ref_close(ferrum_device *dev) { (void)dev; }

const fe_backend fe_backend_ref = {
    .name = "ref",
    .kv_type = FERRUM_F32,
    .kv_q8_0 = true,
    .even_rows = 15, /* any */
    .open = ref_open,
    .close = ref_close,
    .stream_open = ref_stream_open,
    .stream_close = ref_stream_close,
    .submit = ref_submit,
    .wait = ref_wait,
};
