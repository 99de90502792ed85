/* A session's memory: activations of one pass and the KV cache. */
#include "kernels/ops.h"
#include "model/model.h"

enum {
    BATCH = 512,                    /* tokens a pass: enough to fill the matrix units, few enough to stay in cache */
    LOGIT_BYTES = 16 * 1024 * 1024, /* that scores of several positions may take */
};

static uint32_t positions_for(uint32_t context) { return (uint32_t)fe_round_up(context, FERRUM_KV_BLOCK); }

/* One scratch tensor: with no buffer yet, only its place is reckoned. */
static ferrum_tensor take(const fe_state *s, size_t *offset, size_t rows, size_t cols) {
    ferrum_tensor t = ferrum_tensor_view(s->buffer, *offset, FERRUM_F32, rows, cols);
    *offset += fe_round_up(t.row_stride * rows, 64);
    return t;
}

/* Lays the scratch tensors out; the bytes that they take in all. */
static size_t lay_out(fe_state *s, const ferrum_model *model, uint32_t context) {
    const fe_hparams *h = &model->h;
    size_t offset = 0, used = model->arch->experts ? h->experts_used : 1;
    size_t ffn = model->arch->experts ? h->expert_ffn : h->ffn;
    s->batch = (uint32_t)fe_min(BATCH, context);
    s->logit_rows = (uint32_t)fe_max(1, fe_min(s->batch, LOGIT_BYTES / (h->vocab * sizeof(float))));
    s->positions = positions_for(context);
    s->x = take(s, &offset, s->batch, h->width);
    s->h = take(s, &offset, s->batch, h->width);
    s->q = take(s, &offset, s->batch, (size_t)h->heads * h->head_dim);
    s->k = take(s, &offset, s->batch, (size_t)h->kv_heads * h->head_dim);
    s->v = take(s, &offset, s->batch, (size_t)h->kv_heads * h->head_dim);
    s->attn = take(s, &offset, s->batch, (size_t)h->heads * h->head_dim);
    s->gate = take(s, &offset, s->batch * used, ffn);
    s->up = take(s, &offset, s->batch * used, ffn);
    s->logits = take(s, &offset, s->logit_rows, h->vocab);
    if (model->arch->experts) {
        s->router = take(s, &offset, s->batch, h->experts);
        s->ids = take(s, &offset, s->batch, used);
        s->weights = take(s, &offset, s->batch, used);
        s->y = take(s, &offset, s->batch * used, h->width);
    }
    return offset;
}

static ferrum_type cache_type(const ferrum_model *model, ferrum_kv kv) {
    if (kv == FERRUM_KV_DEFAULT) return fe_device_kv_type(model->device);
    return kv == FERRUM_KV_Q8_0 ? FERRUM_Q8_0 : FERRUM_F16;
}

/* Bytes of one layer's keys, or values. */
static uint64_t cache_bytes(const ferrum_model *model, uint32_t context, ferrum_kv kv) {
    return (uint64_t)model->h.kv_heads * positions_for(context) *
           ferrum_row_bytes(cache_type(model, kv), model->h.head_dim);
}

void fe_state_memory(const ferrum_model *model, uint32_t context, ferrum_kv kv, uint64_t *kv_bytes, uint64_t *scratch) {
    fe_state s = {0};
    *scratch = lay_out(&s, model, context);
    *kv_bytes = 2 * (uint64_t)model->h.layers * cache_bytes(model, context, kv);
}

static int open_caches(fe_state *s, const ferrum_model *model, uint32_t context, ferrum_kv kv, ferrum_error *err) {
    uint64_t bytes = cache_bytes(model, context, kv), all;
    uint32_t layers = model->h.layers;
    if (!fe_mul_u64(bytes, 2 * (uint64_t)layers, &all) || all > SIZE_MAX)
        return fe_fail(err, FERRUM_ELIMIT, "a KV cache of %u positions is larger than memory can be", context);
    int rc = ferrum_buffer_new(&s->kv, model->device, all, err);
    if (rc) return rc;
    s->k_cache = fe_alloc(layers, sizeof *s->k_cache);
    s->v_cache = fe_alloc(layers, sizeof *s->v_cache);
    if (!s->k_cache || !s->v_cache) return fe_fail_memory(err, 2 * layers * sizeof *s->k_cache, "the cache's tensors");
    ferrum_type type = cache_type(model, kv);
    for (uint32_t i = 0; i < layers; i++) {
        s->k_cache[i] =
            ferrum_tensor_stack(s->kv, 2 * i * bytes, type, model->h.kv_heads, s->positions, model->h.head_dim);
        s->v_cache[i] =
            ferrum_tensor_stack(s->kv, (2 * i + 1) * bytes, type, model->h.kv_heads, s->positions, model->h.head_dim);
    }
    return 0;
}

int fe_state_open(fe_state *s, const ferrum_model *model, uint32_t context, ferrum_kv kv, ferrum_error *err) {
    *s = (fe_state){0};
    int rc = ferrum_stream_open(&s->stream, model->device, err);
    if (!rc) rc = ferrum_buffer_new(&s->buffer, model->device, lay_out(s, model, context), err);
    if (!rc) {
        lay_out(s, model, context); /* again, now in the buffer */
        rc = open_caches(s, model, context, kv, err);
    }
    if (!rc) {
        s->at = fe_alloc(s->batch, sizeof *s->at);
        if (!s->at) rc = fe_fail_memory(err, s->batch * sizeof *s->at, "positions");
    }
    if (rc) fe_state_close(s);
    return rc;
}

void fe_state_close(fe_state *s) {
    ferrum_stream_close(s->stream);
    ferrum_buffer_free(s->buffer);
    ferrum_buffer_free(s->kv);
    free(s->k_cache);
    free(s->v_cache);
    free(s->at);
    *s = (fe_state){0};
}
