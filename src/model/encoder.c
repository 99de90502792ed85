/* The pass of an encoder, BERT's: every token sees all of its text, and norms stand behind the residual adds. Shapes as in forward.c;
 * a text's keys and values are needed within a layer alone, so that all layers share one cache. */
#include "model/model.h"

#include <string.h>

static ferrum_tensor rows(ferrum_tensor t, size_t m) {
    t.rows = m;
    return t;
}

/* x [m, D] += y, then the norm of it. */
static void add_and_norm(ferrum_stream *s, const ferrum_tensor *x, const ferrum_tensor *y, const ferrum_tensor *weight,
                         const ferrum_tensor *bias, float eps) {
    ferrum_add(s, x, x, y);
    ferrum_layer_norm(s, x, x, weight, bias, eps);
}

/* Token, token type, of which a text has the first alone, and position. */
static void embed(const ferrum_model *model, fe_pass *p, const int32_t *ids, const ferrum_kv_span *spans, size_t count,
                  const ferrum_tensor *x) {
    const fe_weights *w = &model->w;
    ferrum_stream *s = p->stream;
    ferrum_tensor more = rows(p->h, x->rows); /* [m, D] */
    ferrum_embed(s, x, &w->embedding, ids, 1);
    memset(p->at, 0, x->rows * sizeof *p->at);
    ferrum_embed(s, &more, &w->token_types, p->at, 1);
    ferrum_add(s, x, x, &more);
    size_t row = 0;
    for (size_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < spans[i].rows; j++) p->at[row++] = (int32_t)j;
    ferrum_embed(s, &more, &w->positions, p->at, 1);
    add_and_norm(s, x, &more, &w->embedding_norm, &w->embedding_norm_bias, model->h.norm_eps);
}

static void attention_block(const ferrum_model *model, fe_pass *p, const fe_layer *l, const ferrum_kv_span *spans,
                            size_t count, const ferrum_tensor *x) {
    const fe_hparams *h = &model->h;
    ferrum_stream *s = p->stream;
    size_t m = x->rows;
    ferrum_tensor y = rows(p->h, m), attn = rows(p->attn, m);             /* [m, D] */
    ferrum_tensor qkv[3] = {rows(p->q, m), rows(p->k, m), rows(p->v, m)}; /* [m, D] */
    ferrum_attention_params attention = {
        .heads = h->heads, .head_dim = h->head_dim, .scale = h->attention_scale, .bidirectional = true};
    ferrum_matmul_many(s, 3, qkv, x, (const ferrum_tensor[]){l->q, l->k, l->v}, FERRUM_FINE);
    ferrum_add(s, &qkv[0], &qkv[0], &l->q_bias);
    ferrum_add(s, &qkv[1], &qkv[1], &l->k_bias);
    ferrum_add(s, &qkv[2], &qkv[2], &l->v_bias);
    ferrum_kv_append(s, &qkv[1], &qkv[2], spans, count);
    ferrum_attention(s, &attn, &qkv[0], spans, count, &attention);
    ferrum_matmul(s, &y, &attn, &l->attn_out);
    ferrum_add(s, &y, &y, &l->attn_out_bias);
    add_and_norm(s, x, &y, &l->attn_post_norm, &l->attn_post_norm_bias, h->norm_eps);
}

static void feed_forward_block(const ferrum_model *model, fe_pass *p, const fe_layer *l, const ferrum_tensor *x) {
    ferrum_stream *s = p->stream;
    ferrum_tensor y = rows(p->h, x->rows), up = rows(p->up, x->rows); /* [m, D], [m, F] */
    ferrum_matmul(s, &up, x, &l->up);
    ferrum_add(s, &up, &up, &l->up_bias);
    ferrum_gelu(s, &up, &up);
    ferrum_matmul(s, &y, &up, &l->down);
    ferrum_add(s, &y, &y, &l->down_bias);
    add_and_norm(s, x, &y, &l->ffn_post_norm, &l->ffn_post_norm_bias, model->h.norm_eps);
}

void fe_encode(const ferrum_model *model, fe_pass *p, const int32_t *ids, const ferrum_kv_span *spans, size_t count) {
    size_t m = 0;
    for (size_t i = 0; i < count; i++) m += spans[i].rows;
    ferrum_tensor x = rows(p->x, m);
    embed(model, p, ids, spans, count, &x);
    for (uint32_t layer = 0; layer < model->h.layers; layer++) {
        const fe_layer *l = &model->w.layers[layer];
        attention_block(model, p, l, spans, count, &x);
        feed_forward_block(model, p, l, &x);
    }
}
