/* The forward pass, in model order. m tokens, of one sequence or several; shapes in brackets are [rows, cols].
 * D: width, H: query heads, G: KV heads, d: head dimension, F: feed-forward width, E: experts used a token, V: vocabulary. */
#include "model/model.h"

/* The first m rows of a scratch tensor. */
static ferrum_tensor rows(ferrum_tensor t, size_t m) {
    t.rows = m;
    return t;
}

/* [m, heads · d] seen as [m · heads, d]. */
static ferrum_tensor by_head(const ferrum_tensor *t, size_t head_dim) {
    return ferrum_tensor_view(t->buffer, t->offset, FERRUM_F32, t->rows * (t->cols / head_dim), head_dim);
}

static void add_bias(ferrum_stream *s, const ferrum_tensor *x, const ferrum_tensor *bias) {
    if (bias->buffer) ferrum_add(s, x, x, bias);
}

static void norm_heads(ferrum_stream *s, const ferrum_tensor *x, const ferrum_tensor *weight, const fe_hparams *h) {
    if (!weight->buffer) return;
    ferrum_tensor heads = by_head(x, h->head_dim);
    ferrum_rms_norm(s, &heads, &heads, weight, h->norm_eps);
}

/* The spans with this layer's caches. */
static const ferrum_kv_span *layer_spans(fe_pass *p, uint32_t layer, const fe_span *spans, size_t count) {
    for (size_t i = 0; i < count; i++)
        p->spans[i] = (ferrum_kv_span){.k_cache = spans[i].cache->k[layer],
                                       .v_cache = spans[i].cache->v[layer],
                                       .rows = spans[i].rows,
                                       .first = spans[i].first,
                                       .pages = spans[i].pages};
    return p->spans;
}

static void attention_block(const ferrum_model *model, fe_pass *p, uint32_t layer, uint32_t m, const fe_span *spans,
                            size_t count) {
    const fe_hparams *h = &model->h;
    const fe_layer *l = &model->w.layers[layer];
    ferrum_stream *s = p->stream;
    ferrum_tensor x = rows(p->x, m), norm = rows(p->h, m);                /* [m, D] */
    ferrum_tensor qkv[3] = {rows(p->q, m), rows(p->k, m), rows(p->v, m)}; /* [m, H·d], [m, G·d], [m, G·d] */
    ferrum_tensor attn = rows(p->attn, m);                                /* [m, H·d] */

    ferrum_rms_norm(s, &norm, &x, &l->attn_norm, h->norm_eps);
    ferrum_matmul_many(s, 3, qkv, &norm, (const ferrum_tensor[]){l->q, l->k, l->v}, FERRUM_FINE);
    add_bias(s, &qkv[0], &l->q_bias);
    add_bias(s, &qkv[1], &l->k_bias);
    add_bias(s, &qkv[2], &l->v_bias);
    norm_heads(s, &qkv[0], &l->q_norm, h);
    norm_heads(s, &qkv[1], &l->k_norm, h);

    bool local_rope = l->local && model->arch->window_period > 0;
    ferrum_rope_params rope = {.head_dim = h->head_dim,
                               .dims = h->rope_dims,
                               .interleaved = model->arch->rope_interleaved,
                               .base = local_rope ? h->local_rope_base : h->rope_base,
                               .freq_scale = local_rope ? 1.0f : h->rope_scale,
                               .factors = model->w.rope_factors.buffer ? &model->w.rope_factors : NULL,
                               .magnitude = 1.0f};
    ferrum_rope(s, &qkv[0], p->at, &rope);
    ferrum_rope(s, &qkv[1], p->at, &rope);
    const ferrum_kv_span *kv = layer_spans(p, layer, spans, count);
    ferrum_kv_append(s, &qkv[1], &qkv[2], kv, count);
    ferrum_attention_params attention = {
        .heads = h->heads, .head_dim = h->head_dim, .window = l->local ? h->window : 0, .scale = h->attention_scale};
    ferrum_attention(s, &attn, &qkv[0], kv, count, &attention);
    ferrum_matmul(s, &norm, &attn, &l->attn_out);
    if (l->attn_post_norm.buffer) ferrum_rms_norm(s, &norm, &norm, &l->attn_post_norm, h->norm_eps);
    ferrum_add(s, &x, &x, &norm);
}

