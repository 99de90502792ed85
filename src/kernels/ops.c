/* The public ops: each checks what it was given, then hands one fe_op to the backend. */
#include "kernels/ops.h"
#include "quant/quant.h"

#include <math.h>
#include <string.h>

int ferrum_stream_open(ferrum_stream **out, ferrum_device *dev, ferrum_error *err) {
    *out = NULL;
    ferrum_stream *s = fe_alloc(1, sizeof *s);
    if (!s) return fe_fail_memory(err, sizeof *s, "a stream");
    s->device = dev;
    int rc = dev->backend->stream_open(s, err);
    if (rc)
        free(s);
    else
        *out = s;
    return rc;
}

void ferrum_stream_close(ferrum_stream *s) {
    if (!s) return;
    s->device->backend->stream_close(s);
    free(s);
}

int ferrum_stream_wait(ferrum_stream *s, ferrum_error *err) {
    int rc = s->device->backend->wait(s, err);
    if (!s->failed) return rc;
    s->failed = false;
    return fe_fail(err, s->error.code, "%s", s->error.message);
}

/* ---- Checks. Each returns whether all is well, and otherwise notes the first failure in the stream. ---- */

static bool check(ferrum_stream *s, bool ok, const char *op, const char *what, size_t got, size_t want) {
    if (ok) return true;
    s->failed = true;
    fe_fail(&s->error, FERRUM_EINVAL, "%s: %s is %zu, not %zu", op, what, got, want);
    return false;
}
#define SAME(what, got, want) check(s, (got) == (want), op, what, got, want)

static bool refuse(ferrum_stream *s, const char *op, const char *what) {
    s->failed = true;
    fe_fail(&s->error, FERRUM_EINVAL, "%s: %s", op, what);
    return false;
}

/* Is every element of the tensor inside its buffer, and the buffer this device's? */
static bool tensor_ok(ferrum_stream *s, const char *op, const char *name, const ferrum_tensor *t, bool written) {
    const fe_type_info *info = fe_type_info_of(t->type);
    uint64_t end = 0, last_slice, last_row;
    if (!t->buffer || t->buffer->device != s->device)
        return refuse(s, op, "a tensor's buffer is not of the stream's device");
    if (!info) return check(s, false, op, "an unknown type", (size_t)t->type, FERRUM_F32);
    if (!t->slices || !t->rows || !t->cols) return refuse(s, op, "a tensor is empty");
    size_t row = ferrum_row_bytes(t->type, t->cols);
    bool fits = fe_mul_u64(t->slices - 1, t->slice_stride, &last_slice) &&
                fe_mul_u64(t->rows - 1, t->row_stride, &last_row) && fe_add_u64(t->offset, last_slice, &end) &&
                fe_add_u64(end, last_row, &end) && fe_add_u64(end, row, &end) &&
                row >= t->cols * info->bytes / info->block && end <= t->buffer->bytes;
    if (!fits) return check(s, false, op, name, end, t->buffer->bytes);
    if (written && !t->buffer->writable) return refuse(s, op, "the output lies in memory that is read-only");
    return true;
}

/* F32 data of one slice, whole floats apart. */
static bool f32_ok(ferrum_stream *s, const char *op, const char *name, const ferrum_tensor *t, bool written) {
    if (!tensor_ok(s, op, name, t, written)) return false;
    if (t->type != FERRUM_F32) return refuse(s, op, "an activation is not F32");
    if (t->offset % 4 || t->row_stride % 4) return refuse(s, op, "an F32 tensor is not aligned to 4 bytes");
    return SAME("the number of slices", (size_t)t->slices, (size_t)1);
}
#define F32_IN(t)  f32_ok(s, op, "the end of " #t, t, false)
#define F32_OUT(t) f32_ok(s, op, "the end of " #t, t, true)

static bool same_shape(ferrum_stream *s, const char *op, const ferrum_tensor *a, const ferrum_tensor *b) {
    return SAME("the number of rows", a->rows, b->rows) && SAME("the row length", a->cols, b->cols);
}

