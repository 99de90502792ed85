/* The forward pass, in model order. m tokens, of one sequence or several; shapes in brackets are [rows, cols].
 * D: width, H: query heads, G: KV heads, d: head dimension, F: feed-forward width, E: experts used a token, V: vocabulary. */
#include "kernels/ops.h"
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

/* Of each head, or of whole rows, as long as the weight is. */
static void norm_heads(ferrum_stream *s, const ferrum_tensor *x, const ferrum_tensor *weight, const fe_hparams *h) {
    if (!weight->buffer) return;
    ferrum_tensor heads = by_head(x, weight->cols);
    ferrum_rms_norm(s, &heads, &heads, weight, h->norm_eps);
}

static ferrum_rope_params rope_params(const ferrum_model *model, const fe_layer *l, bool is_long) {
    const fe_hparams *h = &model->h;
    bool plain = l->local && model->arch->plain_local_rope;
    const ferrum_tensor *factors = &model->w.rope_factors[is_long];
    return (ferrum_rope_params){.head_dim = h->head_dim,
                                .dims = h->rope_dims,
                                .interleaved = model->arch->rope_interleaved,
                                .base = plain ? h->local_rope_base : h->rope_base,
                                .freq_scale = !plain && h->rope.kind == FE_ROPE_LINEAR ? 1.0f / h->rope.factor : 1.0f,
                                .factors = !plain && factors->buffer ? factors : NULL,
                                .magnitude = plain ? 1.0f : h->rope.magnitude};
}

/* Sequences in a row that turn by the same factors share the ops. */
static void rope(const ferrum_model *model, fe_pass *p, const fe_layer *l, const ferrum_tensor *q,
                 const ferrum_tensor *k, const fe_span *spans, size_t count) {
    size_t first = 0;
    for (size_t i = 0; i < count && l->turned;) {
        bool is_long = spans[i].cache->is_long;
        ferrum_tensor turned_q = *q, turned_k = *k;
        turned_q.offset += first * q->row_stride;
        turned_k.offset += first * k->row_stride;
        turned_q.rows = 0;
        for (; i < count && spans[i].cache->is_long == is_long; i++) turned_q.rows += spans[i].rows;
        turned_k.rows = turned_q.rows;
        ferrum_rope_params of_k = rope_params(model, l, is_long), of_q = of_k;
        of_q.temperature = model->h.rope.temperature;
        of_q.temperature_length = model->h.rope.temperature_length;
        ferrum_rope(p->stream, &turned_q, p->at + first, &of_q);
        ferrum_rope(p->stream, &turned_k, p->at + first, &of_k);
        first += turned_q.rows;
    }
}

/* x += y, [m, D] both. */
static void add_residual(const ferrum_model *model, ferrum_stream *s, const ferrum_tensor *x, const ferrum_tensor *y) {
    if (model->h.residual_scale != 1.0f) ferrum_scale(s, y, y, model->h.residual_scale, 0);
    ferrum_add(s, x, x, y);
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

    if (l->attn_norm.buffer) ferrum_rms_norm(s, &norm, &x, &l->attn_norm, h->norm_eps);
    ferrum_matmul_many(s, 3, qkv, l->attn_norm.buffer ? &norm : &x, (const ferrum_tensor[]){l->q, l->k, l->v},
                       FERRUM_FINE);
    add_bias(s, &qkv[0], &l->q_bias);
    add_bias(s, &qkv[1], &l->k_bias);
    add_bias(s, &qkv[2], &l->v_bias);
    norm_heads(s, &qkv[0], &l->q_norm, h);
    norm_heads(s, &qkv[1], &l->k_norm, h);

    rope(model, p, l, &qkv[0], &qkv[1], spans, count);
    const ferrum_kv_span *kv = layer_spans(p, layer, spans, count);
    ferrum_kv_append(s, &qkv[1], &qkv[2], kv, count);
    ferrum_attention_params attention = {.heads = h->heads,
                                         .head_dim = h->head_dim,
                                         .window = l->local ? h->window : 0,
                                         .scale = h->attention_scale,
                                         .softcap = h->attention_softcap};
    ferrum_attention(s, &attn, &qkv[0], kv, count, &attention);
    ferrum_matmul(s, &norm, &attn, &l->attn_out);
    add_bias(s, &norm, &l->attn_out_bias);
    if (l->attn_post_norm.buffer) ferrum_rms_norm(s, &norm, &norm, &l->attn_post_norm, h->norm_eps);
    add_residual(model, s, &x, &norm);
}

static void gated(const fe_arch *arch, ferrum_stream *s, const ferrum_tensor *gate, const ferrum_tensor *up) {
    if (arch->geglu)
        ferrum_geglu(s, gate, gate, up);
    else
        ferrum_swiglu(s, gate, gate, up);
}

