/* Binding the file's tensors to the places where the forward pass wants them. */
#include "model/model.h"

#include <stdio.h>
#include <string.h>

typedef struct binder {
    const ferrum_model *model;
    fe_weights *w;
    ferrum_error *err;
    int rc; /* the first failure; nothing is bound after it */
} binder;

enum { OPTIONAL = 1, VECTOR = 2 };

static void wrong_shape(binder *b, const ferrum_gguf_tensor *t, uint32_t slices, size_t rows, size_t cols) {
    char want[96], got[128];
    if (slices > 1)
        snprintf(want, sizeof want, "%zu x %zu x %u", cols, rows, slices);
    else if (rows > 1)
        snprintf(want, sizeof want, "%zu x %zu", cols, rows);
    else
        snprintf(want, sizeof want, "%zu", cols);
    int at = 0;
    for (uint32_t i = 0; i < t->rank; i++)
        at += snprintf(got + at, sizeof got - (size_t)at, "%s%llu", i ? " x " : "", (unsigned long long)t->shape[i]);
    b->rc = fe_fail(b->err, FERRUM_EFORMAT, "%s: tensor %.*s is %s; the metadata asks for %s",
                    ferrum_gguf_path(b->model->gguf), (int)t->name.len, t->name.data, got, want);
}

/* The tensor `name` of slices × rows × cols; .buffer NULL where it is optional and absent. A VECTOR must be F32. */
static ferrum_tensor bind(binder *b, const char *name, uint32_t slices, size_t rows, size_t cols, int flags) {
    if (b->rc) return (ferrum_tensor){0};
    const char *path = ferrum_gguf_path(b->model->gguf);
    const ferrum_gguf_tensor *t = ferrum_gguf_find_tensor(b->model->gguf, name);
    if (!t) {
        if (!(flags & OPTIONAL)) b->rc = fe_fail(b->err, FERRUM_EFORMAT, "%s: tensor %s is missing", path, name);
        return (ferrum_tensor){0};
    }
    if (t->shape[0] != cols || t->shape[1] != rows || t->shape[2] != slices || t->shape[3] != 1) {
        wrong_shape(b, t, slices, rows, cols);
        return (ferrum_tensor){0};
    }
    if ((flags & VECTOR) && t->type != FERRUM_F32) {
        b->rc = fe_fail(b->err, FERRUM_EFORMAT, "%s: tensor %s is %s; it must be F32", path, name,
                        ferrum_type_name(t->type));
        return (ferrum_tensor){0};
    }
    if (t->type == FERRUM_F32 && t->offset % 4) {
        b->rc = fe_fail(b->err, FERRUM_EFORMAT, "%s: tensor %s (F32) stands at byte %llu, which is no multiple of 4",
                        path, name, (unsigned long long)t->offset);
        return (ferrum_tensor){0};
    }
    b->w->parameters += (uint64_t)slices * rows * cols;
    b->w->bytes += t->bytes;
    return ferrum_tensor_stack(b->model->buffers[t->part], t->offset, t->type, slices, rows, cols);
}

static ferrum_tensor layer_stack(binder *b, uint32_t layer, const char *name, uint32_t slices, size_t rows, size_t cols,
                                 int flags) {
    char full[64];
    snprintf(full, sizeof full, "blk.%u.%s", layer, name);
    return bind(b, full, slices, rows, cols, flags);
}

static ferrum_tensor matrix(binder *b, uint32_t layer, const char *name, size_t rows, size_t cols) {
    return layer_stack(b, layer, name, 1, rows, cols, 0);
}

static ferrum_tensor vector(binder *b, uint32_t layer, const char *name, size_t cols, int flags) {
    return layer_stack(b, layer, name, 1, 1, cols, VECTOR | flags);
}