static void gated(const fe_arch *arch, ferrum_stream *s, const ferrum_tensor *gate, const ferrum_tensor *up) {
    if (arch->geglu)
        ferrum_geglu(s, gate, gate, up);
    else
        ferrum_swiglu(s, gate, gate, up);
}

/* norm [m, D] → norm [m, D] */
static void dense(const ferrum_model *model, fe_pass *p, const fe_layer *l, const ferrum_tensor *norm) {
    ferrum_tensor both[2] = {rows(p->gate, norm->rows), rows(p->up, norm->rows)}; /* [m, F] */
    ferrum_matmul_many(p->stream, 2, both, norm, (const ferrum_tensor[]){l->gate, l->up}, FERRUM_USUAL);
    gated(model->arch, p->stream, &both[0], &both[1]);
    ferrum_matmul(p->stream, norm, &both[0], &l->down);
}

/* norm [m, D] → norm [m, D], through the E experts that the router chooses for each token */
static void experts(const ferrum_model *model, fe_pass *p, const fe_layer *l, const ferrum_tensor *norm) {
    ferrum_stream *s = p->stream;
    size_t m = norm->rows, chosen = m * model->h.experts_used;
    ferrum_tensor router = rows(p->router, m), ids = rows(p->ids, m), weights = rows(p->weights, m);
    ferrum_tensor gate = rows(p->gate, chosen), up = rows(p->up, chosen), y = rows(p->y, chosen); /* [m·E, F or D] */
    ferrum_matmul(s, &router, norm, &l->router);
    ferrum_moe_route(s, &ids, &weights, &router, FERRUM_SOFTMAX, model->h.expert_renormalise);
    ferrum_matmul_experts(s, &gate, norm, &l->gate_experts, &ids);
    ferrum_matmul_experts(s, &up, norm, &l->up_experts, &ids);
    gated(model->arch, s, &gate, &up);
    ferrum_matmul_experts(s, &y, &gate, &l->down_experts, &ids);
    ferrum_moe_sum(s, norm, &y, &weights);
}

static void feed_forward_block(const ferrum_model *model, fe_pass *p, uint32_t layer, uint32_t m) {
    const fe_hparams *h = &model->h;
    const fe_layer *l = &model->w.layers[layer];
    ferrum_stream *s = p->stream;
    ferrum_tensor x = rows(p->x, m), norm = rows(p->h, m); /* [m, D] */

    ferrum_rms_norm(s, &norm, &x, &l->ffn_norm, h->norm_eps);
    if (model->arch->experts)
        experts(model, p, l, &norm);
    else
        dense(model, p, l, &norm);
    if (l->ffn_post_norm.buffer) ferrum_rms_norm(s, &norm, &norm, &l->ffn_post_norm, h->norm_eps);
    ferrum_add(s, &x, &x, &norm);
}

/* Sets the rows' positions; how many rows there are. */
static uint32_t place(fe_pass *p, const fe_span *spans, size_t count) {
    uint32_t m = 0;
    for (size_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < spans[i].rows; j++) p->at[m++] = (int32_t)(spans[i].first + j);
    return m;
}

void fe_forward(const ferrum_model *model, fe_pass *p, const int32_t *ids, const fe_span *spans, size_t count) {
    uint32_t m = place(p, spans, count);
    ferrum_tensor x = rows(p->x, m);
    ferrum_embed(p->stream, &x, &model->w.embedding, ids, model->h.embedding_scale);
    for (uint32_t layer = 0; layer < model->h.layers; layer++) {
        attention_block(model, p, layer, m, spans, count);
        feed_forward_block(model, p, layer, m);
    }
}

void fe_forward_output(const ferrum_model *model, fe_pass *p, uint32_t from, uint32_t count, uint32_t to) {
    ferrum_tensor x = rows(p->x, count), norm = rows(p->h, count); /* [count, D] */
    x.offset += from * x.row_stride;
    norm.offset += to * norm.row_stride;
    ferrum_rms_norm(p->stream, &norm, &x, &model->w.output_norm, model->h.norm_eps);
}

void fe_forward_logits(const ferrum_model *model, fe_pass *p, uint32_t count) {
    ferrum_tensor norm = rows(p->h, count), logits = rows(p->logits, count); /* [count, D], [count, V] */
    ferrum_matmul(p->stream, &logits, &norm, &model->w.output);
}