static void submit(ferrum_stream *s, const fe_op *op) { s->device->backend->submit(s, op); }

/* ---- Ops ---- */

void ferrum_embed(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *table, const int32_t *ids,
                  float scale) {
    const char *op = "embed";
    if (s->failed || !F32_OUT(out) || !tensor_ok(s, op, "the end of the table", table, false)) return;
    if (!SAME("the row length", out->cols, table->cols)) return;
    for (size_t i = 0; i < out->rows; i++)
        if (!check(s, ids[i] >= 0 && (size_t)ids[i] < table->rows, op, "a token id", (size_t)ids[i], table->rows - 1))
            return;
    submit(s, &(fe_op){.kind = FE_OP_EMBED, .out = *out, .a = *table, .ints = ids, .u.scale = scale});
}

void ferrum_rms_norm(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *x, const ferrum_tensor *weight,
                     float eps) {
    const char *op = "rms_norm";
    if (s->failed || !F32_OUT(out) || !F32_IN(x) || !F32_IN(weight) || !same_shape(s, op, x, out)) return;
    if (!SAME("the weight's length", weight->cols, x->cols) || !SAME("the weight's rows", weight->rows, (size_t)1))
        return;
    submit(s, &(fe_op){.kind = FE_OP_RMS_NORM, .out = *out, .a = *x, .b = *weight, .u.eps = eps});
}

void ferrum_layer_norm(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *x, const ferrum_tensor *weight,
                       const ferrum_tensor *bias, float eps) {
    const char *op = "layer_norm";
    if (s->failed || !F32_OUT(out) || !F32_IN(x) || !F32_IN(weight) || !F32_IN(bias) || !same_shape(s, op, x, out))
        return;
    if (!SAME("the weight's length", weight->cols, x->cols) || !SAME("the weight's rows", weight->rows, (size_t)1) ||
        !same_shape(s, op, bias, weight))
        return;
    submit(s, &(fe_op){.kind = FE_OP_LAYER_NORM, .out = *out, .a = *x, .b = *weight, .c = *bias, .u.eps = eps});
}

void ferrum_matmul_many(ferrum_stream *s, size_t count, const ferrum_tensor *c, const ferrum_tensor *a,
                        const ferrum_tensor *w, ferrum_precision precision) {
    const char *op = "matmul";
    if (s->failed || !F32_IN(a)) return;
    if (!check(s, count >= 1 && count <= FE_MATMUL_MANY, op, "the number of products", count, FE_MATMUL_MANY)) return;
    fe_op o = {.kind = FE_OP_MATMUL, .a = *a, .u.matmul = {.count = count, .precision = precision}};
    for (size_t i = 0; i < count; i++) {
        if (!F32_OUT(&c[i]) || !tensor_ok(s, op, "the end of the weights", &w[i], false)) return;
        if (!SAME("the weights' row length", w[i].cols, a->cols) || !SAME("c's row length", c[i].cols, w[i].rows) ||
            !SAME("c's number of rows", c[i].rows, a->rows) ||
            !SAME("the weights' slices", (size_t)w[i].slices, (size_t)1))
            return;
        if (fe_overlap(&c[i], a)) {
            refuse(s, op, "c overlaps a");
            return;
        }
        o.u.matmul.c[i] = c[i];
        o.u.matmul.w[i] = w[i];
    }
    submit(s, &o);
}

void ferrum_matmul(ferrum_stream *s, const ferrum_tensor *c, const ferrum_tensor *a, const ferrum_tensor *w) {
    ferrum_matmul_many(s, 1, c, a, w, FERRUM_USUAL);
}

