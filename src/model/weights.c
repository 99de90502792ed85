/* Binding the file's tensors to the places where the forward pass wants them. */
#include "model/model.h"

#include <math.h>
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

/* Rows first … first+count-1; of a vector its elements. */
static ferrum_tensor part(const ferrum_tensor *whole, size_t first, size_t count) {
    ferrum_tensor t = *whole;
    if (!t.buffer) return t;
    bool is_vector = t.rows == 1;
    t.offset += first * (is_vector ? sizeof(float) : t.row_stride);
    *(is_vector ? &t.cols : &t.rows) = count;
    t.slice_stride = t.rows * t.row_stride;
    return t;
}

static bool has(const binder *b, uint32_t layer, const char *name) {
    char full[64];
    snprintf(full, sizeof full, "blk.%u.%s", layer, name);
    return ferrum_gguf_find_tensor(b->model->gguf, full) != NULL;
}

/* Each a tensor of its own, or all of them, one behind the other, in one. */
static void bind_qkv(binder *b, uint32_t i, fe_layer *l) {
    const fe_hparams *h = &b->model->h;
    size_t q = (size_t)h->heads * h->head_dim, kv = (size_t)h->kv_heads * h->head_dim;
    int bias = b->model->arch->qkv_bias ? 0 : OPTIONAL;
    if (has(b, i, "attn_qkv.weight")) {
        ferrum_tensor all = matrix(b, i, "attn_qkv.weight", q + 2 * kv, h->width);
        ferrum_tensor all_bias = vector(b, i, "attn_qkv.bias", q + 2 * kv, bias);
        l->q = part(&all, 0, q);
        l->k = part(&all, q, kv);
        l->v = part(&all, q + kv, kv);
        l->q_bias = part(&all_bias, 0, q);
        l->k_bias = part(&all_bias, q, kv);
        l->v_bias = part(&all_bias, q + kv, kv);
        return;
    }
    l->q = matrix(b, i, "attn_q.weight", q, h->width);
    l->k = matrix(b, i, "attn_k.weight", kv, h->width);
    l->v = matrix(b, i, "attn_v.weight", kv, h->width);
    l->q_bias = vector(b, i, "attn_q.bias", q, bias);
    l->k_bias = vector(b, i, "attn_k.bias", kv, bias);
    l->v_bias = vector(b, i, "attn_v.bias", kv, bias);
}

static void bind_attention(binder *b, uint32_t i, fe_layer *l) {
    const fe_hparams *h = &b->model->h;
    const fe_arch *arch = b->model->arch;
    size_t q = (size_t)h->heads * h->head_dim, kv = (size_t)h->kv_heads * h->head_dim;
    if (arch->norms != FE_NORMS_BEHIND) l->attn_norm = vector(b, i, "attn_norm.weight", h->width, 0);
    bind_qkv(b, i, l);
    if (arch->qk_norm) {
        bool rows = arch->qk_norm == FE_NORM_ROWS;
        l->q_norm = vector(b, i, "attn_q_norm.weight", rows ? q : h->head_dim, 0);
        l->k_norm = vector(b, i, "attn_k_norm.weight", rows ? kv : h->head_dim, 0);
    }
    l->attn_out = matrix(b, i, "attn_output.weight", h->width, q);
    l->attn_out_bias = vector(b, i, "attn_output.bias", h->width, OPTIONAL);
    if (arch->norms != FE_NORMS_BEFORE) l->attn_post_norm = vector(b, i, "post_attention_norm.weight", h->width, 0);
}

static void bind_experts(binder *b, uint32_t i, fe_layer *l) {
    const fe_hparams *h = &b->model->h;
    l->router = matrix(b, i, "ffn_gate_inp.weight", h->experts, h->width);
    l->gate_experts = layer_stack(b, i, "ffn_gate_exps.weight", h->experts, h->expert_ffn, h->width, 0);
    l->up_experts = layer_stack(b, i, "ffn_up_exps.weight", h->experts, h->expert_ffn, h->width, 0);
    l->down_experts = layer_stack(b, i, "ffn_down_exps.weight", h->experts, h->width, h->expert_ffn, 0);
    if (h->shared_ffn == 0) return;
    l->shared_router = matrix(b, i, "ffn_gate_inp_shexp.weight", 1, h->width);
    l->shared_gate = matrix(b, i, "ffn_gate_shexp.weight", h->shared_ffn, h->width);
    l->shared_up = matrix(b, i, "ffn_up_shexp.weight", h->shared_ffn, h->width);
    l->shared_down = matrix(b, i, "ffn_down_shexp.weight", h->width, h->shared_ffn);
}

