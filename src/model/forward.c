/* The forward pass, in model order. m tokens of one sequence; shapes in brackets are [rows, cols].
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

static void attention_block(const ferrum_model *model, fe_state *st, uint32_t layer, uint32_t m, uint32_t first) {
    const fe_hparams *h = &model->h;
    const fe_layer *l = &model->w.layers[layer];
    ferrum_stream *s = st->stream;
    ferrum_tensor x = rows(st->x, m), norm = rows(st->h, m);                 /* [m, D] */
    ferrum_tensor qkv[3] = {rows(st->q, m), rows(st->k, m), rows(st->v, m)}; /* [m, H·d], [m, G·d], [m, G·d] */
    ferrum_tensor attn = rows(st->attn, m);                                  /* [m, H·d] */

    ferrum_rms_norm(s, &norm, &x, &l->attn_norm, h->norm_eps);
    ferrum_matmul_many(s, 3, qkv, &norm, (const ferrum_tensor[]){l->q, l->k, l->v});
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
                               .factors = model->w.rope_factors.buffer ? &model->w.rope_factors : NULL};
    ferrum_rope(s, &qkv[0], st->at, &rope);
    ferrum_rope(s, &qkv[1], st->at, &rope);
    ferrum_kv_append(s, &st->k_cache[layer], &st->v_cache[layer], &qkv[1], &qkv[2], st->at);
    ferrum_attention_params attention = {.heads = h->heads,
                                         .head_dim = h->head_dim,
                                         .first = first,
                                         .window = l->local ? h->window : 0,
                                         .scale = h->attention_scale};
    ferrum_attention(s, &attn, &qkv[0], &st->k_cache[layer], &st->v_cache[layer], &attention);
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
static void dense(const ferrum_model *model, fe_state *st, const fe_layer *l, const ferrum_tensor *norm) {
    ferrum_tensor both[2] = {rows(st->gate, norm->rows), rows(st->up, norm->rows)}; /* [m, F] */
    ferrum_matmul_many(st->stream, 2, both, norm, (const ferrum_tensor[]){l->gate, l->up});
    gated(model->arch, st->stream, &both[0], &both[1]);
    ferrum_matmul(st->stream, norm, &both[0], &l->down);
}

/* norm [m, D] → norm [m, D], through the E experts that the router chooses for each token */
static void experts(const ferrum_model *model, fe_state *st, const fe_layer *l, const ferrum_tensor *norm) {
    ferrum_stream *s = st->stream;
    size_t m = norm->rows, chosen = m * model->h.experts_used;
    ferrum_tensor router = rows(st->router, m), ids = rows(st->ids, m), weights = rows(st->weights, m);
    ferrum_tensor gate = rows(st->gate, chosen), up = rows(st->up, chosen), y = rows(st->y, chosen); /* [m·E, F or D] */
    ferrum_matmul(s, &router, norm, &l->router);
    ferrum_moe_route(s, &ids, &weights, &router, model->h.expert_renormalise);
    ferrum_matmul_experts(s, &gate, norm, &l->gate_experts, &ids);
    ferrum_matmul_experts(s, &up, norm, &l->up_experts, &ids);
    gated(model->arch, s, &gate, &up);
    ferrum_matmul_experts(s, &y, &gate, &l->down_experts, &ids);
    ferrum_moe_sum(s, norm, &y, &weights);
}

static void feed_forward_block(const ferrum_model *model, fe_state *st, uint32_t layer, uint32_t m) {
    const fe_hparams *h = &model->h;
    const fe_layer *l = &model->w.layers[layer];
    ferrum_stream *s = st->stream;
    ferrum_tensor x = rows(st->x, m), norm = rows(st->h, m); /* [m, D] */

    ferrum_rms_norm(s, &norm, &x, &l->ffn_norm, h->norm_eps);
    if (model->arch->experts)
        experts(model, st, l, &norm);
    else
        dense(model, st, l, &norm);
    if (l->ffn_post_norm.buffer) ferrum_rms_norm(s, &norm, &norm, &l->ffn_post_norm, h->norm_eps);
    ferrum_add(s, &x, &x, &norm);
}

void fe_forward(const ferrum_model *model, fe_state *st, const int32_t *ids, uint32_t m, uint32_t first) {
    for (uint32_t i = 0; i < m; i++) st->at[i] = (int32_t)(first + i);
    ferrum_tensor x = rows(st->x, m);
    ferrum_embed(st->stream, &x, &model->w.embedding, ids, model->h.embedding_scale);
    for (uint32_t layer = 0; layer < model->h.layers; layer++) {
        attention_block(model, st, layer, m, first);
        feed_forward_block(model, st, layer, m);
    }
}

void fe_forward_logits(const ferrum_model *model, fe_state *st, uint32_t from, uint32_t count) {
    ferrum_tensor x = rows(st->x, count), norm = rows(st->h, count), logits = rows(st->logits, count); /* [count, V] */
    x.offset += from * x.row_stride;
    ferrum_rms_norm(st->stream, &norm, &x, &model->w.output_norm, model->h.norm_eps);
    ferrum_matmul(st->stream, &logits, &norm, &model->w.output);
}