static void bind_layer(binder *b, uint32_t i) {
    const fe_hparams *h = &b->model->h;
    const fe_arch *arch = b->model->arch;
    fe_layer *l = &b->w->layers[i];
    size_t q_rows = (size_t)h->heads * h->head_dim, kv_rows = (size_t)h->kv_heads * h->head_dim;
    int bias = arch->qkv_bias ? 0 : OPTIONAL;

    l->local = h->window > 0 && (arch->window_period == 0 || (i + 1) % arch->window_period != 0);
    l->attn_norm = vector(b, i, "attn_norm.weight", h->width, 0);
    l->q = matrix(b, i, "attn_q.weight", q_rows, h->width);
    l->k = matrix(b, i, "attn_k.weight", kv_rows, h->width);
    l->v = matrix(b, i, "attn_v.weight", kv_rows, h->width);
    l->q_bias = vector(b, i, "attn_q.bias", q_rows, bias);
    l->k_bias = vector(b, i, "attn_k.bias", kv_rows, bias);
    l->v_bias = vector(b, i, "attn_v.bias", kv_rows, bias);
    if (arch->qk_norm) {
        l->q_norm = vector(b, i, "attn_q_norm.weight", h->head_dim, 0);
        l->k_norm = vector(b, i, "attn_k_norm.weight", h->head_dim, 0);
    }
    l->attn_out = matrix(b, i, "attn_output.weight", h->width, q_rows);
    l->ffn_norm = vector(b, i, "ffn_norm.weight", h->width, 0);
    if (arch->post_norm) {
        l->attn_post_norm = vector(b, i, "post_attention_norm.weight", h->width, 0);
        l->ffn_post_norm = vector(b, i, "post_ffw_norm.weight", h->width, 0);
    }
    if (arch->experts) {
        l->router = matrix(b, i, "ffn_gate_inp.weight", h->experts, h->width);
        l->gate_experts = layer_stack(b, i, "ffn_gate_exps.weight", h->experts, h->expert_ffn, h->width, 0);
        l->up_experts = layer_stack(b, i, "ffn_up_exps.weight", h->experts, h->expert_ffn, h->width, 0);
        l->down_experts = layer_stack(b, i, "ffn_down_exps.weight", h->experts, h->width, h->expert_ffn, 0);
    } else {
        l->gate = matrix(b, i, "ffn_gate.weight", h->ffn, h->width);
        l->up = matrix(b, i, "ffn_up.weight", h->ffn, h->width);
        l->down = matrix(b, i, "ffn_down.weight", h->width, h->ffn);
    }
}

/* RoPE factors divide: none may be zero, negative or no number. */
static void check_factors(binder *b) {
    if (b->rc || !b->w->rope_factors.buffer) return;
    const ferrum_tensor *t = &b->w->rope_factors;
    const float *f = (const float *)((const char *)ferrum_buffer_data(t->buffer) + t->offset);
    for (size_t i = 0; i < t->cols; i++)
        if (!(f[i] > 0 && f[i] < 1e30f)) {
            b->rc = fe_fail(b->err, FERRUM_EFORMAT,
                            "%s: element %zu of rope_freqs.weight is %g; it must be a number above 0",
                            ferrum_gguf_path(b->model->gguf), i, (double)f[i]);
            return;
        }
}

int fe_weights_bind(fe_weights *w, const ferrum_model *model, ferrum_error *err) {
    binder b = {model, w, err, 0};
    const fe_hparams *h = &model->h;
    w->embedding = bind(&b, "token_embd.weight", 1, h->vocab, h->width, 0);
    w->output_norm = bind(&b, "output_norm.weight", 1, 1, h->width, VECTOR);
    w->output = bind(&b, "output.weight", 1, h->vocab, h->width, OPTIONAL);
    if (!w->output.buffer) w->output = w->embedding; /* tied */
    w->rope_factors = bind(&b, "rope_freqs.weight", 1, 1, h->rope_dims / 2, VECTOR | OPTIONAL);
    check_factors(&b);
    if (b.rc) return b.rc;
    w->layers = fe_alloc(h->layers, sizeof *w->layers);
    if (!w->layers) return fe_fail_memory(err, h->layers * sizeof *w->layers, "the layers' tensors");
    for (uint32_t i = 0; i < h->layers && !b.rc; i++) bind_layer(&b, i);
    return b.rc;
}

static bool tied(const fe_weights *w) {
    return w->output.buffer == w->embedding.buffer && w->output.offset == w->embedding.offset;
}

uint64_t fe_weights_token_bytes(const ferrum_model *model) {
    const fe_hparams *h = &model->h;
    const fe_weights *w = &model->w;
    uint64_t bytes = w->bytes;
    if (!tied(w)) bytes -= w->embedding.slice_stride;
    for (uint32_t i = 0; i < h->layers && model->arch->experts; i++) {
        const fe_layer *l = &w->layers[i];
        uint64_t expert = l->gate_experts.slice_stride + l->up_experts.slice_stride + l->down_experts.slice_stride;
        bytes -= expert * (h->experts - h->experts_used);
    }
    return bytes;
}

uint64_t fe_weights_prompt_parameters(const ferrum_model *model) {
    const fe_hparams *h = &model->h;
    uint64_t vocabulary = (uint64_t)h->vocab * h->width, expert = 3 * (uint64_t)h->expert_ffn * h->width;
    uint64_t unused = (uint64_t)h->layers * (h->experts - h->experts_used) * expert;
    return model->w.parameters - (tied(&model->w) ? 1 : 2) * vocabulary - unused;
}