static void bind_dense(binder *b, uint32_t i, fe_layer *l) {
    const fe_hparams *h = &b->model->h;
    if (b->model->arch->gate_in_up) {
        ferrum_tensor both = matrix(b, i, "ffn_up.weight", 2 * (size_t)h->ffn, h->width);
        l->gate = part(&both, 0, h->ffn);
        l->up = part(&both, h->ffn, h->ffn);
    } else {
        l->gate = matrix(b, i, "ffn_gate.weight", h->ffn, h->width);
        l->up = matrix(b, i, "ffn_up.weight", h->ffn, h->width);
        l->gate_bias = vector(b, i, "ffn_gate.bias", h->ffn, OPTIONAL);
        l->up_bias = vector(b, i, "ffn_up.bias", h->ffn, OPTIONAL);
    }
    l->down = matrix(b, i, "ffn_down.weight", h->width, h->ffn);
    l->down_bias = vector(b, i, "ffn_down.bias", h->width, OPTIONAL);
}

static bool is_local(const fe_hparams *h, uint32_t i) {
    if (h->window == 0) return false;
    if (h->window_pattern) return h->window_pattern[i] != 0;
    return h->window_period == 0 || (i + 1) % h->window_period != 0;
}

static void bind_layer(binder *b, uint32_t i) {
    const fe_hparams *h = &b->model->h;
    const fe_arch *arch = b->model->arch;
    fe_layer *l = &b->w->layers[i];
    l->local = is_local(h, i);
    l->turned = arch->nope_period == 0 || (i + 1) % arch->nope_period != 0;
    bind_attention(b, i, l);
    if (arch->norms != FE_NORMS_BEHIND) l->ffn_norm = vector(b, i, "ffn_norm.weight", h->width, 0);
    if (h->experts)
        bind_experts(b, i, l);
    else
        bind_dense(b, i, l);
    if (arch->norms != FE_NORMS_BEFORE) l->ffn_post_norm = vector(b, i, "post_ffw_norm.weight", h->width, 0);
}

/* ---- RoPE's factors ---- */

static const float *elements(const ferrum_tensor *t) {
    return (const float *)((const char *)ferrum_buffer_data(t->buffer) + t->offset);
}

/* Factors divide: none may be zero, negative or no number. */
static ferrum_tensor bind_factors(binder *b, const char *name, int flags) {
    ferrum_tensor t = bind(b, name, 1, 1, b->model->h.rope_dims / 2, VECTOR | flags);
    for (size_t i = 0; !b->rc && t.buffer && i < t.cols; i++) {
        float f = elements(&t)[i];
        if (!(f > 0 && f < 1e30f))
            b->rc = fe_fail(b->err, FERRUM_EFORMAT, "%s: element %zu of %s is %g; it must be a number above 0",
                            ferrum_gguf_path(b->model->gguf), i, name, (double)f);
    }
    return t;
}

/* The pair, counted from 0, that turns so many times in the original context. */
static double pair_of(const fe_hparams *h, double turns) {
    const double two_pi = 6.283185307179586;
    return h->rope_dims * log(h->rope.original / (turns * two_pi)) / (2 * log((double)h->rope_base));
}

/* YaRN (arXiv:2309.00071, 3.2): pairs that turn often keep their angles, those that turn seldom are scaled, between them both are
 * mixed. As factors, on top of the file's own where it has some. */
static void make_yarn_factors(binder *b, ferrum_tensor *factors) {
    const fe_hparams *h = &b->model->h;
    size_t count = h->rope_dims / 2;
    ferrum_tensor own = *factors;
    if (b->rc) return;
    b->rc = ferrum_buffer_new(&b->w->rope_buffer, b->model->device, count * sizeof(float), b->err);
    if (b->rc) return;
    float *out = ferrum_buffer_data(b->w->rope_buffer);
    double low = fmax(floor(pair_of(h, h->rope.beta_fast)), 0);
    double high = fmin(ceil(pair_of(h, h->rope.beta_slow)), h->rope_dims - 1.0);
    if (low == high) high += 0.001;
    for (size_t j = 0; j < count; j++) {
        double scaled = fmin(fmax(((double)j - low) / (high - low), 0), 1);
        double rate = scaled / h->rope.factor + 1 - scaled;
        out[j] = (float)((own.buffer ? elements(&own)[j] : 1) / rate);
    }
    *factors = ferrum_tensor_view(b->w->rope_buffer, 0, FERRUM_F32, 1, count);
}