void ferrum_matmul_experts(ferrum_stream *s, const ferrum_tensor *c, const ferrum_tensor *a, const ferrum_tensor *w,
                           const ferrum_tensor *ids) {
    const char *op = "matmul_experts";
    if (s->failed || !F32_OUT(c) || !F32_IN(a) || !F32_IN(ids) || !tensor_ok(s, op, "the end of the weights", w, false))
        return;
    if (!SAME("the weights' row length", w->cols, a->cols) || !SAME("c's row length", c->cols, w->rows) ||
        !SAME("c's number of rows", c->rows, ids->rows * ids->cols))
        return;
    if (a->rows != ids->rows && !SAME("a's number of rows", a->rows, c->rows)) return;
    if (fe_overlap(c, a)) {
        refuse(s, op, "c overlaps a");
        return;
    }
    submit(s, &(fe_op){.kind = FE_OP_MATMUL_EXPERTS, .out = *c, .a = *a, .b = *w, .c = *ids});
}

void ferrum_moe_route(ferrum_stream *s, const ferrum_tensor *ids, const ferrum_tensor *weights,
                      const ferrum_tensor *logits, ferrum_gating gating, bool renormalise) {
    const char *op = "moe_route";
    if (s->failed || !F32_OUT(ids) || !F32_OUT(weights) || !F32_IN(logits) || !same_shape(s, op, ids, weights)) return;
    if (!SAME("the number of rows", ids->rows, logits->rows)) return;
    if (!check(s, ids->cols <= logits->cols, op, "the number of experts used", ids->cols, logits->cols)) return;
    if (!check(s, gating == FERRUM_SOFTMAX || gating == FERRUM_SIGMOID, op, "the gating", gating, FERRUM_SOFTMAX))
        return;
    submit(s,
           &(fe_op){
               .kind = FE_OP_MOE_ROUTE, .out = *ids, .out2 = *weights, .a = *logits, .u.route = {gating, renormalise}});
}

void ferrum_moe_sum(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *x, const ferrum_tensor *weights) {
    const char *op = "moe_sum";
    if (s->failed || !F32_OUT(out) || !F32_IN(x) || !F32_IN(weights)) return;
    if (!SAME("the row length", out->cols, x->cols) || !SAME("the weights' rows", weights->rows, out->rows) ||
        !SAME("x's number of rows", x->rows, weights->rows * weights->cols))
        return;
    submit(s, &(fe_op){.kind = FE_OP_MOE_SUM, .out = *out, .a = *x, .b = *weights});
}

static bool positions_ok(ferrum_stream *s, const char *op, const int32_t *positions, size_t count, size_t limit) {
    for (size_t i = 0; i < count; i++)
        if (!check(s, positions[i] >= 0 && (size_t)positions[i] < limit, op, "a position", (size_t)positions[i],
                   limit - 1))
            return false;
    return true;
}

void ferrum_rope(ferrum_stream *s, const ferrum_tensor *x, const int32_t *positions, const ferrum_rope_params *p) {
    const char *op = "rope";
    if (s->failed || !F32_OUT(x)) return;
    if (!check(s, p->head_dim && x->cols % p->head_dim == 0, op, "the row length", x->cols, p->head_dim) ||
        !check(s, p->dims && p->dims % 2 == 0 && p->dims <= p->head_dim, op, "dims", p->dims, p->head_dim) ||
        !positions_ok(s, op, positions, x->rows, INT32_MAX))
        return;
    if (!(p->magnitude > 0 && isfinite(p->magnitude))) {
        refuse(s, op, "the magnitude is not a number above 0");
        return;
    }
    if (!(p->temperature >= 0 && isfinite(p->temperature)) || (p->temperature > 0 && p->temperature_length == 0)) {
        refuse(s, op, "the temperature is not a number from 0 on, with a length");
        return;
    }
    fe_op o = {.kind = FE_OP_ROPE, .out = *x, .ints = positions, .u.rope.params = *p};
    if (p->factors) {
        if (!F32_IN(p->factors) || !SAME("the number of factors", p->factors->cols, (size_t)p->dims / 2)) return;
        if (!p->factors->buffer->data) {
            refuse(s, op, "the factors lie out of the host's view");
            return;
        }
        o.u.rope.factors = *p->factors;
        o.u.rope.has_factors = true;
    }
    o.u.rope.params.factors = NULL;
    submit(s, &o);
}