/* x [m, D] → y [m, D] */
static void dense(const ferrum_model *model, fe_pass *p, const fe_layer *l, const ferrum_tensor *y,
                  const ferrum_tensor *x) {
    ferrum_stream *s = p->stream;
    ferrum_tensor both[2] = {rows(p->gate, x->rows), rows(p->up, x->rows)}; /* [m, F] */
    ferrum_matmul_many(s, 2, both, x, (const ferrum_tensor[]){l->gate, l->up}, FERRUM_USUAL);
    add_bias(s, &both[0], &l->gate_bias);
    add_bias(s, &both[1], &l->up_bias);
    gated(model->arch, s, &both[0], &both[1]);
    ferrum_matmul(s, y, &both[0], &l->down);
    add_bias(s, y, &l->down_bias);
}

/* norm [m, D] → p->shared [m, D]: what all tokens go through, times its gate, 1 / (1 + e^-(norm · router)) */
static void shared_expert(const ferrum_model *model, fe_pass *p, const fe_layer *l, const ferrum_tensor *norm) {
    ferrum_stream *s = p->stream;
    size_t m = norm->rows;
    ferrum_tensor both[2] = {rows(p->shared_gate, m), rows(p->shared_up, m)}; /* [m, shared_ffn] */
    ferrum_tensor y = rows(p->y, m), out = rows(p->shared, m);
    ferrum_tensor logit = rows(p->shared_logit, m), id = rows(p->shared_id, m), weight = rows(p->shared_weight, m);
    ferrum_matmul_many(s, 2, both, norm, (const ferrum_tensor[]){l->shared_gate, l->shared_up}, FERRUM_USUAL);
    gated(model->arch, s, &both[0], &both[1]);
    ferrum_matmul(s, &y, &both[0], &l->shared_down);
    ferrum_matmul(s, &logit, norm, &l->shared_router);
    ferrum_moe_route(s, &id, &weight, &logit, FERRUM_SIGMOID, false);
    ferrum_moe_sum(s, &out, &y, &weight);
}

/* norm [m, D] → norm [m, D], through the E experts that the router chooses for each token */
static void experts(const ferrum_model *model, fe_pass *p, const fe_layer *l, const ferrum_tensor *norm) {
    ferrum_stream *s = p->stream;
    size_t m = norm->rows, chosen = m * model->h.experts_used;
    ferrum_tensor router = rows(p->router, m), ids = rows(p->ids, m), weights = rows(p->weights, m);
    ferrum_tensor gate = rows(p->gate, chosen), up = rows(p->up, chosen), y = rows(p->y, chosen); /* [m·E, F or D] */
    if (model->h.shared_ffn) shared_expert(model, p, l, norm);
    ferrum_matmul(s, &router, norm, &l->router);
    ferrum_moe_route(s, &ids, &weights, &router, FERRUM_SOFTMAX, model->h.expert_renormalise);
    if (model->h.expert_scale != 1.0f) ferrum_scale(s, &weights, &weights, model->h.expert_scale, 0);
    ferrum_matmul_experts(s, &gate, norm, &l->gate_experts, &ids);
    ferrum_matmul_experts(s, &up, norm, &l->up_experts, &ids);
    gated(model->arch, s, &gate, &up);
    ferrum_matmul_experts(s, &y, &gate, &l->down_experts, &ids);
    ferrum_moe_sum(s, norm, &y, &weights);
    if (!model->h.shared_ffn) return;
    ferrum_tensor shared = rows(p->shared, m);
    ferrum_add(s, norm, norm, &shared);
}

static void feed_forward_block(const ferrum_model *model, fe_pass *p, uint32_t layer, uint32_t m) {
    const fe_hparams *h = &model->h;
    const fe_layer *l = &model->w.layers[layer];
    ferrum_stream *s = p->stream;
    ferrum_tensor x = rows(p->x, m), norm = rows(p->h, m); /* [m, D] */

    if (l->ffn_norm.buffer) ferrum_rms_norm(s, &norm, &x, &l->ffn_norm, h->norm_eps);
    if (h->experts)
        experts(model, p, l, &norm);
    else
        dense(model, p, l, &norm, l->ffn_norm.buffer ? &norm : &x);
    if (l->ffn_post_norm.buffer) ferrum_rms_norm(s, &norm, &norm, &l->ffn_post_norm, h->norm_eps);
    add_residual(model, s, &x, &norm);
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
    const fe_hparams *h = &model->h;
    ferrum_matmul(p->stream, &logits, &norm, &model->w.output);
    if (h->logit_scale != 1.0f || h->logit_softcap > 0)
        ferrum_scale(p->stream, &logits, &logits, h->logit_scale, h->logit_softcap);
    ferrum_tensor top = rows(p->top, count);
    if (p->keeps_logits) fe_top(p->stream, &top, &logits);
}
