/* The memory of a pass, its activations, and that of a sequence, its KV cache. */
#include "kernels/ops.h"
#include "model/model.h"

enum {
    LOGIT_BYTES = 16 << 20, /* that scores of several positions may take, */
    KEPT_BYTES = 64 << 20   /* and where the device keeps them */
};

static uint32_t positions_for(uint32_t context) { return (uint32_t)fe_round_up(context, FERRUM_KV_BLOCK); }

/* ---- Passes ---- */

/* One scratch tensor: with no buffer yet, only its place is reckoned. */
static ferrum_tensor take(ferrum_buffer *buffer, size_t *offset, size_t rows, size_t cols) {
    ferrum_tensor t = ferrum_tensor_view(buffer, *offset, FERRUM_F32, rows, cols);
    *offset += fe_round_up(t.row_stride * rows, 64);
    return t;
}

static uint32_t rows_of_logits(const ferrum_model *model, uint32_t rows, size_t bytes) {
    if (model->arch->encoder) return 0;
    return (uint32_t)fe_max(1, fe_min(rows, bytes / (model->h.vocab * sizeof(float))));
}

/* Lays the tensors that the host reads out; the bytes that they take. */
static size_t lay_out_results(fe_pass *p, const ferrum_model *model, uint32_t rows) {
    size_t offset = 0;
    p->fetch_rows = rows_of_logits(model, rows, LOGIT_BYTES);
    if (p->keeps_logits) {
        p->top = take(p->results, &offset, p->logit_rows, (size_t)2 * FE_TOP);
        p->fetched = take(p->results, &offset, p->fetch_rows, model->h.vocab);
        return offset;
    }
    p->logit_rows = p->fetch_rows;
    p->logits = take(p->results, &offset, p->logit_rows, model->h.vocab);
    return offset;
}

/* Lays the scratch tensors out; the bytes that they take in all. */
static size_t lay_out(fe_pass *p, const ferrum_model *model, uint32_t rows) {
    const fe_hparams *h = &model->h;
    size_t offset = 0, used = h->experts ? h->experts_used : 1, ffn = h->experts ? h->expert_ffn : h->ffn;
    p->rows = rows;
    p->keeps_logits = fe_device_keeps_logits(model->device) && h->vocab <= FE_TOP_COLS && !model->arch->encoder;
    p->x = take(p->buffer, &offset, rows, h->width);
    p->h = take(p->buffer, &offset, rows, h->width);
    p->q = take(p->buffer, &offset, rows, (size_t)h->heads * h->head_dim);
    p->k = take(p->buffer, &offset, rows, (size_t)h->kv_heads * h->head_dim);
    p->v = take(p->buffer, &offset, rows, (size_t)h->kv_heads * h->head_dim);
    p->attn = take(p->buffer, &offset, rows, (size_t)h->heads * h->head_dim);
    p->gate = take(p->buffer, &offset, rows * used, ffn);
    p->up = take(p->buffer, &offset, rows * used, ffn);
    if (p->keeps_logits) {
        p->logit_rows = rows_of_logits(model, rows, KEPT_BYTES);
        p->logits = take(p->buffer, &offset, p->logit_rows, h->vocab);
    }
    if (h->experts) {
        p->router = take(p->buffer, &offset, rows, h->experts);
        p->ids = take(p->buffer, &offset, rows, used);
        p->weights = take(p->buffer, &offset, rows, used);
        p->y = take(p->buffer, &offset, rows * used, h->width);
    }
    if (h->shared_ffn) {
        p->shared = take(p->buffer, &offset, rows, h->width);
        p->shared_gate = take(p->buffer, &offset, rows, h->shared_ffn);
        p->shared_up = take(p->buffer, &offset, rows, h->shared_ffn);
        p->shared_logit = take(p->buffer, &offset, rows, 1);
        p->shared_id = take(p->buffer, &offset, rows, 1);
        p->shared_weight = take(p->buffer, &offset, rows, 1);
    }
    return offset;
}

uint32_t fe_pass_rows(const ferrum_model *model, uint32_t context) {
    return (uint32_t)fe_min(fe_device_pass_rows(model->device, FE_PASS_ROWS), context);
}

uint64_t fe_pass_memory(const ferrum_model *model, uint32_t rows) {
    fe_pass p = {0};
    return lay_out(&p, model, rows) + lay_out_results(&p, model, rows);
}