static bool caches_ok(ferrum_stream *s, const char *op, const ferrum_tensor *k, const ferrum_tensor *v, bool written) {
    if (!tensor_ok(s, op, "the end of the keys", k, written) ||
        !tensor_ok(s, op, "the end of the values", v, written) || !same_shape(s, op, k, v))
        return false;
    if (!fe_device_has_kv(s->device, k->type)) return refuse(s, op, "the device has no caches of that type");
    if (v->type != k->type || v->slices != k->slices)
        return refuse(s, op, "the caches are not of one type, with as many slices");
    size_t row = ferrum_row_bytes(k->type, k->cols), slice = row * k->rows;
    if (k->row_stride != row || v->row_stride != row || k->slice_stride != slice || v->slice_stride != slice)
        return refuse(s, op, "a cache has gaps");
    return check(s, k->rows % FERRUM_KV_BLOCK == 0, op, "the number of positions modulo 16", k->rows % FERRUM_KV_BLOCK,
                 0) &&
           check(s, k->cols % FERRUM_KV_BLOCK == 0, op, "head_dim modulo 16", k->cols % FERRUM_KV_BLOCK, 0);
}

static bool pages_ok(ferrum_stream *s, const char *op, const ferrum_kv_span *span) {
    size_t pages = span->k_cache.rows / FERRUM_KV_PAGE;
    for (size_t i = 0; i < fe_kv_pages(span); i++)
        if (!check(s, span->pages[i] < pages, op, "the number of pages", span->pages[i] + (size_t)1, pages))
            return false;
    return true;
}

/* Do the spans cover `rows` rows, each with room for its own, and are their caches alike? */
static bool spans_ok(ferrum_stream *s, const char *op, const ferrum_kv_span *spans, size_t count, size_t rows,
                     bool written) {
    if (count == 0) return refuse(s, op, "there are no spans");
    size_t covered = 0;
    for (const ferrum_kv_span *span = spans; span < spans + count; span++) {
        const ferrum_tensor *k = &span->k_cache;
        if (!caches_ok(s, op, k, &span->v_cache, written)) return false;
        if (!SAME("a cache's slices", (size_t)k->slices, (size_t)spans->k_cache.slices) ||
            !SAME("a cache's row length", k->cols, spans->k_cache.cols))
            return false;
        if (span->rows == 0) return refuse(s, op, "a span is empty");
        if (span->pages) {
            if (!pages_ok(s, op, span)) return false;
        } else if (!check(s, span->rows <= k->rows && span->first <= k->rows - span->rows, op,
                          "the number of positions", (size_t)span->first + span->rows, k->rows))
            return false;
        covered += span->rows;
    }
    return SAME("the number of rows", covered, rows);
}

void ferrum_kv_append(ferrum_stream *s, const ferrum_tensor *k, const ferrum_tensor *v, const ferrum_kv_span *spans,
                      size_t count) {
    const char *op = "kv_append";
    if (s->failed || !F32_IN(k) || !F32_IN(v) || !same_shape(s, op, k, v) ||
        !spans_ok(s, op, spans, count, k->rows, true) ||
        !SAME("the row length", k->cols, spans->k_cache.slices * spans->k_cache.cols))
        return;
    submit(s, &(fe_op){.kind = FE_OP_KV_APPEND, .a = *k, .b = *v, .spans = spans, .span_count = count});
}

void ferrum_attention(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *q, const ferrum_kv_span *spans,
                      size_t count, const ferrum_attention_params *p) {
    const char *op = "attention";
    if (s->failed || !F32_OUT(out) || !F32_IN(q) || !same_shape(s, op, q, out) ||
        !spans_ok(s, op, spans, count, q->rows, false))
        return;
    const ferrum_tensor *k = &spans->k_cache;
    if (!SAME("head_dim", (size_t)p->head_dim, k->cols) ||
        !SAME("the row length", q->cols, (size_t)p->heads * p->head_dim) ||
        !check(s, p->heads % k->slices == 0, op, "the number of heads", p->heads, k->slices) ||
        !check(s, !p->bidirectional || p->window == 0, op, "the window of what is bidirectional", p->window, 0))
        return;
    submit(s,
           &(fe_op){
               .kind = FE_OP_ATTENTION, .out = *out, .a = *q, .spans = spans, .span_count = count, .u.attention = *p});
}