static void bind_rope(binder *b) {
    ferrum_tensor *factors = b->w->rope_factors;
    if (b->model->h.rope.kind == FE_ROPE_LONG) {
        factors[0] = bind_factors(b, "rope_factors_short.weight", 0);
        factors[1] = bind_factors(b, "rope_factors_long.weight", 0);
        return;
    }
    factors[0] = bind_factors(b, "rope_freqs.weight", OPTIONAL);
    if (b->model->h.rope.kind == FE_ROPE_YARN) make_yarn_factors(b, &factors[0]);
}

static void bind_encoder_layer(binder *b, uint32_t i) {
    const fe_hparams *h = &b->model->h;
    fe_layer *l = &b->w->layers[i];
    bind_qkv(b, i, l);
    l->attn_out = matrix(b, i, "attn_output.weight", h->width, (size_t)h->heads * h->head_dim);
    l->attn_out_bias = vector(b, i, "attn_output.bias", h->width, 0);
    l->attn_post_norm = vector(b, i, "attn_output_norm.weight", h->width, 0);
    l->attn_post_norm_bias = vector(b, i, "attn_output_norm.bias", h->width, 0);
    l->up = matrix(b, i, "ffn_up.weight", h->ffn, h->width);
    l->up_bias = vector(b, i, "ffn_up.bias", h->ffn, 0);
    l->down = matrix(b, i, "ffn_down.weight", h->width, h->ffn);
    l->down_bias = vector(b, i, "ffn_down.bias", h->width, 0);
    l->ffn_post_norm = vector(b, i, "layer_output_norm.weight", h->width, 0);
    l->ffn_post_norm_bias = vector(b, i, "layer_output_norm.bias", h->width, 0);
}

/* As many types as the file has; a text has the first. */
static void bind_encoder(binder *b) {
    const fe_hparams *h = &b->model->h;
    const ferrum_gguf_tensor *types = ferrum_gguf_find_tensor(b->model->gguf, "token_types.weight");
    b->w->token_types = bind(b, "token_types.weight", 1, types ? types->shape[1] : 1, h->width, 0);
    b->w->positions = bind(b, "position_embd.weight", 1, h->context_length, h->width, 0);
    b->w->embedding_norm = bind(b, "token_embd_norm.weight", 1, 1, h->width, VECTOR);
    b->w->embedding_norm_bias = bind(b, "token_embd_norm.bias", 1, 1, h->width, VECTOR);
}

static void bind_decoder(binder *b) {
    const fe_hparams *h = &b->model->h;
    b->w->output_norm = bind(b, "output_norm.weight", 1, 1, h->width, VECTOR);
    b->w->output = bind(b, "output.weight", 1, h->vocab, h->width, OPTIONAL);
    bind_rope(b);
}

int fe_weights_bind(fe_weights *w, const ferrum_model *model, ferrum_error *err) {
    binder b = {model, w, err, 0};
    const fe_hparams *h = &model->h;
    w->embedding = bind(&b, "token_embd.weight", 1, h->vocab, h->width, 0);
    bool encoder = model->arch->encoder;
    (encoder ? bind_encoder : bind_decoder)(&b);
    if (!w->output.buffer) w->output = w->embedding; /* tied */
    if (b.rc) return b.rc;
    w->layers = fe_alloc(h->layers, sizeof *w->layers);
    if (!w->layers) return fe_fail_memory(err, h->layers * sizeof *w->layers, "the layers' tensors");
    for (uint32_t i = 0; i < h->layers && !b.rc; i++) (encoder ? bind_encoder_layer : bind_layer)(&b, i);
    return b.rc;
}

void fe_weights_free(fe_weights *w) {
    ferrum_buffer_free(w->rope_buffer);
    free(w->layers);
}

static bool tied(const fe_weights *w) {
    return w->output.buffer == w->embedding.buffer && w->output.offset == w->embedding.offset;
}

uint64_t fe_weights_token_bytes(const ferrum_model *model) {
    const fe_hparams *h = &model->h;
    const fe_weights *w = &model->w;
    uint64_t bytes = w->bytes;
    if (!tied(w)) bytes -= w->embedding.slice_stride;
    for (uint32_t i = 0; i < h->layers && h->experts; i++) {
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