int fe_pass_open(fe_pass *p, const ferrum_model *model, uint32_t rows, bool seen, ferrum_error *err) {
    *p = (fe_pass){0};
    int rc = ferrum_stream_open(&p->stream, model->device, err);
    size_t bytes = lay_out(p, model, rows);
    if (!rc && seen) rc = ferrum_buffer_new(&p->buffer, model->device, bytes, err);
    if (!rc && !seen) rc = ferrum_buffer_new_private(&p->buffer, model->device, bytes, err);
    if (!rc) rc = ferrum_buffer_new(&p->results, model->device, lay_out_results(p, model, rows), err);
    if (!rc) {
        lay_out(p, model, rows); /* again, now in the buffers */
        lay_out_results(p, model, rows);
        p->at = fe_alloc(rows, sizeof *p->at);
        p->spans = fe_alloc(rows, sizeof *p->spans);
        if (!p->at || !p->spans) rc = fe_fail_memory(err, rows * (sizeof *p->at + sizeof *p->spans), "positions");
    }
    if (rc) fe_pass_close(p);
    return rc;
}

void fe_pass_close(fe_pass *p) {
    ferrum_stream_close(p->stream);
    ferrum_buffer_free(p->buffer);
    ferrum_buffer_free(p->results);
    free(p->at);
    free(p->spans);
    *p = (fe_pass){0};
}

int fe_pass_fetch(fe_pass *p, uint32_t row, uint32_t count, float **out, ferrum_error *err) {
    const ferrum_tensor *t = p->keeps_logits ? &p->fetched : &p->logits;
    *out = (float *)(void *)((char *)ferrum_buffer_data(t->buffer) + t->offset);
    if (!p->keeps_logits) {
        *out += row * t->cols;
        return 0;
    }
    ferrum_tensor to = p->fetched, from = p->logits;
    to.rows = from.rows = count;
    from.offset += row * from.row_stride;
    ferrum_scale(p->stream, &to, &from, 1, 0);
    return ferrum_stream_wait(p->stream, err);
}

void fe_pass_top(const fe_pass *p, uint32_t row, ferrum_logprob *out) {
    const char *data = ferrum_buffer_data(p->top.buffer);
    const float *values = (const float *)(const void *)(data + p->top.offset + row * p->top.row_stride);
    for (size_t i = 0; i < FE_TOP; i++) out[i] = (ferrum_logprob){(int32_t)values[FE_TOP + i], values[i]};
}

/* ---- Caches ---- */

static ferrum_type cache_type(const ferrum_model *model, ferrum_kv kv) {
    if (kv == FERRUM_KV_DEFAULT) return fe_device_kv_type(model->device);
    return kv == FERRUM_KV_Q8_0 ? FERRUM_Q8_0 : FERRUM_F16;
}

/* Bytes of one layer's keys, or values. */
static uint64_t layer_bytes(const ferrum_model *model, uint32_t context, ferrum_kv kv) {
    return (uint64_t)model->h.kv_heads * positions_for(context) *
           ferrum_row_bytes(cache_type(model, kv), model->h.head_dim);
}

uint64_t fe_cache_memory(const ferrum_model *model, uint32_t context, ferrum_kv kv) {
    return 2 * (uint64_t)model->h.layers * layer_bytes(model, context, kv);
}

int fe_cache_open(fe_cache *c, const ferrum_model *model, uint32_t context, ferrum_kv kv, ferrum_error *err) {
    *c = (fe_cache){0};
    ferrum_type type = cache_type(model, kv);
    if (!fe_device_has_kv(model->device, type))
        return fe_fail(err, FERRUM_EUNSUPPORTED, "the device \"%s\" has no KV caches in %s",
                       ferrum_device_name(model->device), ferrum_type_name(type));
    uint64_t bytes = layer_bytes(model, context, kv), all;
    uint32_t layers = model->h.layers;
    if (!fe_mul_u64(bytes, 2 * (uint64_t)layers, &all) || all > SIZE_MAX)
        return fe_fail(err, FERRUM_ELIMIT, "a KV cache of %u positions is larger than memory can be", context);
    int rc = ferrum_buffer_new_private(&c->buffer, model->device, all, err);
    if (rc) return rc;
    c->k = fe_alloc(layers, sizeof *c->k);
    c->v = fe_alloc(layers, sizeof *c->v);
    if (!c->k || !c->v) {
        fe_cache_close(c);
        return fe_fail_memory(err, 2 * layers * sizeof *c->k, "the cache's tensors");
    }
    c->is_long = model->h.rope.kind == FE_ROPE_LONG && context > model->h.rope.original;
    uint32_t positions = positions_for(context);
    for (uint32_t i = 0; i < layers; i++) {
        c->k[i] = ferrum_tensor_stack(c->buffer, 2 * i * bytes, type, model->h.kv_heads, positions, model->h.head_dim);
        c->v[i] =
            ferrum_tensor_stack(c->buffer, (2 * i + 1) * bytes, type, model->h.kv_heads, positions, model->h.head_dim);
    }
    return 0;
}

void fe_cache_close(fe_cache *c) {
    ferrum_buffer_free(c->buffer);
    free(c->k);
    free(c->v);
    *c = (fe_cache){0};
}