static void binary(ferrum_stream *s, fe_op_kind kind, const char *op, const ferrum_tensor *out, const ferrum_tensor *a,
                   const ferrum_tensor *b, bool broadcast) {
    if (s->failed || !F32_OUT(out) || !F32_IN(a) || !F32_IN(b) || !same_shape(s, op, a, out)) return;
    if (!SAME("b's row length", b->cols, a->cols)) return;
    if (!(broadcast && b->rows == 1) && !SAME("b's number of rows", b->rows, a->rows)) return;
    submit(s, &(fe_op){.kind = kind, .out = *out, .a = *a, .b = *b});
}

void ferrum_swiglu(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *gate, const ferrum_tensor *up) {
    binary(s, FE_OP_SWIGLU, "swiglu", out, gate, up, false);
}
void ferrum_geglu(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *gate, const ferrum_tensor *up) {
    binary(s, FE_OP_GEGLU, "geglu", out, gate, up, false);
}
void ferrum_add(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *a, const ferrum_tensor *b) {
    binary(s, FE_OP_ADD, "add", out, a, b, true);
}

void ferrum_gelu(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *x) {
    const char *op = "gelu";
    if (s->failed || !F32_OUT(out) || !F32_IN(x) || !same_shape(s, op, x, out)) return;
    submit(s, &(fe_op){.kind = FE_OP_GELU, .out = *out, .a = *x});
}

void ferrum_scale(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *x, float scale, float softcap) {
    const char *op = "scale";
    if (s->failed || !F32_OUT(out) || !F32_IN(x) || !same_shape(s, op, x, out)) return;
    if (!(softcap >= 0)) {
        refuse(s, op, "the softcap is not a number from 0 on");
        return;
    }
    submit(s, &(fe_op){.kind = FE_OP_SCALE, .out = *out, .a = *x, .u.scaled = {scale, softcap}});
}

void ferrum_argmax(ferrum_stream *s, const ferrum_tensor *ids, const ferrum_tensor *x) {
    const char *op = "argmax";
    const size_t most = (size_t)1 << 24; /* whole numbers that a float can tell apart */
    if (s->failed || !F32_OUT(ids) || !F32_IN(x) || !SAME("the number of rows", ids->rows, x->rows)) return;
    if (!SAME("the length of a row of ids", ids->cols, (size_t)1) ||
        !check(s, x->cols <= most, op, "the row length", x->cols, most))
        return;
    submit(s, &(fe_op){.kind = FE_OP_ARGMAX, .out = *ids, .a = *x});
}

void fe_top(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *x) {
    const char *op = "top";
    const size_t most = FE_TOP_COLS;
    if (s->failed || !F32_OUT(out) || !F32_IN(x) || !SAME("the number of rows", out->rows, x->rows)) return;
    if (!SAME("the length of a row of the largest", out->cols, (size_t)2 * FE_TOP) ||
        !check(s, x->cols <= most, op, "the row length", x->cols, most))
        return;
    submit(s, &(fe_op){.kind = FE_OP_TOP, .out = *out, .a = *x});
}

void ferrum_unpack(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *w) {
    const char *op = "unpack";
    if (s->failed || !tensor_ok(s, op, "the end of out", out, true) ||
        !tensor_ok(s, op, "the end of the weights", w, false) || !same_shape(s, op, out, w))
        return;
    if (out->type != FERRUM_F16 || out->offset % 2 || out->row_stride % 2) {
        refuse(s, op, "out is not F16, aligned to 2 bytes");
        return;
    }
    if (!SAME("the number of slices", (size_t)out->slices, (size_t)1) ||
        !SAME("the weights' slices", (size_t)w->slices, (size_t)1))
        return;
    if (fe_overlap(out, w)) {
        refuse(s, op, "out overlaps the weights");
        return;
    }
    submit(s, &(fe_op){.kind = FE_OP_UNPACK, .out = *out, .a = *w});
}
